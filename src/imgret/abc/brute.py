"""Exact nearest neighbours with NumPy, over vectors that come in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from imgret.types import Embeddings, Ids, Metric, Neighbors

__all__ = ["best_of", "exact_search", "first_of", "pair_scores"]

# Values fetched at a time for pairs: half a megabyte, which stays in the cache of a core.
_BLOCK_VALUES = 2**17


def exact_search(
    queries: Embeddings,
    blocks: Iterable[tuple[Ids, Embeddings]],
    k: int,
    metric: Metric,
) -> Neighbors:
    """Search every vector of every block.

    Parameters
    ----------
    queries : float32 array of shape (n, d)
        Of unit length for metric ``"cosine"``.
    blocks : iterable of (ids, vectors)
        ``vectors`` float32 of shape (m, d); memory in use is O(n * m) of the largest block.
    k : int
        Neighbours a query.
    metric : {"cosine", "ip", "l2"}
        ``"cosine"`` is the inner product of what is expected to be normalised.

    Returns
    -------
    Neighbors
        Shape (n, k), equal scores in the order of the blocks; padded with -1 and -inf.
    """
    n = len(queries)
    rows = np.arange(n)[:, None]  # to index with; for one query far faster than take_along_axis
    ids: Ids = np.full((n, k), -1, dtype=np.int64)
    scores: Embeddings = np.full((n, k), -np.inf, dtype=np.float32)
    squares = np.einsum("ij,ij->i", queries, queries, dtype=np.float64) if metric == "l2" else None
    for block_ids, vectors in blocks:
        if not len(block_ids):
            continue
        if squares is None:
            block_scores = queries @ vectors.T
        else:
            # |q - v|^2 = |q|^2 + |v|^2 - 2 q.v; float64 keeps the difference of large norms.
            norms = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
            products = queries.astype(np.float64) @ vectors.T.astype(np.float64)
            distances = squares[:, None] + norms[None, :] - 2.0 * products
            block_scores = -np.maximum(distances, 0.0).astype(np.float32)
        if len(block_ids) > 4 * k:  # narrow down before the merge
            best = np.argpartition(-block_scores, k - 1, axis=1)[:, :k]
            best.sort(axis=1)
            block_scores = block_scores[rows, best]
            candidates = block_ids[best]
        else:
            candidates = np.broadcast_to(block_ids, block_scores.shape)
        all_scores = np.concatenate([scores, block_scores], axis=1)
        all_ids = np.concatenate([ids, candidates], axis=1)
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]
        scores, ids = all_scores[rows, order], all_ids[rows, order]
    return Neighbors(ids, scores)


def pair_scores(
    queries: Embeddings, ids: Ids, vectors_of: Callable[[Ids], Embeddings], metric: Metric
) -> Embeddings:
    """Score each query with vectors of its own.

    Parameters
    ----------
    queries : float32 array of shape (n, d)
        Of unit length for metric ``"cosine"``.
    ids : int64 array of shape (n, m)
    vectors_of : callable
        Ids -> float32 array of shape (len(ids), d), of any length.
    metric : {"cosine", "ip", "l2"}

    Returns
    -------
    float32 array of shape (n, m)
    """
    n, m = ids.shape
    dim = queries.shape[1]
    scores: Embeddings = np.empty((n, m), dtype=np.float32)
    step = max(1, _BLOCK_VALUES // max(1, m * dim))
    for start in range(0, n, step):
        part = slice(start, start + step)
        vectors = vectors_of(ids[part].ravel()).reshape(-1, m, dim)
        if metric == "l2":
            vectors = vectors - queries[part, None]
            scores[part] = -np.einsum("nmd,nmd->nm", vectors, vectors)
            continue
        np.matmul(vectors, queries[part, :, None], out=scores[part, :, None])
        if metric == "cosine":
            squares = np.einsum("nmd,nmd->nm", vectors, vectors)
            scores[part] /= np.sqrt(np.maximum(squares, np.float32(1e-24)))
    return scores


def best_of(ids: Ids, scores: Embeddings, k: int) -> Neighbors:
    """Return the ``k`` best of each row; of equal scores the first comes first.

    Parameters
    ----------
    ids, scores : arrays of shape (n, m)
    k : int
        At most ``m``.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    rows = np.arange(len(ids))[:, None]
    return Neighbors(ids[rows, order], scores[rows, order])


def first_of(found: Neighbors, kept: NDArray[np.bool_], k: int) -> Neighbors:
    """Return the first ``k`` of each row that are kept, in their order; -1 and -inf after them.

    Parameters
    ----------
    found : Neighbors
        Shape (n, m), best first.
    kept : bool array of shape (n, m)
    k : int
    """
    first = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    ids = np.take_along_axis(np.where(kept, found.ids, -1), first, axis=1)
    scores = np.take_along_axis(np.where(kept, found.scores, -np.inf), first, axis=1)
    return Neighbors(ids, scores)
