"""Search for near 64-bit hashes with Faiss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.base import threads
from imgret.types import Ids

__all__ = ["near_hashes"]

_PAIRS = 2**24  # compared at once, so that the answers fit memory even if all are near


def near_hashes(
    queries: NDArray[np.uint8], hashes: NDArray[np.uint8], radius: int, most: int
) -> Iterator[tuple[slice, Ids, Ids, NDArray[np.int32]]]:
    """Yield pairs of a query and a hash that differ in few bits, block by block.

    Query and hash of one position belong to one item, and distances are symmetric: only pairs
    whose hash is not before the query are compared, at less than a nanosecond each. Multi-index
    hashing (``IndexBinaryMultiHash``) with an exact answer was slower up to a million hashes.

    Where many hashes lie together, not all of their pairs are returned, but of each query those
    with the nearest hashes, and of each hash that with the first query. These join what lies
    together as well, unless it is loosely.

    Parameters
    ----------
    queries, hashes : uint8 arrays of shape (n, 8)
    radius : int
        Most bits that may differ, at least 0.
    most : int
        Most hashes of a query, beside those that have no earlier query.

    Yields
    ------
    part : slice
        The queries that were compared.
    queries, hashes : int64 arrays of shape (p,)
        Positions of the pairs, by query.
    distances : int32 array of shape (p,)
        Number of bits that differ.
    """
    hashes = np.ascontiguousarray(hashes)
    lonely = np.ones(len(hashes), dtype=bool)  # without a query before it
    step = max(1, _PAIRS // max(1, len(hashes)))
    for start in range(0, len(queries), step):
        block = np.ascontiguousarray(queries[start : start + step])
        index = faiss.IndexBinaryFlat(64)
        index.add(hashes[start:])
        with threads(len(block) * (len(hashes) - start)):
            limits, apart, found = index.range_search(block, radius + 1)  # excludes the radius
        rows = start + np.repeat(np.arange(len(block)), np.diff(limits.astype(np.int64)))
        columns, apart = start + found.astype(np.int64), apart.astype(np.int32)
        kept = _kept(rows, columns, apart, lonely, most)
        yield slice(start, start + len(block)), rows[kept], columns[kept], apart[kept]


def _kept(
    rows: Ids, columns: Ids, apart: NDArray[np.int32], lonely: NDArray[np.bool_], most: int
) -> Ids:
    """Return the places of the pairs to keep, increasing; notes which hashes have a query now."""
    later = np.flatnonzero(columns > rows)
    order = later[np.lexsort((apart[later], rows[later]))]
    rank = np.arange(len(order)) - np.searchsorted(rows[order], rows[order])
    nearest = order[rank < most]
    _, first = np.unique(columns[later], return_index=True)  # by query: the first
    first = later[first]
    first = first[lonely[columns[first]]]
    lonely[columns[first]] = False
    return np.union1d(nearest, first)
