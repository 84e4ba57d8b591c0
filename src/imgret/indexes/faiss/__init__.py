"""Indexes built on Faiss, and the only module that imports it.

Faiss silently accepts NaN and duplicate ids, and labels its results by row (flat, HNSW) or by
the given id (inverted files). The adapters know what each Faiss index type supports and leave
the checks to `VectorIndex`.

Reference: M. Douze et al., "The Faiss library", 2024, https://arxiv.org/abs/2401.08281.
"""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

with warnings.catch_warnings():
    # Releases before about 1.14 warn on import, and crash if warnings are errors.
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

# For the other modules of this package. Typed as Any, as Faiss's own types are incomplete.
faiss: Any = _faiss


def _after_fork() -> None:
    """Let Faiss wait for nothing in a forked child that only a thread of the parent would end.

    GNU's OpenMP waits for threads that no longer exist, unless it is set to use only one. This
    concerns the thread that forked; threads started in the child have their own pool. And while
    Faiss builds, it looks for Ctrl-C with a mutex locked, and a thread that did so at the fork has
    left it locked in the child. Without its callback, Faiss locks nothing.
    """
    faiss.omp_set_num_threads(1)
    faiss.InterruptCallback.clear_instance()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

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
