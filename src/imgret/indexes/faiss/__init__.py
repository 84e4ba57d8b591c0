"""Indexes built on Faiss, and the only module that imports it.

Faiss accepts NaN and duplicate ids in silence, and labels its answers by row (flat, HNSW)
or by given id (inverted files). The adapters know what each of its index types can do and
leave the checks to `VectorIndex`.

Reference: M. Douze et al., "The Faiss library", 2024, https://arxiv.org/abs/2401.08281.
"""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

with warnings.catch_warnings():
    # Releases before 1.14 or so warn on import, and where warnings are errors they crash instead.
    warnings.filterwarnings("ignore", "builtin type", DeprecationWarning)
    import faiss as _faiss

if TYPE_CHECKING:
    from imgret.indexes.faiss.factory import FactoryIndex
    from imgret.indexes.faiss.flat import FlatIndex
    from imgret.indexes.faiss.hnsw import HNSWIndex, HNSWSQ8Index
    from imgret.indexes.faiss.ivf import IVFIndex, IVFPQIndex

__all__ = [
    "FactoryIndex",
    "FlatIndex",
    "HNSWIndex",
    "HNSWSQ8Index",
    "IVFIndex",
    "IVFPQIndex",
]

# What the modules beside this one use; the types Faiss declares miss half of it.
faiss: Any = _faiss

# GNU's OpenMP waits for threads that a forked child does not have, but asks for none where it is
# to use one. That holds for the thread that forked; others, started in the child, have their own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: faiss.omp_set_num_threads(1))

_HOMES = {
    "FactoryIndex": "factory",
    "FlatIndex": "flat",
    "HNSWIndex": "hnsw",
    "HNSWSQ8Index": "hnsw",
    "IVFIndex": "ivf",
    "IVFPQIndex": "ivf",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
