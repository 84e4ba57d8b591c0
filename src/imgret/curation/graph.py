"""The graph of nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgret.search import View
from imgret.support.checks import check_count
from imgret.support.tables import data_frame
from imgret.types import Embeddings, Ids

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NeighborGraph", "build_neighbor_graph"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NeighborGraph:
    """Nearest neighbours of every item.

    Attributes
    ----------
    keys : tuple of str
        Keys of the items, in the order they were added.
    indices : int64 array of shape (n, k)
        Positions in ``keys`` of the nearest neighbours of each item, without itself, best first.
    scores : float32 array of shape (n, k)
        Scores of the neighbours; higher is better.
    """

    keys: tuple[str, ...]
    indices: Ids
    scores: Embeddings

    def __repr__(self) -> str:
        n, k = self.indices.shape
        return f"<NeighborGraph: {k} neighbours of each of {n} items>"

    def edges(self) -> tuple[Ids, Ids, Embeddings]:
        """Return the graph as a list of directed edges.

        Returns
        -------
        sources, targets : int64 arrays of shape (n * k,)
            Positions in ``keys``.
        scores : float32 array of the same shape
        """
        n, k = self.indices.shape
        return np.repeat(np.arange(n), k), self.indices.ravel(), self.scores.ravel()

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with one row per edge: ``key``, ``neighbor``, ``rank``, ``score``.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        sources, targets, scores = (each.tolist() for each in self.edges())
        k = self.indices.shape[1]
        rows = (
            (self.keys[source], self.keys[target], number % k + 1, score)
            for number, (source, target, score) in enumerate(
                zip(sources, targets, scores, strict=True)
            )
        )
        columns = ("key", "neighbor", "rank", "score")
        return data_frame(columns, rows, what="NeighborGraph.to_pandas")


def build_neighbor_graph(
    view: View, *, k: int, step: Callable[[int], object] | None = None
) -> NeighborGraph:
    """Find the nearest neighbours of every item.

    Parameters
    ----------
    view : View
    k : int
        As for `Retriever.neighbor_graph`.
    step : callable, optional
        Function called with the number of items whose neighbours were found since the last call.
    """
    k = check_count(k, "k")
    ids = view.ids
    k = min(k, len(ids) - 1)
    indices: Ids = np.empty((len(ids), k), dtype=np.int64)
    scores: Embeddings = np.empty((len(ids), k), dtype=np.float32)
    for part, found in view.nearest_others(ids, k) if k else ():
        indices[part], scores[part] = np.searchsorted(ids, found.ids), found.scores
        if step is not None:
            step(len(found.ids))
    return NeighborGraph(view.keys(), indices, scores)
