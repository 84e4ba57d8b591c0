"""Search for near 64-bit hashes with Faiss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.base import threads
from imgret.types import Ids

__all__ = ["near_hashes"]

_BLOCK = 4096  # queries at once, so that their answers fit memory


def near_hashes(
    queries: NDArray[np.uint8], hashes: NDArray[np.uint8], radius: int
) -> tuple[Ids, Ids, NDArray[np.int32]]:
    """Return all pairs of a query and a hash that differ in few bits.

    Every pair is compared, at less than a nanosecond each. Multi-index hashing
    (``IndexBinaryMultiHash``) with an exact answer was slower up to a million hashes.

    Parameters
    ----------
    queries, hashes : uint8 arrays of shape (m, 8) and (n, 8)
    radius : int
        Most bits that may differ, at least 0.

    Returns
    -------
    queries, hashes : int64 arrays of shape (p,)
        Positions of the pairs, by query.
    distances : int32 array of shape (p,)
        Number of bits that differ.
    """
    index = faiss.IndexBinaryFlat(64)
    index.add(np.ascontiguousarray(hashes))
    rows, columns, distances = [], [], []
    for start in range(0, len(queries), _BLOCK):
        block = np.ascontiguousarray(queries[start : start + _BLOCK])
        with threads(len(block) * len(hashes)):
            limits, apart, found = index.range_search(block, radius + 1)  # excludes the radius
        counts = np.diff(limits.astype(np.int64))
        rows.append(np.repeat(np.arange(start, start + len(block)), counts))
        columns.append(found.astype(np.int64))
        distances.append(apart.astype(np.int32))
    if not rows:
        none = np.empty(0, dtype=np.int64)
        return none, none, none.astype(np.int32)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(distances)
