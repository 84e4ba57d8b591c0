"""Nearest neighbours by cosine, exactly, in blocks that fit the cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.support.checks import check_count, check_vectors
from imgret.support.exact import exact_search
from imgret.support.unit import unit_length
from imgret.types import Embeddings

__all__ = ["nearest", "unit_vectors"]

_BLOCK = 2**24  # similarities held at once


def unit_vectors(vectors: Any, name: str, dim: int | None = None) -> Embeddings:
    """Check vectors and scale them to length 1; a vector of zeros stays as it is.

    Raises
    ------
    InvalidInputError
        ``vectors`` is not a finite array of shape (n, dim).
    """
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or not array.shape[1]:
        raise InvalidInputError(f"{name}: expected shape (n, dim), found {array.shape}")
    return unit_length(check_vectors(array, array.shape[1] if dim is None else dim, name))


def nearest(
    queries: Embeddings, gallery: Embeddings, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows of the ``k`` nearest items of each query, and their cosines.

    Ties are in the order of the rows.

    Parameters
    ----------
    queries, gallery : float32 arrays of shape (n, dim) and (m, dim)
        Vectors of length 1.
    k : int
        Number of items to return; at most ``m`` are returned.
    """
    k = min(check_count(k, "k"), len(gallery))
    rows = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k), dtype=np.float32)
    step = max(1, _BLOCK // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        block = np.arange(len(gallery)), gallery
        rows[part], cosines[part] = exact_search(queries[part], [block], k, "cosine")
    return rows, cosines
