"""Re-rankers found by name, and applied one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret import registry
from imgret.abc.reranker import Asked, Reranker, Searched
from imgret.types import Neighbors

__all__ = ["Rerank", "find_rerankers", "rank_again", "wanted"]

Rerank: TypeAlias = str | Reranker | Sequence[str | Reranker]


def find_rerankers(given: Rerank | None) -> tuple[Reranker, ...]:
    """Return re-rankers that are given by name, as an object, or as a sequence of these.

    Raises
    ------
    UnknownNameError, PluginError
        As in `imgret.registry.factory`.
    InvalidInputError
        Something given is neither a name nor a re-ranker.
    """
    if given is None:
        return ()
    several = isinstance(given, Sequence) and not isinstance(given, str)
    every: Any = given if several else [given]
    return tuple(
        registry.made("rerankers", one, Reranker)  # type: ignore[type-abstract]  # it is only compared with
        for one in every
    )


def wanted(rerankers: Sequence[Reranker], k: int) -> list[int]:
    """Return how many items the search and each re-ranker must pass on; the last is ``k``."""
    counts = [k]
    for reranker in reversed(rerankers):
        counts.insert(0, max(counts[0], reranker.candidates))
    return counts


def rank_again(
    rerankers: Sequence[Reranker],
    asked: Asked,
    k: int,
    searched: Searched,
    threshold: float | None = None,
) -> tuple[Neighbors, NDArray[np.float32]]:
    """Apply one re-ranker after the other.

    Parameters
    ----------
    rerankers : sequence of Reranker
    asked : Asked
        Queries, with at least ``wanted(rerankers, k)[0]`` items each if there are so many.
    k : int
        Number of hits to return.
    searched : Searched
    threshold : float, optional
        Lowest final score. Items below it are left out before a re-ranker that keeps the scores
        orders the rest.

    Returns
    -------
    found : Neighbors
        Shape (n, k), or as many columns as ``asked.found`` where these are fewer.
    best : float32 array of shape (n,)
        Best score for each query, even if it is below the threshold; -inf if nothing was found.
    """
    best = asked.found.scores.max(axis=1)
    there = asked.found.ids.shape[1]  # as many as wanted, or all items if there are fewer
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
