"""Outliers: items that are unlike even their nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import final

import numpy as np

from imgret.images import MAX_PIXELS
from imgret.pages.curation import PageItems, scored
from imgret.pages.result import ResultList
from imgret.search import View
from imgret.support.checks import check_count
from imgret.support.terminal import plain
from imgret.types import Embeddings, Json

__all__ = ["Outlier", "Outliers", "find_outliers"]

_MOST = 2000  # items whose images can be shown, as parts of the list


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


@final
class Outliers(ResultList[Outlier]):
    """List of `Outlier` that a notebook shows by their images.

    Parameters
    ----------
    outliers : iterable of Outlier
    page_items : PageItems
        Items that a page may show.
    """

    __slots__ = ("_page_items",)

    def __init__(self, outliers: Iterable[Outlier], page_items: PageItems) -> None:
        super().__init__(outliers)
        self._page_items = page_items

    def to_dict(self) -> Json:
        """Return the outliers as JSON values."""
        return {"outliers": [asdict(outlier) for outlier in self]}

    def _frame(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        return ("key", "score"), [(one.key, one.score) for one in self]

    def __str__(self) -> str:
        return "\n".join(f"{outlier.score:.4f}  {plain(outlier.key)}" for outlier in self)

    def _like(self, entries: list[Outlier]) -> Outliers:
        return Outliers(entries, self._page_items)

    def _body(self) -> str:
        summary = f"{len(self)} outliers, the least similar to their nearest neighbours first"
        return scored(summary, self, self._page_items)


def find_outliers(
    view: View, *, k: int = 10, n: int = 100, max_pixels: int = MAX_PIXELS
) -> Outliers:
    """Rank items by the mean score of their nearest neighbours.

    Parameters
    ----------
    view : View
    k, n : int
        As for `Retriever.outliers`.
    max_pixels : int
        As for `Retriever`.
    """
    k, n = check_count(k, "k"), check_count(n, "n")
    ids = view.ids
    k = min(k, len(ids) - 1)
    if not k:
        return Outliers([], PageItems({}))
    means: Embeddings = np.empty(len(ids), dtype=np.float32)
    for part, found in view.nearest_others(ids, k):
        means[part] = found.scores.mean(axis=1)
    least = np.argsort(means, kind="stable")[:n]
    items = list(view.items(ids[least]))
    return Outliers(
        [
            Outlier(item.key, score)
            for item, score in zip(items, means[least].tolist(), strict=True)
        ],
        PageItems.of(items[:_MOST], max_pixels),
    )
