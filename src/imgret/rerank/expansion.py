"""Query expansion and database-side augmentation: embeddings moved towards their neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from imgret.abc.reranker import Asked, Reranker, Searched
from imgret.rerank.neighbors import nearest, unit_vectors
from imgret.support.checks import check_count, check_number
from imgret.support.metric import DistanceMetric
from imgret.support.unit import unit_length
from imgret.types import Embeddings

__all__ = [
    "QueryExpansion",
    "augment_gallery",
    "average_query_expansion",
    "check_alpha",
    "expand_queries",
    "weights_of",
]

_BLOCK = 4096  # queries whose neighbours are gathered at once


def expand_queries(queries: Any, gallery: Any, *, k: int = 10, alpha: float = 3.0) -> Embeddings:
    """Move each query towards its nearest items.

    The query and its ``k`` nearest items are summed. Each item is weighted by its cosine to the
    power ``alpha``, or 0 if the cosine is negative.

    Parameters
    ----------
    queries, gallery : arrays of shape (n, dim) and (m, dim)
    k : int
        Number of items per query.
    alpha : float
        Exponent of the cosines. 0 weights all items like the query itself: average query
        expansion.

    Returns
    -------
    float32 array of shape (n, dim)
        Moved queries, of length 1.

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
    return _moved(queries, gallery, check_count(k, "k"), check_alpha(alpha), itself=True)


def augment_gallery(gallery: Any, *, k: int = 10, alpha: float = 0.0) -> Embeddings:
    """Move each item towards its nearest items, including itself.

    Parameters
    ----------
    gallery : array of shape (m, dim)
    k : int
        Number of items that are summed, including the item itself.
    alpha : float
        As for `expand_queries`.

    Returns
    -------
    float32 array of shape (m, dim)
        Moved items, of length 1.

    Raises
    ------
    InvalidInputError
        ``gallery`` is not an array of that shape, or a number is out of its range.

    References
    ----------
    P. Turcot and D. Lowe, "Better matching with fewer features", 2009; R. Arandjelović and A.
    Zisserman, "Three things everyone should know to improve object retrieval", 2012.
    """
    gallery = unit_vectors(gallery, "gallery")
    return _moved(gallery, gallery, check_count(k, "k"), check_alpha(alpha), itself=False)


@final
@dataclass(frozen=True)
class QueryExpansion(Reranker):
    """Search again with the mean of the query and its nearest items.

    Each item is weighted by its cosine with the query to the power ``alpha``, or 0 if the cosine
    is negative. The weight of the query itself is 1. The second search goes through the whole
    index and costs as much as the first.

    Parameters
    ----------
    k : int
        Number of items that the query moves towards.
    alpha : float
        Exponent of the cosines. 0 weights all items like the query itself: average query
        expansion.

    Raises
    ------
    InvalidInputError
        A number is out of its range.

    References
    ----------
    As for `expand_queries`.
    """

    name: ClassVar[str] = "query expansion"
    scores: ClassVar[Literal["own", "metric", "kept"]] = "metric"

    k: int = 10
    alpha: float = 3.0

    def __post_init__(self) -> None:
        check_count(self.k, "k")
        check_alpha(self.alpha)

    @property
    def candidates(self) -> int:
        """Number of items that the query moves towards."""
        return self.k

    def _rank(self, asked: Asked, k: int, searched: Searched) -> Asked:
        ids = asked.found.ids[:, : self.k]
        held, places = np.unique(ids, return_inverse=True)
        items = searched.read(np.maximum(held, 0))[places.reshape(ids.shape)]
        queries = asked.queries
        cosines = np.vecdot(_unit(items), unit_length(queries)[:, None])
        weights = weights_of(cosines, self.alpha) * (ids >= 0)
        total = queries + np.einsum("nk,nkd->nd", weights, items)
        moved = total / (1 + weights.sum(axis=1, keepdims=True))
        moved = DistanceMetric(searched.metric).prepare(moved)
        return Asked(moved, searched.search(moved, k))


def average_query_expansion(k: int = 3) -> QueryExpansion:
    """Make ``"average-qe"``: the query moves towards the mean of its ``k`` nearest items."""
    return QueryExpansion(k=k, alpha=0.0)


def check_alpha(alpha: float) -> float:
    """Return the exponent of the weights, checked."""
    return check_number(alpha, "alpha", at_least=0, at_most=math.inf)


def weights_of(cosines: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Return cosines to the power ``alpha``, and 0 for those that are not above 0."""
    weights: NDArray[np.float32] = np.maximum(cosines, 0) ** np.float32(alpha) * (cosines > 0)
    return weights


def _unit(items: Embeddings) -> Embeddings:
    return unit_length(items.reshape(-1, items.shape[-1])).reshape(items.shape)


def _moved(
    queries: Embeddings, gallery: Embeddings, k: int, alpha: float, *, itself: bool
) -> Embeddings:
    moved = np.empty_like(queries)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        rows, cosines = nearest(block, gallery, k)
        total = np.einsum("nk,nkd->nd", weights_of(cosines, alpha), gallery[rows])
        moved[start : start + _BLOCK] = total + block if itself else total
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    # Where nothing is near, the vector stays as it is.
    unit: Embeddings = np.where(lengths > 0, moved / np.maximum(lengths, 1e-12), queries)
    return unit
