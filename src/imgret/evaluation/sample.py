"""Sample of queries that an index is measured with, and their true neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.abc import Tunable, VectorIndex
from imgret.errors import InvalidInputError, UnsupportedError
from imgret.evaluation.truth import Truth
from imgret.search import View
from imgret.support.exact import exact_search
from imgret.support.unit import unit_length
from imgret.types import Embeddings, Ids

__all__ = ["Measured", "Sample", "index_of"]

Shares: TypeAlias = NDArray[np.float64]

# At most one item in this many is left out of an index.
_LEFT_OUT = 20
# Largest gallery for which indexes without the query items are built; this takes seconds.
_BUILT = 20_000
# Number of neighbours of an item from which a synthetic query takes its direction.
_AROUND = 100
# Distance of a synthetic query from its item, relative to that of the item's nearest neighbour: of
# one that is like an item, and of one that is farther from the items than these from each other.
_LIKE, _FARTHER = 0.5, 1.6


class Measured(NamedTuple):
    """Shares of true neighbours that an index finds, per query.

    Attributes
    ----------
    shares : float64 array of shape (n,)
        Of the queries. Only the mean is meaningful if they are items, because the shares are
        corrected: a single one may be below 0 or above 1.
    farther : float64 array of shape (n,) or None
        Of queries that are farther from the items than these are from each other; None if queries
        were given. Only the mean is meaningful here too.
    """

    shares: Shares
    farther: Shares | None

    @property
    def recall(self) -> float:
        """Mean of the shares, 0 to 1."""
        return float(np.clip(self.shares.mean(), 0, 1))

    @property
    def recall_farther(self) -> float:
        """Mean of the shares of farther queries, at most `recall`; `recall` if there are none."""
        farther = self.shares if self.farther is None else self.farther
        return float(np.clip(farther.mean(), 0, self.recall))


class _Twin(NamedTuple):
    """An index like the one that is measured, without some of the query items.

    ``out`` and ``within`` are positions among all query items.
    """

    built: VectorIndex
    out: Ids
    truth_out: Truth
    truth_farther: Truth
    within: Ids
    truth_within: Truth


class Sample:
    """Queries for an index: given ones, or items of the gallery.

    A graph finds a vector that it contains more easily than a new one, because its links lead
    from that vector to its neighbours. Cells and codes fit the few vectors that they were trained
    on better than new ones. So the recall of items is corrected by the loss in similar indexes:
    each of these is built without some of the items, and searched with these and with the items
    it contains.

    In a gallery too large for that, cells and codes are searched with items and not corrected,
    because they fit so many items no better than new vectors. A graph is searched with synthetic
    queries: each is half as far from an item as the item's nearest neighbour, in the direction
    from one of its neighbours to another.

    New queries may be farther from all items than these are from each other, which no gallery
    can tell. For these stand synthetic queries at 1.6 times the distance of the nearest neighbour,
    from items that are left out of the index where it is built again. Both factors were chosen by
    experiment, so that synthetic queries lose as much recall as new ones (`benchmarks/recall.py`).

    Parameters
    ----------
    view : View
        View of all items, with a `View.index`.
    k : int
        Number of neighbours to find.
    queries : float32 array of shape (n, dim) or None
        Embeddings of the queries; None to use items of the gallery.
    n_queries, seed : int
        Number of items to draw, and seed of the random sample.

    Attributes
    ----------
    queries : float32 array of shape (n, d)
        Queries in the space that is searched.
    wanted : int
        Number of neighbours to search for.
    """

    def __init__(
        self,
        view: View,
        *,
        k: int,
        queries: Embeddings | None,
        n_queries: int,
        seed: int,
    ) -> None:
        if queries is not None and not len(queries):
            raise InvalidInputError("queries: expected at least 1, found none")
        index = index_of(view)
        self._view, self._index, self._k = view, index, k
        self._twins: list[_Twin] = []
        self._items: Truth | None = None
        self._farther: Truth | None = None
        if queries is not None:
            self._truth = Truth(view, view.project(queries, "queries"), None, k=k)
        else:
            asked = view.sample(n_queries, seed)
            items = view.read(asked)
            count = k if index.is_exact else max(k, _AROUND)
            near = exact_search(items, view.scan(), count + 1, view.metric)
            self._truth = Truth(view, items, asked, k=k, found=near)
            if len(asked) > 1 and len(view) > k + 2 and not index.is_exact:
                self._synthesize(asked, near.ids, seed)
        self.queries, self.wanted = self._truth.queries, self._truth.wanted

    def measure(self) -> Measured:
        """Measure the index as it is configured."""
        found = _asked(self._index, self._truth)
        if not self._twins:
            farther_found = None if self._farther is None else _asked(self._index, self._farther)
            return Measured(found, farther_found)
        settings = self._index.settings()
        without, farther, within, times = (np.zeros(len(found)) for _ in range(4))
        for twin in self._twins:
            twin.built.configure(**settings)
            without[twin.out] = _asked(twin.built, twin.truth_out)
            farther[twin.out] = _asked(twin.built, twin.truth_farther)
            within[twin.within] += _asked(twin.built, twin.truth_within)
            times[twin.within] += 1
        corrected = found - within / times
        return Measured(corrected + without, corrected + farther)

    def flattering(self) -> Shares | None:
        """Return the shares of items that are in the graph; None without synthetic queries."""
        return None if self._items is None else _asked(self._index, self._items)

    def _synthesize(self, asked: Ids, near: Ids, seed: int) -> None:
        """Prepare queries that are not items, and the indexes to search with them."""
        index, items = self._index, self._truth.queries
        # Drop the item itself; if it has many copies, it may not be among its neighbours.
        order = np.argsort(near == asked[:, None], axis=1, kind="stable")[:, :-1]
        moved = self._moved(items, np.take_along_axis(near, order, axis=1), seed)
        farther = moved(_FARTHER)
        if (
            isinstance(index, VectorIndex)
            and (index.finds_itself or index.needs_training)
            and len(self._view) <= _BUILT
        ):
            self._twins = self._without(index, asked, farther, seed)
            return
        self._farther = Truth(self._view, farther, None, k=self._k)
        if index.finds_itself:
            self._items = self._truth
            self._truth = Truth(self._view, moved(_LIKE), None, k=self._k)

    def _moved(self, items: Embeddings, near: Ids, seed: int) -> Callable[[float], Embeddings]:
        """Return a function of a distance that gives a synthetic query near each item.

        The distance is relative to that of the item's nearest neighbour. The direction is from one
        neighbour to another.
        """
        metric = self._view.metric
        near = np.where(near >= 0, near, near[:, :1])
        two = np.random.default_rng(seed).permuted(near, axis=1)[:, -2:]
        vectors = [items, *map(self._view.read, (near[:, 0], two[:, 0], two[:, -1]))]
        if metric.by_product:  # the length of a query has no effect
            vectors = list(map(unit_length, vectors))
        start, nearest, a, b = (each.astype(np.float64) for each in vectors)
        distances = np.linalg.norm(nearest - start, axis=1, keepdims=True)
        way = b - a
        way *= distances / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12)

        def moved(factor: float) -> Embeddings:
            return metric.prepare((start + factor * way).astype(np.float32))

        return moved

    def _without(
        self, index: VectorIndex, asked: Ids, farther: Embeddings, seed: int
    ) -> list[_Twin]:
        """Build two or more indexes, each without some of the query items."""
        ids = self._view.ids
        most = min(len(ids) // _LEFT_OUT, len(ids) - self._k - 1, -(-len(asked) // 2))
        parts = -(-len(asked) // max(1, most))
        order = np.random.default_rng(seed).permutation(len(asked))
        twins = []
        for out in map(np.sort, np.array_split(order, parts)):
            rest = np.setdiff1d(ids, asked[out])
            within = np.setdiff1d(np.arange(len(asked)), out)
            truth = partial(Truth, self._view, k=self._k, among=rest)
            twins.append(
                _Twin(
                    self._built(index, rest),
                    out,
                    truth(self._view.read(asked[out]), None),
                    truth(farther[out], None),
                    within,
                    truth(self._view.read(asked[within]), asked[within]),
                )
            )
        return twins

    def _built(self, like: VectorIndex, ids: Ids) -> VectorIndex:
        """Return an index of some items, like the one that is measured."""
        index = type(like).from_config(like.config())
        if index.needs_training:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the measured index has already warned
                index.train(self._view.read(ids), expected=len(ids))
        for block, vectors in self._view.blocks(ids):
            index.add(vectors, block)
        index.refine_by(self._view.read)
        return index


def _asked(index: Tunable, truth: Truth) -> Shares:
    """Return the share of the true neighbours that an index finds, per query."""
    return truth.shares(index.search(truth.queries, truth.wanted).ids)


def index_of(view: View) -> Tunable:
    """Return the index of a view, or raise if the gallery has none to measure and tune."""
    index = view.index
    if index is None:
        raise UnsupportedError(
            "expected a gallery whose index can be measured, found one that searches with its own "
            "engine and has no such index"
        )
    return index
