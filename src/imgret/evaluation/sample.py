"""Sample of queries that an index is measured with, and their true neighbours."""

from __future__ import annotations

import warnings
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

__all__ = ["Sample", "index_of"]

Shares: TypeAlias = NDArray[np.float64]

# At most one item in this many is left out of an index.
_LEFT_OUT = 20
# Largest gallery for which indexes without the query items are built; this takes seconds.
_BUILT = 20_000
# Number of neighbours of an item from which a synthetic query takes its direction.
_AROUND = 100


class _Twin(NamedTuple):
    """An index like the one that is measured, without some of the query items.

    ``out`` and ``within`` are positions among all query items.
    """

    built: VectorIndex
    out: Ids
    truth_out: Truth
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
    queries: each is as far from an item as the item's nearest neighbour, in the direction from
    one of its neighbours to another.

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
        if queries is not None:
            self._truth = Truth(view, view.project(queries, "queries"), None, k=k)
        else:
            asked = view.sample(n_queries, seed)
            self._truth = Truth(view, view.read(asked), asked, k=k)
            if len(asked) > 1 and len(view) > k + 2:
                if (
                    isinstance(index, VectorIndex)
                    and (index.finds_itself or index.needs_training)
                    and len(view) <= _BUILT
                ):
                    self._twins = self._without(index, asked, seed)
                elif index.finds_itself:
                    self._items = self._truth
                    made_up = self._made_up(self._items.queries, asked, view.ids, seed)
                    self._truth = Truth(view, made_up, None, k=k)
        self.queries, self.wanted = self._truth.queries, self._truth.wanted

    def shares(self) -> Shares:
        """Return the share of true neighbours that the index, as configured, finds per query.

        For items, the shares are corrected for queries that are not in the index. Only their mean
        is meaningful then: a single share may be below 0 or above 1.
        """
        found = _asked(self._index, self._truth)
        if not self._twins:
            return found
        settings = self._index.settings()
        without, within, times = (np.zeros(len(found)) for _ in range(3))
        for twin in self._twins:
            twin.built.configure(**settings)
            without[twin.out] = _asked(twin.built, twin.truth_out)
            within[twin.within] += _asked(twin.built, twin.truth_within)
            times[twin.within] += 1
        corrected: Shares = found + without - within / times
        return corrected

    def flattering(self) -> Shares | None:
        """Return the shares of items that are in the graph; None without synthetic queries."""
        return None if self._items is None else _asked(self._index, self._items)

    def _without(self, index: VectorIndex, asked: Ids, seed: int) -> list[_Twin]:
        """Build two or more indexes, each without some of the query items."""
        ids = self._view.ids
        most = min(len(ids) // _LEFT_OUT, len(ids) - self._k - 1, -(-len(asked) // 2))
        parts = -(-len(asked) // max(1, most))
        order = np.random.default_rng(seed).permutation(len(asked))
        twins = []
        for out in map(np.sort, np.array_split(order, parts)):
            rest = np.setdiff1d(ids, asked[out])
            within = np.setdiff1d(np.arange(len(asked)), out)
            twins.append(
                _Twin(
                    self._built(index, rest),
                    out,
                    Truth(self._view, self._view.read(asked[out]), None, k=self._k, among=rest),
                    within,
                    Truth(
                        self._view,
                        self._view.read(asked[within]),
                        asked[within],
                        k=self._k,
                        among=rest,
                    ),
                )
            )
        return twins

    def _made_up(self, items: Embeddings, asked: Ids, ids: Ids, seed: int) -> Embeddings:
        """Return a synthetic query near each item."""
        metric = self._view.metric
        near = exact_search(
            items,
            self._view.blocks(ids),
            _AROUND + 1,
            metric,
        ).ids
        # Drop the item itself; if it has many copies, it may not be among its neighbours.
        order = np.argsort(near == asked[:, None], axis=1, kind="stable")[:, :_AROUND]
        near = np.take_along_axis(near, order, axis=1)
        generator = np.random.default_rng(seed)
        two = generator.permuted(near, axis=1)[:, :2]
        nearest, start, end = (
            self._view.read(some).astype(np.float64) for some in (near[:, 0], two[:, 0], two[:, 1])
        )
        items = items.astype(np.float64)
        way, steps = end - start, np.linalg.norm(nearest - items, axis=1, keepdims=True)
        if metric.on_sphere:  # along the sphere
            way -= (way * items).sum(axis=1, keepdims=True) * items
        way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12)
        if metric.on_sphere:
            cosines = (nearest * items).sum(axis=1, keepdims=True)
            made = cosines * items + np.sqrt(np.maximum(1 - cosines**2, 0)) * way
            return unit_length(made.astype(np.float32))
        made = items + steps * way
        found: Embeddings = made.astype(np.float32)
        return found

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
