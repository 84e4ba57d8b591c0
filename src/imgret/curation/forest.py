"""Spanning forest of items, joined by their best pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret.types import Embeddings, Ids

__all__ = ["Forest", "joined"]

_BUFFER = 2**20  # pairs held before they are thinned out


class Forest:
    """Maximum spanning forest of ``n`` items, over pairs that are added in pieces.

    Of the pairs added so far, it keeps those that join what no better pairs join. These are at
    most ``n - 1`` (Kruskal, "On the Shortest Spanning Subtree of a Graph", 1956).

    Parameters
    ----------
    n : int
    """

    def __init__(self, n: int) -> None:
        self._n = n
        none = np.empty(0, dtype=np.int64)
        self._pairs: list[tuple[Ids, Ids, Embeddings]] = [(none, none, none.astype(np.float32))]
        self._kept = self._held = 0

    def add(self, a: Ids, b: Ids, scores: Embeddings) -> None:
        """Add pairs: two int64 arrays and a float32 array of shape (m,)."""
        self._pairs.append((a, b, scores))
        self._held += len(scores)
        if self._held > 2 * self._kept + _BUFFER:
            self.pairs()

    def pairs(self) -> tuple[Ids, Ids, Embeddings]:
        """Return the pairs of the forest, best first."""
        if len(self._pairs) == 1:
            return self._pairs[0]
        a, b, scores = (np.concatenate(column) for column in zip(*self._pairs, strict=True))
        order = np.argsort(-scores, kind="stable")
        kept = order[_new_ones(self._n, a[order], b[order])[1]]
        self._pairs = [(a[kept], b[kept], scores[kept])]
        self._kept = self._held = len(kept)
        return self._pairs[0]


def joined(n: int, a: Ids, b: Ids) -> Ids:
    """Return, for each of ``n`` items, the one that represents all items joined with it."""
    return _new_ones(n, a, b)[0]


def _new_ones(n: int, a: Ids, b: Ids) -> tuple[Ids, NDArray[np.bool_]]:
    """Join pairs in order by union-find; also return which pairs joined separate parts."""
    parent = list(range(n))
    new = np.zeros(len(a), dtype=bool)
    for place, pair in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        x, y = pair
        while parent[x] != x:
            parent[x] = x = parent[parent[x]]
        while parent[y] != y:
            parent[y] = y = parent[parent[y]]
        if x != y:
            parent[y] = x
            new[place] = True
    roots = np.array(parent, dtype=np.int64)
    while not np.array_equal(higher := roots[roots], roots):
        roots = higher
    return roots, new
