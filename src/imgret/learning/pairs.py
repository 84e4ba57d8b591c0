"""Pairs of items with a score, known to be of one class or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.search import View
from imgret.support.given import listed
from imgret.types import Embeddings, Ids

__all__ = ["Pairs", "given_pairs", "given_text_pairs", "near_pairs", "near_text_pairs"]

_BLOCK = 4096  # pairs scored at once


class Pairs(NamedTuple):
    """Pairs of items, or of a text and an item.

    Attributes
    ----------
    queries, others : int64 arrays of shape (n,)
        Ids of the two items of each pair. Texts have ids of their own, which are negative.
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
    queries, others, scores, same = [], [], [], []
    for ids, found in view.nearest_unseen(asked, min(k, len(view))):
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


def near_text_pairs(view: View, names: Sequence[str], texts: Embeddings, *, k: int) -> Pairs:
    """Pair the description of each label with the labelled items it finds first.

    Parameters
    ----------
    view : View
    names : sequence of str
        Labels.
    texts : float32 array of shape (n, embedder.dim)
        Embeddings of their descriptions.
    k : int
        Number of items per label.
    """
    items = view.labelled()
    found = items.search(items.project(texts, "texts"), min(k, len(items)))
    codes = np.array([view.labels.names.index(name) for name in names])
    there = found.ids >= 0
    rows = np.nonzero(there)[0]
    return Pairs(
        ~rows.astype(np.int64),
        found.ids[there],
        found.scores[there].astype(np.float64),
        view.labels.of(found.ids[there]) == codes[rows],
    )


def given_text_pairs(
    view: View,
    pairs: Iterable[tuple[str, str, bool]],
    embed_text: Callable[[list[str]], Embeddings],
) -> Pairs:
    """Score pairs of a text and a key.

    Raises
    ------
    InvalidInputError
        A pair is not a text, a key and a bool.
    KeyNotFoundError
        The gallery does not hold a key.
    """
    if not isinstance(pairs, AbstractSet):
        pairs = listed(pairs, "pairs", "a list of (text, key, True or False)")
    rows = [_checked(number, pair, "text") for number, pair in enumerate(pairs)]
    others = view.require([row[1] for row in rows])
    words = list(dict.fromkeys(row[0] for row in rows))
    vectors = view.project(embed_text(words), "texts").astype(np.float64)
    places = np.array([words.index(row[0]) for row in rows], dtype=np.int64)
    scores = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        some = slice(start, start + _BLOCK)
        scores[some] = view.metric.scores(
            vectors[places[some]], view.read(others[some]).astype(np.float64)
        )
    return Pairs(~places, others, scores, np.array([row[2] for row in rows], dtype=bool))


def _checked(number: int, pair: Any, query: str = "key") -> tuple[str, str, bool]:
    try:
        first, second, same = pair
    except (TypeError, ValueError):
        first = second = same = None
    if not (isinstance(first, str) and isinstance(second, str)) or not isinstance(
        same, (bool, np.bool_)
    ):
        raise InvalidInputError(
            f"pairs[{number}]: expected ({query}, key, True or False), found {pair!r}"
        )
    if first == second and query == "key":
        raise InvalidInputError(f"pairs[{number}]: expected two items, found {first!r} twice")
    return first, second, bool(same)
