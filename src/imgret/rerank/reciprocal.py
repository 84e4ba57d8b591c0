"""Re-ranking by shared neighbours: k-reciprocal encoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from imgret.abc.reranker import Asked, Reranker, Searched, one_by_one
from imgret.rerank.neighbors import nearest, unit_vectors
from imgret.support.checks import check_count, check_number
from imgret.types import Embeddings, Ids

__all__ = ["KReciprocal", "Neighbourhoods", "k_reciprocal"]

# One item's neighbourhood: rows of the gallery, and weights that add up to 1.
_Sparse = dict[int, float]


def k_reciprocal(
    queries: Any,
    gallery: Any,
    *,
    candidates: int = 100,
    k1: int = 20,
    k2: int = 6,
    lam: float = 0.3,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rank the nearest items of each query by the neighbours they share with it.

    Two images are reciprocal neighbours if each is among the other's ``k1`` nearest. An image's
    neighbourhood is its reciprocal neighbours and theirs, each weighted by ``exp(-distance)``,
    averaged over its ``k2`` nearest. Neighbourhoods are compared by the Jaccard distance. This is
    mixed with the distance itself, which is one minus the cosine.

    Parameters
    ----------
    queries, gallery : arrays of shape (n, dim) and (m, dim)
        Embeddings. Each query is ranked by itself: other queries are never neighbours of it or of
        the items.
    candidates : int
        Number of nearest items of a query that are re-ranked.
    k1, k2 : int
    lam : float
        Weight of the distance itself, 0 to 1; the Jaccard distance has the rest.

    Returns
    -------
    rows : int64 array of shape (n, min(candidates, m))
        Rows of the gallery, best first.
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
    _check(candidates, k1, k2, lam)
    return Neighbourhoods(gallery, k1, k2).rank(queries, candidates=candidates, lam=lam)


@final
@dataclass(frozen=True)
class KReciprocal(Reranker):
    """Rank candidates by the neighbours they share with the query.

    Does what `k_reciprocal` does, in the part of the gallery that matters: the candidates and the
    ``k1`` nearest of each. The index finds these in one more search, with as many queries as
    there are candidates. Neighbourhoods are cut off only at the edge of this part, so rankings
    are nearly those of the whole gallery. `Hit.score` is minus the mixed distance: 0 at best.

    Parameters
    ----------
    k1, k2 : int
        As for `k_reciprocal`.
    lam : float
        Weight of the distance itself, 0 to 1; the Jaccard distance has the rest.
    candidates : int
        Number of nearest items of the query that are re-ranked.

    Raises
    ------
    InvalidInputError
        A number is out of its range.

    References
    ----------
    As for `k_reciprocal`.
    """

    name: ClassVar[str] = "k-reciprocal"

    k1: int = 20
    k2: int = 6
    lam: float = 0.3
    candidates: int = 100

    def __post_init__(self) -> None:
        _check(self.candidates, self.k1, self.k2, self.lam)

    def _rank(self, asked: Asked, k: int, searched: Searched) -> Asked:
        def rank(
            query: Embeddings,
            ids: Ids,
            scores: NDArray[np.float32],  # noqa: ARG001  # cosines are computed again
        ) -> tuple[Ids, NDArray[np.float32]]:
            near = searched.search(searched.read(ids), self.k1 + 1).ids
            around = np.unique(np.concatenate([ids, near[near >= 0]]))
            known = Neighbourhoods(searched.read(around), self.k1, self.k2)
            order, values = known.rank(query, candidates=len(ids), lam=self.lam)
            return around[order[0]], values[0]

        return one_by_one(asked, k, rank)


class Neighbourhoods:
    """Neighbourhoods of the items of a gallery, each with the item itself, for `k_reciprocal`.

    The neighbourhoods of an item are computed when they are first needed, unless `prepare` has
    done so.

    Parameters
    ----------
    gallery : array of shape (m, dim)
    k1, k2 : int
        As for `k_reciprocal`.

    Raises
    ------
    InvalidInputError
        ``gallery`` is not an array of that shape, or a number is out of its range.
    """

    def __init__(self, gallery: Any, k1: int = 20, k2: int = 6) -> None:
        _check(1, k1, k2, 0.0)
        self._gallery = gallery = unit_vectors(gallery, "gallery")
        self._k1, self._k2 = k1, k2
        rows, cosines = nearest(gallery, gallery, k1 + 1)
        # The lowest cosine with which another image would still be among the k1 nearest.
        self._least = cosines[:, -1] if len(gallery) > k1 else np.full(len(gallery), -np.inf)
        self._near = [row.tolist() for row in rows]
        self._cosines = cosines
        self._reciprocal = _reciprocal(self._near, k1 + 1)
        self._narrow = _reciprocal(self._near, max(1, round(k1 / 2)) + 1)
        self._encoded: dict[int, _Sparse] = {}
        self._averaged: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def prepare(self) -> None:
        """Compute the neighbourhoods of all items."""
        for item in range(len(self._gallery)):
            self._average(item)

    def rank(
        self, queries: Any, *, candidates: int = 100, lam: float = 0.3
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Re-rank the nearest items of each query: see `k_reciprocal`.

        Parameters
        ----------
        queries : array of shape (n, dim)
        candidates, lam
            As for `k_reciprocal`.
        """
        _check(candidates, self._k1, self._k2, lam)
        queries = unit_vectors(queries, "queries", self._gallery.shape[1])
        rows, cosines = nearest(queries, self._gallery, max(candidates, self._k1))
        kept = min(candidates, rows.shape[1])
        order = np.empty((len(queries), kept), dtype=np.int64)
        scores = np.empty((len(queries), kept), dtype=np.float32)
        dense = np.zeros(len(self._gallery))
        for n, (near, cosine) in enumerate(zip(rows, cosines, strict=True)):
            own = self._of_query(near, cosine)
            columns = np.fromiter(own, dtype=np.int64, count=len(own))
            dense[columns] = np.fromiter(own.values(), dtype=np.float64, count=len(own))
            some = near[:kept]
            shared = np.array([self._shared(item, dense) for item in some.tolist()])
            dense[columns] = 0
            mixed = (1 - lam) * (1 - shared / (2 - shared)) + lam * (1 - cosine[:kept])
            mixed = mixed.astype(np.float32)
            best = np.argsort(mixed, kind="stable")
            order[n], scores[n] = some[best], -mixed[best]
        return order, scores

    def _of_query(self, near: NDArray[np.int64], cosines: NDArray[np.float32]) -> _Sparse:
        """Return the neighbourhood of a query with these nearest items."""
        first, values = near[: self._k1], cosines[: self._k1]
        mutual = first[values >= self._least[first]].tolist()
        members = self._widened(set(mutual))
        known = dict(zip(near.tolist(), cosines.tolist(), strict=True))
        found = {row: known[row] for row in members if row in known}
        own = _weighted(found | {-1: 1.0})  # the query itself, which no item has
        others = [self._encode(row) for row in near[: self._k2 - 1].tolist()]
        mean = _mean([own, *others])
        mean.pop(-1, None)
        return mean

    def _shared(self, item: int, dense: NDArray[np.float64]) -> float:
        """Return how much weight the item's neighbourhood shares with another one."""
        columns, weights = self._average(item)
        return float(np.minimum(weights, dense[columns]).sum())

    def _average(self, item: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the mean neighbourhood of the item's nearest: rows, and their weights."""
        if item not in self._averaged:
            mean = _mean([self._encode(row) for row in self._near[item][: self._k2]])
            self._averaged[item] = (
                np.fromiter(mean, dtype=np.int64, count=len(mean)),
                np.fromiter(mean.values(), dtype=np.float64, count=len(mean)),
            )
        return self._averaged[item]

    def _encode(self, item: int) -> _Sparse:
        """Return the neighbourhood of an item."""
        if item not in self._encoded:
            members = self._widened(self._reciprocal[item])
            known = dict(zip(self._near[item], self._cosines[item].tolist(), strict=True))
            lost = [row for row in members if row not in known]
            if lost:
                cosines = self._gallery[lost] @ self._gallery[item]
                known |= dict(zip(lost, cosines.tolist(), strict=True))
            self._encoded[item] = _weighted({row: known[row] for row in members})
        return self._encoded[item]

    def _widened(self, members: set[int]) -> set[int]:
        """Add each member's narrower neighbourhood if more than two thirds of it are members."""
        wide = set(members)
        for member in members:
            narrow = self._narrow[member]
            if 3 * len(narrow & members) > 2 * len(narrow):
                wide |= narrow
        return wide


def _check(candidates: int, k1: int, k2: int, lam: float) -> None:
    check_count(candidates, "candidates")
    check_count(k1, "k1")
    check_count(k2, "k2")
    check_number(lam, "lam", at_least=0, at_most=1)


def _reciprocal(near: list[list[int]], k: int) -> list[set[int]]:
    """Return, for each item, those of its k nearest that have it among their k nearest."""
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
