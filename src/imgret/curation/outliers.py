"""Outliers: items that are unlike even their nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgret.search import View
from imgret.support.checks import check_count
from imgret.types import Embeddings

__all__ = ["Outlier", "find_outliers"]


@dataclass(frozen=True, slots=True)
class Outlier:
    """An item, and how similar its nearest neighbours are.

    Attributes
    ----------
    key : str
    score : float
        Mean score of its nearest neighbours; the lower, the more isolated the item.
    """

    key: str
    score: float


def find_outliers(view: View, *, k: int = 10, n: int = 100) -> list[Outlier]:
    """Rank items by the mean score of their nearest neighbours.

    Parameters
    ----------
    view : View
    k, n : int
        As for `Retriever.outliers`.
    """
    k, n = check_count(k, "k"), check_count(n, "n")
    ids = view.ids
    k = min(k, len(ids) - 1)
    if not k:
        return []
    means: Embeddings = np.empty(len(ids), dtype=np.float32)
    for part, found in view.nearest_others(ids, k):
        means[part] = found.scores.mean(axis=1)
    least = np.argsort(means, kind="stable")[:n]
    return [
        Outlier(item.key, score)
        for item, score in zip(view.items(ids[least]), means[least].tolist(), strict=True)
    ]
