"""Ranked anew by shared neighbours: k-reciprocal encoding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.abc.checks import check_count, check_number
from imgret.rerank.neighbors import nearest, unit_vectors

__all__ = ["k_reciprocal"]

# One item's neighbourhood: rows of the gallery, and weights that add up to 1.
_Sparse = dict[int, float]


def k_reciprocal(
    queries: Any,
    gallery: Any,
    *,
    candidates: int = 100,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rank the nearest items of each query by the neighbours they share with it.

    Two are reciprocal where each is among the other's ``k1`` nearest. A picture's neighbourhood
    is its reciprocal neighbours and theirs, each weighted by ``exp(-distance)``, averaged over its
    ``k2`` nearest; neighbourhoods are compared by the Jaccard distance, and that is mixed with the
    distance itself, which is one minus the cosine.

    Parameters
    ----------
    queries, gallery : arrays of shape (n, dim) and (m, dim)
        Each query is looked at by itself: others are no neighbours of it or of the items.
    candidates : int
        Nearest items of a query that are ranked anew.
    k1, k2 : int
    weight : float
        Of the distance itself, 0 to 1; the Jaccard distance has the rest.

    Returns
    -------
    rows : int64 array of shape (n, min(candidates, m))
        Of the gallery, best first.
    scores : float32 array of the same shape
        Minus the mixed distance.

    Raises
    ------
    InvalidInputError
        Shapes do not agree, or a number is out of its range.

    References
    ----------
    Z. Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", 2017.
    """
    queries = unit_vectors(queries, "queries")
    gallery = unit_vectors(gallery, "gallery", queries.shape[1])
    candidates, k1, k2 = (
        check_count(value, name)
        for value, name in ((candidates, "candidates"), (k1, "k1"), (k2, "k2"))
    )
    weight = check_number(weight, "weight", at_least=0, at_most=1)
    known = _Neighbourhoods(gallery, k1, k2)
    rows, cosines = nearest(queries, gallery, max(candidates, k1))
    wanted = min(candidates, rows.shape[1])
    order = np.empty((len(queries), wanted), dtype=np.int64)
    scores = np.empty((len(queries), wanted), dtype=np.float32)
    dense = np.zeros(len(gallery))
    for n, (near, cosine) in enumerate(zip(rows, cosines, strict=True)):
        own = known.of_query(near, cosine)
        columns = np.fromiter(own, dtype=np.int64, count=len(own))
        dense[columns] = np.fromiter(own.values(), dtype=np.float64, count=len(own))
        some = near[:wanted]
        shared = known.shared(some, dense)
        dense[columns] = 0
        mixed = (1 - weight) * (1 - shared / (2 - shared)) + weight * (1 - cosine[:wanted])
        best = np.argsort(mixed, kind="stable")
        order[n], scores[n] = some[best], -mixed[best]
    return order, scores


class _Neighbourhoods:
    """What is near each item of a gallery, itself included."""

    def __init__(self, gallery: NDArray[np.float32], k1: int, k2: int) -> None:
        self._k1, self._k2 = k1, k2
        self._half = max(1, round(k1 / 2))
        rows, cosines = nearest(gallery, gallery, k1 + 1)
        # The least cosine with which another one would still be among the k1 nearest.
        self._least = cosines[:, -1] if len(gallery) > k1 else np.full(len(gallery), -np.inf)
        near = [row.tolist() for row in rows]
        self._reciprocal = _reciprocal(near, k1 + 1)
        self._narrow = _reciprocal(near, self._half + 1)
        likeness = [
            dict(zip(a, b.tolist(), strict=True)) for a, b in zip(near, cosines, strict=True)
        ]
        encoded = []
        for item in range(len(gallery)):
            members = self._widened(self._reciprocal[item])
            known = likeness[item]
            lost = [row for row in members if row not in known]
            if lost:
                known = known | dict(
                    zip(lost, (gallery[lost] @ gallery[item]).tolist(), strict=True)
                )
            encoded.append(_weighted({row: known[row] for row in members}))
        self._encoded = encoded
        averaged = [_mean([encoded[row] for row in row_[: self._k2]]) for row_ in near]
        self._starts = np.cumsum([0, *(len(one) for one in averaged)])
        self._columns = np.array([row for one in averaged for row in one], dtype=np.int64)
        self._weights = np.array([w for one in averaged for w in one.values()])

    def of_query(self, near: NDArray[np.int64], cosines: NDArray[np.float32]) -> _Sparse:
        """Return the neighbourhood of a query with these nearest items."""
        first, values = near[: self._k1], cosines[: self._k1]
        mutual = first[values >= self._least[first]].tolist()
        members = self._widened(set(mutual))
        known = dict(zip(near.tolist(), cosines.tolist(), strict=True))
        found = {row: known[row] for row in members if row in known}
        own = _weighted(found | {-1: 1.0})  # the query itself, which no item has
        others = [self._encoded[row] for row in near[: self._k2 - 1].tolist()]
        mean = _mean([own, *others])
        mean.pop(-1, None)
        return mean

    def shared(self, rows: NDArray[np.int64], dense: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how much weight each item's neighbourhood shares with another one."""
        return np.array(
            [
                np.minimum(
                    self._weights[self._starts[row] : self._starts[row + 1]],
                    dense[self._columns[self._starts[row] : self._starts[row + 1]]],
                ).sum()
                for row in rows.tolist()
            ]
        )

    def _widened(self, members: set[int]) -> set[int]:
        """Add the narrower neighbourhoods of members that lie in it for the most part."""
        wide = set(members)
        for member in members:
            narrow = self._narrow[member]
            if 3 * len(narrow & members) > 2 * len(narrow):
                wide |= narrow
        return wide


def _reciprocal(near: list[list[int]], k: int) -> list[set[int]]:
    """Return, for each item, those of its first k that have it among theirs."""
    first = [set(row[:k]) for row in near]
    return [{row for row in own if item in first[row]} for item, own in enumerate(first)]


def _weighted(cosines: dict[int, float]) -> _Sparse:
    weights = {row: float(np.exp(cosine - 1)) for row, cosine in cosines.items()}
    total = sum(weights.values())
    return {row: weight / total for row, weight in weights.items()}


def _mean(many: list[_Sparse]) -> _Sparse:
    mean: _Sparse = {}
    for one in many:
        for row, weight in one.items():
            mean[row] = mean.get(row, 0.0) + weight / len(many)
    return mean
