"""Items that have nothing like them near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgret.abc.checks import check_count
from imgret.overview.asking import Search, nearest_others
from imgret.storage import Store
from imgret.types import Embeddings

__all__ = ["Outlier", "find_outliers"]


@dataclass(frozen=True, slots=True)
class Outlier:
    """An item, and how like it its nearest others are.

    Attributes
    ----------
    key : str
    score : float
        Mean score of its nearest others; the lower, the more it stands alone.
    """

    key: str
    score: float


def find_outliers(store: Store, search: Search, *, k: int, n: int) -> list[Outlier]:
    """Rank items by the mean score of their nearest others.

    Parameters
    ----------
    store : Store
        Not to be changed meanwhile.
    search : callable
        Embeddings and ``k`` -> neighbours.
    k, n : int
        As for `Retriever.outliers`.
    """
    k, n = check_count(k, "k"), check_count(n, "n")
    ids = store.catalog.live_ids()
    k = min(k, len(ids) - 1)
    if not k:
        return []
    means: Embeddings = np.empty(len(ids), dtype=np.float32)
    for part, _, scores in nearest_others(store, search, ids, k):
        means[part] = scores.mean(axis=1)
    least = np.argsort(means, kind="stable")[:n]
    items = store.catalog.items(ids[least])
    return [
        Outlier(items[id_].key, score)
        for id_, score in zip(ids[least].tolist(), means[least].tolist(), strict=True)
    ]
