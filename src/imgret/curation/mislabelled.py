"""Items whose neighbours have a different label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.images import MAX_PIXELS
from imgret.pages.curation import PageItems, Section, sections
from imgret.pages.result import ResultList
from imgret.search import View
from imgret.support.checks import check_count, check_number
from imgret.types import Embeddings, Ids, Json

__all__ = ["LabelIssue", "LabelIssues", "find_mislabelled"]

_SHOWN, _NEIGHBORS = 25, 5  # what a page shows: issues, and neighbours of each
_MOST = 200  # issues whose images can be shown, as parts of the list

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """An item that may have the wrong label.

    Attributes
    ----------
    key : str
    label : str
        Label of the item.
    suggested : str
        Label of its neighbours.
    confidence : float
        Share of the vote for the suggested label minus that for its own, above 0 and at most 1.
    """

    key: str
    label: str
    suggested: str
    confidence: float


@final
class LabelIssues(ResultList[LabelIssue]):
    """List of `LabelIssue` that a notebook shows by their images, beside their neighbours.

    Parameters
    ----------
    issues : iterable of LabelIssue
    neighbors : mapping of str to sequence of str
        Keys of the nearest neighbours of an item, by its key.
    page_items : PageItems
        Items that a page may show.
    """

    __slots__ = ("_neighbors", "_page_items")

    def __init__(
        self,
        issues: Iterable[LabelIssue],
        neighbors: Mapping[str, tuple[str, ...]],
        page_items: PageItems,
    ) -> None:
        super().__init__(issues)
        self._neighbors, self._page_items = neighbors, page_items

    def to_dict(self) -> Json:
        """Return the issues as JSON values."""
        return {"issues": [asdict(issue) for issue in self]}

    def _frame(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        names = ("key", "label", "suggested", "confidence")
        return names, [tuple(asdict(issue).values()) for issue in self]

    def __str__(self) -> str:
        return "\n".join(
            f"{issue.key}: {issue.label}, or {issue.suggested}? {issue.confidence:.2f}"
            for issue in self
        )

    def _like(self, entries: list[LabelIssue]) -> LabelIssues:
        return LabelIssues(entries, self._neighbors, self._page_items)

    def _body(self) -> str:
        rows = []
        for issue in self[:_SHOWN]:
            near = self._neighbors.get(issue.key, ())
            rows.append(
                Section(
                    f"{issue.label}, or {issue.suggested}? {issue.confidence:.2f}",
                    [issue.key, *near],
                    first="item",
                )
            )
        summary = f"{len(self)} labels that may be wrong, each beside its nearest neighbours"
        hidden = f"and {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""
        return sections(summary, rows, self._page_items, hidden=hidden)


def find_mislabelled(
    view: View, *, k: int = 20, threshold: float = 0.5, max_pixels: int = MAX_PIXELS
) -> LabelIssues:
    """Let the neighbours of every labelled item vote for its label, without the item itself.

    Parameters
    ----------
    view : View
    k, threshold
        As for `Retriever.mislabelled`.
    max_pixels : int
        As for `Retriever`.
    """
    k = check_count(k, "k")
    threshold = check_number(threshold, "threshold", at_least=0, at_most=1)
    ids, codes, names = view.labels
    if len(names) < 2:
        raise InvalidInputError(
            f"labels: expected at least 2 different ones, found {len(names)} on {len(ids)} of the "
            f"gallery's {len(view)} items; label more items first"
        )
    rivals: Ids = np.empty(len(ids), dtype=np.int64)
    margins: Floats = np.empty(len(ids))
    for part, near in view.labelled().nearest_others(ids, min(k, len(ids) - 1)):
        places = np.searchsorted(ids, near.ids)
        rivals[part], margins[part] = _vote(codes[places], near.scores, codes[part])
    # An item that is alone in its class cannot get a vote for its own label.
    alone = np.bincount(codes)[codes] == 1
    found = np.flatnonzero((margins > 0) & (margins >= threshold) & ~alone)
    found = found[np.argsort(-margins[found], kind="stable")]
    issues = [
        LabelIssue(item.key, names[own], names[rival], margin)
        for item, own, rival, margin in zip(
            view.items(ids[found]),
            codes[found].tolist(),
            rivals[found].tolist(),
            margins[found].tolist(),
            strict=True,
        )
    ]
    neighbors, page_items = _shown(view, ids[found[:_MOST]], max_pixels)
    return LabelIssues(issues, neighbors, page_items)


def _shown(view: View, ids: Ids, max_pixels: int) -> tuple[dict[str, tuple[str, ...]], PageItems]:
    """Return the nearest labelled neighbours of some items by key, and the images of all."""
    ids = np.sort(ids)
    near = [
        row[row >= 0].tolist()
        for _, found in view.labelled().nearest_others(
            ids, min(_NEIGHBORS, len(view.labels.ids) - 1)
        )
        for row in found.ids
    ]
    wanted = np.unique(np.array([*ids.tolist(), *(id_ for row in near for id_ in row)], np.int64))
    items = dict(zip(wanted.tolist(), view.items(wanted), strict=True))
    neighbors = {
        items[id_].key: tuple(items[other].key for other in row)
        for id_, row in zip(ids.tolist(), near, strict=True)
    }
    return neighbors, PageItems.of(items.values(), max_pixels)


def _vote(codes: Ids, scores: Embeddings, own: Ids) -> tuple[Ids, Floats]:
    """Return the label with the most votes except the item's own, and by how much it leads.

    Parameters
    ----------
    codes, scores : arrays of shape (n, k)
        Labels and scores of the neighbours, best first.
    own : int64 array of shape (n,)
        Label of each item.

    Returns
    -------
    rivals : int64 array of shape (n,)
        Leading labels; arbitrary if only the item's own label has votes.
    margins : float64 array of shape (n,)
        Differences between the shares of the vote, -1 to 1.
    """
    above = scores.astype(np.float64) - scores[:, -1:]
    span = above[:, :1]
    # Dudani's rule: the nearest neighbour has weight 1, the farthest weight 0.
    weights = np.where(span > 0, above / np.where(span > 0, span, 1), 1)
    shares = weights / weights.sum(axis=1, keepdims=True)
    # One number per row and label.
    rows = np.arange(len(codes))
    _, label = np.unique(codes + rows[:, None] * (codes.max() + 1), return_inverse=True)
    label = label.reshape(codes.shape)
    totals = np.bincount(label.ravel(), shares.ravel())[label]
    theirs = codes != own[:, None]
    rival = np.where(theirs, totals, -1.0).argmax(axis=1)
    for_rival = np.where(theirs[rows, rival], totals[rows, rival], 0.0)
    for_own = (shares * ~theirs).sum(axis=1)
    return codes[rows, rival], np.clip(for_rival - for_own, -1, 1)
