"""The contracts: what a part must do to be composed by a Retriever.

A part fills in the hooks (the methods whose names begin with an underscore) and the few
abstract properties; the public methods are final, check what comes in and what goes out,
and call the hooks. ``imgret.testing`` holds a suite for each contract.
"""

from imgret.abc.cropper import Cropper
from imgret.abc.embedder import Embedder
from imgret.abc.gallery import Gallery, Stored
from imgret.abc.index import VectorIndex
from imgret.abc.reranker import Reranker
from imgret.abc.spec import GallerySpec
from imgret.abc.tunable import Tunable
from imgret.support.plan import Plan

__all__ = [
    "Cropper",
    "Embedder",
    "Gallery",
    "GallerySpec",
    "Plan",
    "Reranker",
    "Stored",
    "Tunable",
    "VectorIndex",
]
