"""Image retrieval: index a pile of images, search it by image.

>>> from imgret import Retriever
>>> retriever = Retriever()                        # doctest: +SKIP
>>> retriever.add_folder("photos/")                # doctest: +SKIP
>>> hits = retriever.search("query.jpg", k=6)      # doctest: +SKIP

Importing this package imports nothing else; each name is loaded on first use. What it does is
logged under the name ``imgret``.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from imgret.version import __version__

if TYPE_CHECKING:
    from imgret import datasets, errors, images, registry, testing, types
    from imgret.abc import Cropper, Embedder, VectorIndex
    from imgret.croppers import CenterCrop, NoCrop, SaliencyCropper
    from imgret.embedders import OnnxEmbedder
    from imgret.errors import ImgretError
    from imgret.evaluation import metrics
    from imgret.indexes import ExactIndex, FlatIndex, HNSWIndex, IVFIndex
    from imgret.ingest import IngestReport
    from imgret.retriever import Retriever
    from imgret.search.hits import Hits
    from imgret.types import Hit

__all__ = [
    "CenterCrop",
    "Cropper",
    "Embedder",
    "ExactIndex",
    "FlatIndex",
    "HNSWIndex",
    "Hit",
    "Hits",
    "IVFIndex",
    "ImgretError",
    "IngestReport",
    "NoCrop",
    "OnnxEmbedder",
    "Retriever",
    "SaliencyCropper",
    "VectorIndex",
    "__version__",
    "datasets",
    "errors",
    "images",
    "metrics",
    "registry",
    "testing",
    "types",
]

# As a library should: nothing is printed unless the program asks for it.
logging.getLogger("imgret").addHandler(logging.NullHandler())

_HOMES = {
    "CenterCrop": "imgret.croppers",
    "Cropper": "imgret.abc",
    "Embedder": "imgret.abc",
    "ExactIndex": "imgret.indexes",
    "FlatIndex": "imgret.indexes",
    "HNSWIndex": "imgret.indexes",
    "Hit": "imgret.types",
    "Hits": "imgret.search.hits",
    "IVFIndex": "imgret.indexes",
    "ImgretError": "imgret.errors",
    "IngestReport": "imgret.ingest",
    "NoCrop": "imgret.croppers",
    "OnnxEmbedder": "imgret.embedders",
    "Retriever": "imgret.retriever",
    "SaliencyCropper": "imgret.croppers",
    "VectorIndex": "imgret.abc",
}
_MODULES = {
    "datasets": "imgret.datasets",
    "errors": "imgret.errors",
    "images": "imgret.images",
    "metrics": "imgret.evaluation.metrics",
    "registry": "imgret.registry",
    "testing": "imgret.testing",
    "types": "imgret.types",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'imgret' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
