"""Re-rankers by name, and one after the other."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError, UnknownNameError
from imgret.rerank.diffusion import Diffusion
from imgret.rerank.diversity import Diversity
from imgret.rerank.expansion import QueryExpansion
from imgret.rerank.reciprocal import KReciprocal
from imgret.rerank.reranker import Asked, Reranker, Searched
from imgret.types import Neighbors

__all__ = ["NAMES", "Rerank", "find_rerankers", "rank_anew", "wanted"]

Rerank: TypeAlias = str | Reranker | Sequence[str | Reranker]

NAMES: dict[str, Callable[[], Reranker]] = {
    "alpha-qe": QueryExpansion,
    "average-qe": lambda: QueryExpansion(k=3, alpha=0.0),
    "diffusion": Diffusion,
    "k-reciprocal": KReciprocal,
    "mmr": Diversity,
}


def find_rerankers(given: Rerank | None) -> tuple[Reranker, ...]:
    """Return re-rankers that are given by name, by object, or as a sequence of these.

    Raises
    ------
    UnknownNameError
        No re-ranker has this name; the message lists those there are.
    InvalidInputError
        It is neither a name nor a re-ranker.
    """
    if given is None:
        return ()
    if isinstance(given, (str, Reranker)):
        return (_found(given),)
    if isinstance(given, Sequence):
        return tuple(_found(one) for one in given)
    return (_found(given),)  # which says what is wrong with it


def wanted(rerankers: Sequence[Reranker], k: int) -> list[int]:
    """Return how many items the search and each re-ranker but the last is to hand on, and ``k``."""
    counts = [k]
    for reranker in reversed(rerankers):
        counts.insert(0, max(counts[0], reranker.candidates))
    return counts


def rank_anew(
    rerankers: Sequence[Reranker],
    asked: Asked,
    k: int,
    searched: Searched,
    threshold: float | None = None,
) -> tuple[Neighbors, NDArray[np.float32]]:
    """Rank by one re-ranker after the other.

    Parameters
    ----------
    rerankers : sequence of Reranker
    asked : Asked
        At least ``wanted(rerankers, k)[0]`` items a query, as far as there are.
    k : int
        Hits wanted.
    searched : Searched
    threshold : float, optional
        Of the scores that come out. An item below it is left out before one that keeps the scores
        arranges the others.

    Returns
    -------
    found : Neighbors
        Shape (n, k), or as many columns as ``asked.found`` where these are fewer.
    best : float32 array of shape (n,)
        The best score there was for each query, below the threshold or not; -inf where none.
    """
    best = asked.found.scores.max(axis=1)
    there = asked.found.ids.shape[1]  # as many as wanted, or as there are
    changes = [reranker.scores != "kept" for reranker in rerankers]
    for number, reranker in enumerate(rerankers):
        if threshold is not None and not any(changes[number:]):
            asked = Asked(asked.queries, _at_least(threshold, asked.found))
        handed_on = min(wanted(rerankers, k)[number + 1], there)
        asked = reranker.rank(asked, handed_on, searched)
        if changes[number]:
            best = asked.found.scores.max(axis=1)
    return asked.found, best


def _at_least(threshold: float, found: Neighbors) -> Neighbors:
    enough = found.scores >= threshold
    return Neighbors(np.where(enough, found.ids, -1), np.where(enough, found.scores, -np.inf))


def _found(given: object) -> Reranker:
    if isinstance(given, Reranker):
        return given
    if not isinstance(given, str):
        raise InvalidInputError(
            f"rerank: expected one of {', '.join(NAMES)}, an imgret.rerank.Reranker, or a "
            f"sequence of these, found {given!r}"
        )
    if given not in NAMES:
        message = f"rerank: no {given!r}; known: {', '.join(NAMES)}"
        if near := difflib.get_close_matches(given, NAMES, n=1):
            message += f". Did you mean {near[0]!r}?"
        raise UnknownNameError(message)
    return NAMES[given]()
