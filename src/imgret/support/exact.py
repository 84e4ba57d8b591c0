"""Exact nearest-neighbour search with NumPy, over vectors in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from imgret.support.metric import DistanceMetric
from imgret.types import Embeddings, Ids, Metric, Neighbors

__all__ = ["best_of", "by_id", "exact_search", "first_of", "pair_scores", "rounding"]

# Values fetched at a time for pairs: half a megabyte, which stays in the cache of a core.
_BLOCK_VALUES = 2**17

# Candidates in addition to the best ``k``, to cover those that score the same.
_SPARE = 8


def exact_search(
    queries: Embeddings,
    blocks: Iterable[tuple[Ids, Embeddings]],
    k: int,
    metric: Metric,
    score: Callable[[Embeddings, Embeddings, Ids], Embeddings] | None = None,
) -> Neighbors:
    """Search every vector of every block.

    Parameters
    ----------
    queries : float32 array of shape (n, d)
        Queries, of unit length for metric ``"cosine"``.
    blocks : iterable of (ids, vectors)
        Blocks, with ``vectors`` float32 of shape (m, d). Memory use is O(n * m) of the largest one.
    k : int
        Number of neighbours per query.
    metric : {"cosine", "ip", "l2"}
        Metric; ``"cosine"`` is the inner product of vectors that must be normalised already.
    score : callable, optional
        Function that scores each query against its own rows of a block. It takes the queries, the
        vectors of the block and the rows as int64 of shape (n, c), and returns float32 of shape
        (n, c). Each score must depend on its pair alone.

    Returns
    -------
    Neighbors
        Neighbours of shape (n, k), padded with -1 and -inf. Scores depend on the query and the
        vector alone, not on what else is compared; equal scores are ordered by id.
    """
    n, metric = len(queries), DistanceMetric(metric)
    best: Neighbors | None = None
    for ids, vectors in blocks:
        if not len(ids):
            continue
        chosen = _nearly_best(queries, vectors, k, metric)
        if score is None:  # vectors have unit length if the metric needs it
            scores = pair_scores(queries, chosen, vectors.__getitem__, metric, prepared=True)
        else:
            scores = score(queries, vectors, chosen)
        candidates = ids[chosen]
        if best is not None:
            candidates = np.concatenate([best.ids, candidates], axis=1)
            scores = np.concatenate([best.scores, scores], axis=1)
        best = best_of(candidates, scores, k)
    if best is None:
        best = Neighbors(np.empty((n, 0), dtype=np.int64), np.empty((n, 0), dtype=np.float32))
    if (short := k - best.ids.shape[1]) == 0:
        return best
    pad = ((0, 0), (0, short))
    return Neighbors(
        np.pad(best.ids, pad, constant_values=-1), np.pad(best.scores, pad, constant_values=-np.inf)
    )


def rounding(dim: int) -> float:
    """Return how far apart two float32 sums of ``dim`` products of unit vectors can be."""
    return 1e-6 * max(1.0, math.sqrt(dim) / 16)


def _nearly_best(
    queries: Embeddings, vectors: Embeddings, k: int, metric: DistanceMetric
) -> NDArray[np.intp]:
    """Return for each query the rows that may be the ``k`` best: shape (n, ``min(k, m)`` or more).

    A matrix product is fast, but its rounding depends on the size of the matrices.
    """
    n, (m, dim) = len(queries), vectors.shape
    some = k + _SPARE
    everything = np.broadcast_to(np.arange(m), (n, m))
    if 2 * some >= m:
        return everything
    error, rows = rounding(dim), np.arange(n)[:, None]
    if not metric.by_product:
        # |q - v|^2 = |q|^2 + |v|^2 - 2 q.v; float64 keeps the difference of large norms.
        left, right = queries.astype(np.float64), vectors.astype(np.float64)
        norms, squares = np.vecdot(right, right), np.vecdot(left, left)[:, None]
        away = (norms + squares - 2.0 * (left @ right.T)).astype(np.float32)
    else:
        away = np.negative(queries @ vectors.T)
    chosen = np.argpartition(away, (k - 1, some - 1), axis=1)[:, :some]
    limit = away[rows, chosen[:, k - 1 : k]]
    if metric.on_sphere:
        limit = limit + 2 * error
    elif metric.by_product:
        longest = np.sqrt(np.vecdot(vectors, vectors).max())
        limit = limit + 2 * error * longest * np.sqrt(np.vecdot(queries, queries)[:, None])
    else:  # rounding errors of the distance itself, and of the norms in float64
        limit = limit * (1 + 4 * error) + 2e-14 * (norms.max() + squares)
    if bool((away[rows, chosen[:, -1:]] > limit).all()):
        return chosen
    count = int(np.count_nonzero(away <= limit, axis=1).max())
    return everything if 2 * count >= m else np.argpartition(away, count - 1, axis=1)[:, :count]


def pair_scores(
    queries: Embeddings,
    ids: Ids,
    vectors_of: Callable[[Ids], Embeddings],
    metric: Metric,
    *,
    prepared: bool = False,
) -> Embeddings:
    """Score each query against its own vectors.

    Parameters
    ----------
    queries : float32 array of shape (n, d)
        Queries, of unit length for metric ``"cosine"``.
    ids : int64 array of shape (n, m)
    vectors_of : callable
        Function from ids to a float32 array of shape (len(ids), d) of vectors of any length.
    metric : {"cosine", "ip", "l2"}
    prepared : bool
        Whether the vectors already have unit length, if the metric needs it.

    Returns
    -------
    float32 array of shape (n, m)
    """
    n, m = ids.shape
    dim, metric = queries.shape[1], DistanceMetric(metric)
    scores: Embeddings = np.empty((n, m), dtype=np.float32)
    step = max(1, _BLOCK_VALUES // max(1, m * dim))
    for start in range(0, n, step):
        part = slice(start, start + step)
        vectors = vectors_of(ids[part].ravel()).reshape(-1, m, dim)
        scores[part] = metric.scores(vectors, queries[part, None])
        if metric.on_sphere and not prepared:
            squares = np.vecdot(vectors, vectors)
            scores[part] /= np.sqrt(np.maximum(squares, np.float32(1e-24)))
    return scores


def best_of(ids: Ids, scores: Embeddings, k: int) -> Neighbors:
    """Return the ``k`` best of each row; equal scores are ordered by id.

    Parameters
    ----------
    ids, scores : arrays of shape (n, m)
    k : int
        Number of neighbours, at most ``m``.
    """
    order = np.argsort(-scores, axis=1)  # twice as fast as a stable one
    rows = np.arange(len(ids))[:, None]  # for one query far faster than take_along_axis
    found = by_id(ids[rows, order], scores[rows, order])
    return Neighbors(found.ids[:, :k], found.scores[:, :k])


def by_id(ids: Ids, scores: Embeddings) -> Neighbors:
    """Order equal scores of each row by id.

    Parameters
    ----------
    ids, scores : arrays of shape (n, m)
        Neighbours, best first.
    """
    equal = scores[:, 1:] == scores[:, :-1]
    if equal.any():
        wrong = (equal & (ids[:, 1:] < ids[:, :-1]) & (ids[:, 1:] >= 0)).any(axis=1)
        if wrong.any():
            rows = np.flatnonzero(wrong)[:, None]
            order = np.lexsort((ids[wrong], -scores[wrong]), axis=1)
            ids, scores = ids.copy(), scores.copy()
            ids[wrong], scores[wrong] = ids[rows, order], scores[rows, order]
    return Neighbors(ids, scores)


def first_of(found: Neighbors, kept: NDArray[np.bool_], k: int) -> Neighbors:
    """Return the first ``k`` neighbours of each row that are kept, padded with -1 and -inf.

    Parameters
    ----------
    found : Neighbors
        Neighbours of shape (n, m), best first.
    kept : bool array of shape (n, m)
    k : int
    """
    first = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    ids = np.take_along_axis(np.where(kept, found.ids, -1), first, axis=1)
    scores = np.take_along_axis(np.where(kept, found.scores, -np.inf), first, axis=1)
    return Neighbors(ids, scores)
