"""Pairs of items with a score, known to be of one class or not."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.search import View
from imgret.support.given import listed
from imgret.types import Ids

__all__ = ["Pairs", "given_pairs", "near_pairs"]

_BLOCK = 4096  # pairs scored at once


class Pairs(NamedTuple):
    """Pairs of items.

    Attributes
    ----------
    queries, others : int64 arrays of shape (n,)
        Ids of the two items of each pair.
    scores : float64 array of shape (n,)
        Scores by the gallery's metric, as a search would return them.
    same : bool array of shape (n,)
        Whether the two items are of one class.
    """

    queries: Ids
    others: Ids
    scores: NDArray[np.float64]
    same: NDArray[np.bool_]


def near_pairs(view: View, *, k: int, n_queries: int, seed: int) -> Pairs:
    """Pair labelled items with their nearest labelled neighbours, as if each were a new image.

    Parameters
    ----------
    view : View
    k : int
        Number of neighbours per item.
    n_queries : int
        Size of the random sample of items; if there are fewer, all are used.
    seed : int
        Seed of the random sample.
    """
    labels = view.labels
    asked = view.sample(n_queries, seed, among=labels.ids)
    k = min(k, len(view) - 1)
    queries, others, scores, same = [], [], [], []
    for ids, found in view.nearest_unseen(asked, k) if k and len(asked) else ():
        codes = labels.of(found.ids)
        known = codes >= 0
        rows = np.nonzero(known)[0]
        queries.append(ids[rows])
        others.append(found.ids[known])
        scores.append(found.scores[known].astype(np.float64))
        same.append(codes[known] == labels.of(ids)[rows])
    return Pairs(
        np.concatenate([np.empty(0, np.int64), *queries]),
        np.concatenate([np.empty(0, np.int64), *others]),
        np.concatenate([np.empty(0), *scores]),
        np.concatenate([np.empty(0, bool), *same]),
    )


def given_pairs(view: View, pairs: Iterable[tuple[str, str, bool]]) -> Pairs:
    """Score pairs of keys.

    Raises
    ------
    InvalidInputError
        A pair is not two keys and a bool, or it pairs an item with itself.
    KeyNotFoundError
        The gallery does not hold a key.
    """
    if not isinstance(pairs, AbstractSet):  # a set will do: order does not matter here
        pairs = listed(pairs, "pairs", "a list of (key, key, True or False)")
    rows = [_checked(number, pair) for number, pair in enumerate(pairs)]
    queries = view.require([row[0] for row in rows])
    others = view.require([row[1] for row in rows])
    scores = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        some = slice(start, start + _BLOCK)
        a, b = (view.read(ids[some]).astype(np.float64) for ids in (queries, others))
        scores[some] = view.metric.scores(a, b)
    return Pairs(queries, others, scores, np.array([row[2] for row in rows], dtype=bool))


def _checked(number: int, pair: Any) -> tuple[str, str, bool]:
    try:
        first, second, same = pair
    except (TypeError, ValueError):
        first = second = same = None
    if not (isinstance(first, str) and isinstance(second, str)) or not isinstance(
        same, (bool, np.bool_)
    ):
        raise InvalidInputError(
            f"pairs[{number}]: expected (key, key, True or False), found {pair!r}"
        )
    if first == second:
        raise InvalidInputError(f"pairs[{number}]: expected two items, found {first!r} twice")
    return first, second, bool(same)
