"""Base classes of the parts that a Retriever is composed of.

A part implements the hooks (the methods whose names begin with an underscore) and the few
abstract properties. The public methods are final: they check arguments and results, and call
the hooks. ``imgret.testing`` has a test suite for each base class.
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
