"""Vector indexes: exact, flat, HNSW, inverted file, or anything Faiss can describe.

================ ================== ========= ======== =======================================
class            registered as      training  removal  suits
================ ================== ========= ======== =======================================
`ExactIndex`     ``exact``          no        yes      tests; the reference for other indexes
`FlatIndex`      ``flat``           no        yes      up to about 100,000 vectors, always exact
`HNSWIndex`      ``hnsw``           no        yes      fast search where all vectors fit in memory
`IVFIndex`       ``ivf``            yes       yes      millions of vectors; quick to build
`HNSWSQ8Index`   ``hnsw-sq8``       yes       yes      the fastest; a graph over 8-bit values
`IVFPQIndex`     ``ivf-pq``         yes       yes      the smallest; tens of millions of vectors
`FactoryIndex`   ``faiss:<string>`` depends   depends  any other index, mostly compressed ones
================ ================== ========= ======== =======================================

`choose` picks one for a given number of vectors. Faiss is imported only when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgret.indexes.auto import Choice, choose
    from imgret.indexes.exact import ExactIndex
    from imgret.indexes.faiss import (
        FactoryIndex,
        FlatIndex,
        HNSWIndex,
        HNSWSQ8Index,
        IVFIndex,
        IVFPQIndex,
    )

__all__ = [
    "Choice",
    "ExactIndex",
    "FactoryIndex",
    "FlatIndex",
    "HNSWIndex",
    "HNSWSQ8Index",
    "IVFIndex",
    "IVFPQIndex",
    "choose",
]

_HOMES = {
    "Choice": "imgret.indexes.auto",
    "ExactIndex": "imgret.indexes.exact",
    "FactoryIndex": "imgret.indexes.faiss",
    "FlatIndex": "imgret.indexes.faiss",
    "HNSWIndex": "imgret.indexes.faiss",
    "HNSWSQ8Index": "imgret.indexes.faiss",
    "IVFIndex": "imgret.indexes.faiss",
    "IVFPQIndex": "imgret.indexes.faiss",
    "choose": "imgret.indexes.auto",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
