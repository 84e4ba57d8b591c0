"""Re-ranking by diffusion: scores that spread over the graph of neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from imgret.abc.reranker import Asked, Reranker, Searched, one_by_one
from imgret.errors import InvalidInputError
from imgret.rerank.neighbors import nearest, unit_vectors
from imgret.support.checks import check_count, check_number
from imgret.types import Embeddings, Ids

__all__ = ["Diffusion", "diffuse"]

_BLOCK = 64  # queries solved at once
_EDGES = 2**12  # edges weighed at once
_TOLERANCE = 1e-6


def diffuse(
    queries: Any,
    gallery: Any,
    *,
    k: int = 50,
    k_query: int = 10,
    alpha: float = 0.99,
    gamma: float = 3.0,
    iterations: int = 20,
) -> NDArray[np.float32]:
    """Score every item by how well it is reached from the query over mutual neighbours.

    The graph joins items that are among each other's ``k`` nearest, with the cosine to the power
    ``gamma`` as weight. A query enters at its ``k_query`` nearest items: that is ``y``. The score
    ``f`` is the solution of ``f = alpha * S f + (1 - alpha) * y``, where ``S`` is the matrix of
    the graph, divided on both sides by the square roots of its degrees. The equation is solved by
    conjugate gradients.

    Parameters
    ----------
    queries, gallery : arrays of shape (n, dim) and (m, dim)
    k, k_query : int
    alpha : float
        Share that spreads on, above 0 and below 1.
    gamma : float
        Exponent of the cosines, above 0.
    iterations : int
        Maximum number of iterations of conjugate gradients.

    Returns
    -------
    float32 array of shape (n, m)
        Scores; higher is better. They are 0 where nothing arrives, and at least 0 except for the
        remaining error of the solution.

    Raises
    ------
    InvalidInputError
        Shapes do not agree, or a number is out of its range.

    References
    ----------
    A. Iscen et al., "Efficient Diffusion on Region Manifolds: Recovering Small Objects with
    Compact CNN Representations", 2017.
    """
    queries = unit_vectors(queries, "queries")
    gallery = unit_vectors(gallery, "gallery", queries.shape[1])
    _check(k, k_query, alpha, gamma, iterations)
    rows, _ = nearest(gallery, gallery, min(k + 1, len(gallery)))
    graph = _graph(gallery, rows, gamma)
    scores = np.zeros((len(queries), len(gallery)), dtype=np.float32)
    entries, cosines = nearest(queries, gallery, k_query)
    for start in range(0, len(queries), _BLOCK):
        some = slice(start, start + _BLOCK)
        entry = np.zeros((len(entries[some]), len(gallery)))
        strength = np.maximum(cosines[some], 0).astype(np.float64) ** gamma
        np.put_along_axis(entry, entries[some], strength, axis=1)
        scores[some] = _spread(graph, entry, alpha, iterations)
    return scores


@final
@dataclass(frozen=True)
class Diffusion(Reranker):
    """Rank candidates by how well they are reached from the query over mutual neighbours.

    Does what `diffuse` does, on a graph of the candidates alone: the truncation of the paper.
    Candidates are joined if they are among each other's ``k`` nearest in the whole gallery. That
    takes one more search, with as many queries as there are candidates. `Hit.score` is what
    arrives, 0 or more. Candidates that nothing reaches come last, in their old order.

    Parameters
    ----------
    candidates : int
        Number of nearest items of the query that are re-ranked.
    k, k_query, alpha, gamma, iterations
        As for `diffuse`. The default of ``alpha`` is lower than there, because scores that spread
        far fill a small graph evenly.

    Raises
    ------
    InvalidInputError
        A number is out of its range.

    References
    ----------
    As for `diffuse`.
    """

    name: ClassVar[str] = "diffusion"

    candidates: int = 200
    k: int = 30
    k_query: int = 10
    alpha: float = 0.9
    gamma: float = 3.0
    iterations: int = 20

    def __post_init__(self) -> None:
        check_count(self.candidates, "candidates")
        _check(self.k, self.k_query, self.alpha, self.gamma, self.iterations)

    def _rank(self, asked: Asked, k: int, searched: Searched) -> Asked:
        def rank(
            query: Embeddings,
            ids: Ids,
            scores: NDArray[np.float32],  # noqa: ARG001  # cosines are computed again
        ) -> tuple[Ids, NDArray[np.float32]]:
            vectors = searched.read(ids)
            near = searched.search(vectors, self.k + 1).ids
            vectors = unit_vectors(vectors, "items")
            graph = _graph(vectors, _places(near, ids), self.gamma)
            entry = np.zeros((1, len(ids)))
            cosines = np.vecdot(vectors[: self.k_query], unit_vectors(query, "query"))
            entry[0, : self.k_query] = np.maximum(cosines, 0).astype(np.float64) ** self.gamma
            arrived = np.maximum(_spread(graph, entry, self.alpha, self.iterations)[0], 0)
            result = arrived.astype(np.float32)
            order = np.argsort(-result, kind="stable")  # ties keep their order
            return ids[order], result[order]

        return one_by_one(asked, k, rank)


class _Edges(NamedTuple):
    """Edges between mutual neighbours, each both ways, with scaled weights."""

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float64]


def _check(k: int, k_query: int, alpha: float, gamma: float, iterations: int) -> None:
    for name, value in (("k", k), ("k_query", k_query), ("iterations", iterations)):
        check_count(value, name)
    if check_number(alpha, "alpha", above=0, at_most=1) == 1:
        raise InvalidInputError("alpha: expected a number over 0 and below 1, found 1")
    check_number(gamma, "gamma", above=0, at_most=1e3)


def _places(near: Ids, ids: Ids) -> NDArray[np.int64]:
    """Return the position in ``ids`` of each neighbour, -1 if it is not there."""
    order = np.argsort(ids)
    places = order[np.minimum(np.searchsorted(ids, near, sorter=order), len(ids) - 1)]
    found: NDArray[np.int64] = np.where(ids[places] == near, places, -1)
    return found


def _graph(vectors: Embeddings, rows: NDArray[np.int64], gamma: float) -> _Edges:
    """Join mutual neighbours, given the rows of each item's nearest; -1 means none."""
    n = len(vectors)
    sources, targets = np.repeat(np.arange(n), rows.shape[1]), rows.ravel()
    edge = (targets >= 0) & (sources != targets)
    sources, targets = sources[edge], targets[edge]
    mutual = np.isin(sources * n + targets, targets * n + sources)
    sources, targets = sources[mutual], targets[mutual]
    weights = np.empty(len(sources))
    for start in range(0, len(sources), _EDGES):
        some = slice(start, start + _EDGES)
        weights[some] = np.einsum("ed,ed->e", vectors[sources[some]], vectors[targets[some]])
    weights = np.maximum(weights, 0) ** gamma
    edge = weights > 0
    sources, targets, weights = sources[edge], targets[edge], weights[edge]
    degree = np.bincount(sources, weights=weights, minlength=n)
    return _Edges(sources, targets, weights / np.sqrt(degree[sources] * degree[targets]))


def _spread(
    graph: _Edges, entry: NDArray[np.float64], alpha: float, iterations: int
) -> NDArray[np.float64]:
    """Return what arrives at each of m items from each of n queries: shape (n, m)."""

    def apply(f: NDArray[np.float64]) -> NDArray[np.float64]:
        spread = np.empty_like(f)
        for column in range(f.shape[1]):
            spread[:, column] = np.bincount(
                graph.sources, weights=graph.weights * f[graph.targets, column], minlength=len(f)
            )
        return f - alpha * spread

    arrived: NDArray[np.float64] = (1 - alpha) * _solved(apply, entry.T, iterations).T
    return arrived


def _solved(apply: Any, y: NDArray[np.float64], iterations: int) -> NDArray[np.float64]:
    """Solve for every column of y at once by conjugate gradients."""
    x = np.zeros_like(y)
    residual = y.copy()
    direction = residual.copy()
    size = (residual**2).sum(axis=0)
    first = np.maximum(size, 1e-300)
    for _ in range(iterations):
        if (size <= _TOLERANCE**2 * first).all():
            break
        applied = apply(direction)
        step = size / np.maximum((direction * applied).sum(axis=0), 1e-300)
        x += step * direction
        residual -= step * applied
        new = (residual**2).sum(axis=0)
        direction = residual + new / np.maximum(size, 1e-300) * direction
        size = new
    return x
