"""Diverse rankings: maximal marginal relevance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from imgret.abc.reranker import Asked, Reranker, Searched, one_by_one
from imgret.errors import InvalidInputError
from imgret.rerank.neighbors import unit_vectors
from imgret.support.checks import check_count, check_number
from imgret.support.metric import DistanceMetric
from imgret.types import Embeddings, Ids, Metric

__all__ = ["Diversity", "diversify"]


def diversify(scores: Any, vectors: Any, k: int, *, lam: float = 0.7) -> NDArray[np.int64]:
    """Choose candidates one after the other, each good by itself and unlike those before.

    The next candidate is the one with the highest ``lam * score - (1 - lam) * similarity``, where
    similarity is its highest cosine with a candidate already chosen.

    Parameters
    ----------
    scores : array of shape (n,)
        Scores of the candidates of one query; higher is better.
    vectors : array of shape (n, dim)
        Embeddings of the candidates.
    k : int
        Number of candidates to choose.
    lam : float
        Weight of the scores, from 0, where only the first candidate is chosen by score, to 1,
        where all are.

    Returns
    -------
    int64 array of shape (min(k, n),)
        Positions among the candidates, in their new order.

    Raises
    ------
    InvalidInputError
        Shapes do not agree, scores are not finite, or a number is out of its range.

    References
    ----------
    J. Carbonell and J. Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering
    Documents and Producing Summaries", 1998.
    """
    k = check_count(k, "k")
    lam = check_number(lam, "lam", at_least=0, at_most=1)
    vectors = unit_vectors(vectors, "vectors")
    given = np.asarray(scores, dtype=np.float64)
    if given.shape != (len(vectors),) or not np.isfinite(given).all():
        raise InvalidInputError(
            f"scores: expected {len(vectors)} finite numbers, one per vector, found shape "
            f"{given.shape}{'' if np.isfinite(given).all() else ' with NaN or infinity'}"
        )
    return _chosen(given, k, lam, lambda best: np.vecdot(vectors, vectors[best]))


@final
@dataclass(frozen=True)
class Diversity(Reranker):
    """Maximal marginal relevance: good hits first, but only one of several similar ones.

    The next hit is the candidate with the highest ``lam * score - (1 - lam) * similarity``, where
    similarity is its highest score, by the gallery's metric, with a hit already chosen.
    `Hit.score` is unchanged, so it does not fall from rank to rank. A threshold is applied before.

    Parameters
    ----------
    candidates : int
        Number of items among which the hits are chosen.
    lam : float
        Weight of the scores, from 0, where only the first hit is chosen by score, to 1, where all
        are.

    Raises
    ------
    InvalidInputError
        A number is out of its range.

    References
    ----------
    As for `diversify`.
    """

    name: ClassVar[str] = "mmr"
    scores: ClassVar[Literal["own", "metric", "kept"]] = "kept"

    candidates: int = 50
    lam: float = 0.7

    def __post_init__(self) -> None:
        check_count(self.candidates, "candidates")
        check_number(self.lam, "lam", at_least=0, at_most=1)

    def _rank(self, asked: Asked, k: int, searched: Searched) -> Asked:
        def rank(
            query: Embeddings,  # noqa: ARG001  # the scores tell what it is to them
            ids: Ids,
            scores: NDArray[np.float32],
        ) -> tuple[Ids, NDArray[np.float32]]:
            likeness = _likeness(searched.read(ids), searched.metric)
            order = _chosen(scores.astype(np.float64), k, self.lam, likeness)
            return ids[order], scores[order]

        return one_by_one(asked, k, rank)


def _likeness(vectors: Embeddings, metric: Metric) -> Callable[[int], NDArray[np.float32]]:
    """Return a function that gives the scores of all candidates with one of them."""
    score = DistanceMetric(metric).scores
    return lambda best: score(vectors, vectors[best])


def _chosen(
    scores: NDArray[np.float64],
    k: int,
    lam: float,
    likeness: Callable[[int], NDArray[np.float32]],
) -> NDArray[np.int64]:
    chosen: list[int] = []
    left = np.ones(len(scores), dtype=bool)
    nearest = np.full(len(scores), -np.inf)
    for _ in range(min(k, len(scores))):
        value = scores if not chosen else lam * scores - (1 - lam) * nearest
        best = int(np.argmax(np.where(left, value, -np.inf)))
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, likeness(best))
    return np.array(chosen, dtype=np.int64)
