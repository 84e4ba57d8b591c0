"""Pairs of items with a score, of which it is known whether they are of one class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.abc.brute import exact_search
from imgret.abc.checks import check_scorable
from imgret.abc.given import listed
from imgret.adaptation.folds import fold_of
from imgret.errors import InvalidInputError
from imgret.projections import Discriminant, LinearProjection
from imgret.storage import Store
from imgret.types import Embeddings, Ids, Metric, Neighbors

__all__ = ["Pairs", "given_pairs", "near_pairs"]

Search: TypeAlias = Callable[[Embeddings, int], Neighbors]

_BLOCK = 4096  # pairs scored at once
_FOLDS = 3


class Pairs(NamedTuple):
    """Pairs of items.

    Attributes
    ----------
    queries, others : int64 arrays of shape (n,)
        Ids.
    scores : float64 array of shape (n,)
        By the gallery's metric, as a search would give them.
    same : bool array of shape (n,)
        Whether they are of one class.
    """

    queries: Ids
    others: Ids
    scores: NDArray[np.float64]
    same: NDArray[np.bool_]


def near_pairs(
    store: Store,
    search: Search,
    projection: LinearProjection | None,
    *,
    k: int,
    n_queries: int,
    seed: int,
) -> Pairs:
    """Pair labelled items with their nearest labelled others.

    A projection that was fitted to the labels knows the gallery better than it will know a new
    picture. There a part of the items is asked, among the rest, by one that was fitted to the
    rest.

    Parameters
    ----------
    store : Store
    search : callable
        Finds the ids nearest to embeddings.
    projection : LinearProjection or None
        The one in use.
    k : int
        Others an item.
    n_queries : int
        Items asked, drawn at random; all of them where there are fewer.
    seed : int
        Of the draw.
    """
    ids, codes, _ = store.catalog.labelled()
    if projection is not None and projection.kind == "lda":
        return _held_out(store, ids, codes, projection, k=k, n_queries=n_queries, seed=seed)
    asked = _drawn(np.arange(len(ids)), n_queries, seed)
    k = min(k, len(store.catalog) - 1)
    if not len(asked) or not k:
        return _together([])
    pieces = []
    for block, rows in store.blocks(ids[asked]):
        found, scores = search(rows, k + 1)
        # An index that is not exact may miss the item itself; then the farthest goes.
        order = np.argsort(found == block[:, None], axis=1, kind="stable")[:, :k]
        pieces.append(
            _pairs(
                block,
                np.take_along_axis(found, order, axis=1),
                np.take_along_axis(scores, order, axis=1),
            )
        )
    return _labelled(_together(pieces), ids, codes)


def given_pairs(
    store: Store, projection: LinearProjection | None, pairs: Iterable[tuple[str, str, bool]]
) -> Pairs:
    """Score pairs of keys.

    Raises
    ------
    InvalidInputError
        A pair is not two keys and a truth value, or of one item with itself.
    KeyNotFoundError
        The gallery does not hold a key.
    """
    if not isinstance(pairs, AbstractSet):  # whose order does not matter here
        pairs = listed(pairs, "pairs", "a list of (key, key, True or False)")
    rows = [_checked(number, pair) for number, pair in enumerate(pairs)]
    metric = store.manifest.metric
    queries = np.array(store.catalog.require([row[0] for row in rows]), dtype=np.int64)
    others = np.array(store.catalog.require([row[1] for row in rows]), dtype=np.int64)
    scores = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        some = slice(start, start + _BLOCK)
        a, b = (
            _searched(store.read(ids[some]), projection, metric).astype(np.float64)
            for ids in (queries, others)
        )
        products = -((a - b) ** 2) if metric == "l2" else a * b
        scores[some] = products.sum(axis=1)
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


def _held_out(
    store: Store,
    ids: Ids,
    codes: Ids,
    projection: LinearProjection,
    *,
    k: int,
    n_queries: int,
    seed: int,
) -> Pairs:
    """Ask items by a projection that was fitted without them, among those it was fitted on."""
    asked = _drawn(np.flatnonzero(fold_of(codes, _FOLDS, seed) == 0), n_queries, seed)
    rest = np.setdiff1d(np.arange(len(ids)), asked)
    places = codes[rest]

    def fitted_on() -> Iterator[tuple[Embeddings, Ids]]:
        for block, rows in store.blocks(ids[rest]):
            yield rows, places[np.searchsorted(ids[rest], block)]

    fit = Discriminant(fitted_on(), int(codes.max()) + 1)
    refitted = fit.projection(
        float(projection.info["shrinkage"]), min(projection.dim_out, fit.max_dim)
    )
    metric = store.manifest.metric
    pieces = []
    for block, embeddings in store.blocks(ids[asked]):
        found = exact_search(
            _searched(embeddings, refitted, metric),
            ((some, _searched(rows, refitted, metric)) for some, rows in store.blocks(ids[rest])),
            min(k, len(rest)),
            metric,
        )
        pieces.append(_pairs(block, found.ids, found.scores))
    return _labelled(_together(pieces), ids, codes)


def _drawn(items: Ids, most: int, seed: int) -> Ids:
    return np.sort(np.random.default_rng(seed).permutation(items)[:most])


def _searched(
    embeddings: Embeddings, projection: LinearProjection | None, metric: Metric
) -> Embeddings:
    vectors = embeddings if projection is None else projection.apply(embeddings)
    return check_scorable(vectors, vectors.shape[1], metric, "embeddings")


def _pairs(queries: Ids, found: Ids, scores: Any) -> Pairs:
    """Return a pair for each neighbour there is; of which class is not told yet."""
    there = found >= 0
    asked = np.broadcast_to(queries[:, None], found.shape)[there]
    values = np.asarray(scores, dtype=np.float64)[there]
    return Pairs(asked, found[there], values, np.zeros(len(asked), dtype=bool))


def _together(pieces: list[Pairs]) -> Pairs:
    none = _pairs(np.empty(0, np.int64), np.empty((0, 0), np.int64), np.empty((0, 0)))
    pieces = [none, *pieces]
    return Pairs(
        np.concatenate([piece.queries for piece in pieces]),
        np.concatenate([piece.others for piece in pieces]),
        np.concatenate([piece.scores for piece in pieces]),
        np.concatenate([piece.same for piece in pieces]),
    )


def _labelled(pairs: Pairs, ids: Ids, codes: Ids) -> Pairs:
    """Keep the pairs whose other one has a label, too, and tell whether it is the same."""
    places = np.minimum(np.searchsorted(ids, pairs.others), len(ids) - 1)
    known = ids[places] == pairs.others
    queries, others, scores, _ = (values[known] for values in pairs)
    same = codes[np.searchsorted(ids, queries)] == codes[places[known]]
    return Pairs(queries, others, scores, same)
