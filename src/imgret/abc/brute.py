"""Exact nearest neighbours with NumPy, over vectors that come in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from imgret.types import Embeddings, Ids, Metric, Neighbors

__all__ = ["best_of", "exact_search"]

# Values fetched at a time when candidates are ranked: 16 MB, which the cache half holds.
_BLOCK_VALUES = 2**22


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
            block_scores = np.take_along_axis(block_scores, best, axis=1)
            candidates = block_ids[best]
        else:
            candidates = np.broadcast_to(block_ids, block_scores.shape)
        all_scores = np.concatenate([scores, block_scores], axis=1)
        all_ids = np.concatenate([ids, candidates], axis=1)
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(all_scores, order, axis=1)
        ids = np.take_along_axis(all_ids, order, axis=1)
    return Neighbors(ids, scores)


def best_of(
    queries: Embeddings,
    candidates: Ids,
    vectors_of: Callable[[Ids], Embeddings],
    k: int,
    metric: Metric,
) -> Neighbors:
    """Rank candidates by their vectors, and keep the best.

    Parameters
    ----------
    queries : float32 array of shape (n, d)
        Of unit length for metric ``"cosine"``.
    candidates : int64 array of shape (n, m)
        Ids for each query; -1 for none.
    vectors_of : callable
        Ids -> float32 array of shape (len(ids), d).
    k : int
        At most ``m``.
    metric : {"cosine", "ip", "l2"}

    Returns
    -------
    Neighbors
        Shape (n, k); of equal scores the earlier candidate comes first.
    """
    n, m = candidates.shape
    missing = candidates < 0
    some = int(candidates.max(initial=-1))
    scores: Embeddings = np.full((n, m), -np.inf, dtype=np.float32)
    if some < 0:
        return Neighbors(candidates[:, :k], scores[:, :k])
    rows = np.where(missing, some, candidates)  # any vector stands for none
    step = max(1, _BLOCK_VALUES // (m * queries.shape[1]))
    for start in range(0, n, step):
        part = slice(start, start + step)
        vectors = vectors_of(rows[part].ravel()).reshape(-1, m, queries.shape[1])
        if metric == "l2":
            vectors = vectors - queries[part, None]
            scores[part] = -np.einsum("nmd,nmd->nm", vectors, vectors)
        else:
            scores[part] = np.matmul(vectors, queries[part, :, None])[:, :, 0]
    scores[missing] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Neighbors(
        np.take_along_axis(candidates, order, axis=1), np.take_along_axis(scores, order, axis=1)
    )
