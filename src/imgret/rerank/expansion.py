"""Embeddings moved towards their neighbours: query expansion, database-side augmentation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imgret.abc.checks import check_count, check_number
from imgret.rerank.neighbors import nearest, unit_vectors
from imgret.types import Embeddings

__all__ = ["augment_gallery", "expand_queries"]

_BLOCK = 4096  # queries whose neighbours are gathered at once


def expand_queries(queries: Any, gallery: Any, *, k: int = 10, alpha: float = 3.0) -> Embeddings:
    """Move each query towards its nearest items.

    The query and its ``k`` nearest items are added up, each item weighted by its cosine to the
    power ``alpha``, negative cosines counting nothing.

    Parameters
    ----------
    queries, gallery : arrays of shape (n, dim) and (m, dim)
    k : int
        Items a query.
    alpha : float
        0 weights all items like the query itself: average query expansion.

    Returns
    -------
    float32 array of shape (n, dim)
        Of length 1.

    Raises
    ------
    InvalidInputError
        Shapes do not agree, or a number is out of its range.

    References
    ----------
    O. Chum et al., "Total Recall: Automatic Query Expansion with a Generative Feature Model for
    Object Retrieval", 2007. F. Radenović, G. Tolias and O. Chum, "Fine-tuning CNN Image Retrieval
    with No Human Annotation", 2018, for ``alpha``.
    """
    queries = unit_vectors(queries, "queries")
    gallery = unit_vectors(gallery, "gallery", queries.shape[1])
    return _moved(queries, gallery, check_count(k, "k"), _alpha(alpha), itself=True)


def augment_gallery(gallery: Any, *, k: int = 10, alpha: float = 0.0) -> Embeddings:
    """Move each item towards its nearest, itself among them.

    Parameters
    ----------
    gallery : array of shape (m, dim)
    k : int
        Items that are added up, the item itself included.
    alpha : float
        As for `expand_queries`.

    Returns
    -------
    float32 array of shape (m, dim)
        Of length 1.

    Raises
    ------
    InvalidInputError
        It is no array of that shape, or a number is out of its range.

    References
    ----------
    P. Turcot and D. Lowe, "Better matching with fewer features", 2009; R. Arandjelović and A.
    Zisserman, "Three things everyone should know to improve object retrieval", 2012.
    """
    gallery = unit_vectors(gallery, "gallery")
    return _moved(gallery, gallery, check_count(k, "k"), _alpha(alpha), itself=False)


def _alpha(alpha: float) -> float:
    return check_number(alpha, "alpha", at_least=0, at_most=math.inf)


def _moved(
    queries: Embeddings, gallery: Embeddings, k: int, alpha: float, *, itself: bool
) -> Embeddings:
    moved = np.empty_like(queries)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        rows, cosines = nearest(block, gallery, k)
        weights = np.maximum(cosines, 0) ** np.float32(alpha) * (cosines > 0)
        total = np.einsum("nk,nkd->nd", weights, gallery[rows])
        moved[start : start + _BLOCK] = total + block if itself else total
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    # Where nothing is near, the vector stays as it is.
    unit: Embeddings = np.where(lengths > 0, moved / np.maximum(lengths, 1e-12), queries)
    return unit
