"""Queries that an index is measured with, and their true neighbours."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.abc import VectorIndex
from imgret.errors import InvalidInputError, UnsupportedError
from imgret.evaluation.truth import Truth
from imgret.search import View
from imgret.support.exact import exact_search
from imgret.support.unit import unit_length
from imgret.types import Embeddings, Ids

__all__ = ["Sample", "index_of"]

Shares: TypeAlias = NDArray[np.float64]

# Of the items, one in so many is left out of a graph at a time, at most.
_LEFT_OUT = 20
# Graphs without the items that ask are built of so many at most: seconds.
_BUILT = 20_000
# Neighbours of an item that a vector which is made up takes its direction from.
_AROUND = 100


class Sample:
    """Some queries for an index: those that are given, or items of the gallery.

    A graph finds a vector that is in it more easily than a new one, as its links lead from that
    vector to its neighbours. So a graph is measured by items that are left out of another one,
    built of the rest. Where there are too many items for that, vectors are made up that lie as far
    from an item as its nearest other does, in the direction from one of its neighbours to another.

    Parameters
    ----------
    view : View
        Of all items, with an `View.index`.
    k : int
        Neighbours that are to be found.
    queries : float32 array of shape (n, dim) or None
        Embeddings to ask with; None: of items.
    n_queries, seed : int
        How many items are drawn, and by which seed.

    Attributes
    ----------
    queries : float32 array of shape (n, d)
        As they are searched.
    wanted : int
        What to search for.
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
        ids = view.ids
        # The index, or one like it, and the truth of the queries that it is asked.
        self._parts: list[tuple[VectorIndex, Truth]] = []
        self._items: Truth | None = None
        if queries is not None:
            self._parts.append((index, self._truth(view.project(queries, "queries"), None)))
        elif not index.finds_itself or len(ids) <= k + 1:
            asked = view.sample(n_queries, seed)
            self._parts.append((index, self._truth(view.read(asked), asked)))
        elif len(ids) <= _BUILT:
            self._leave_out(ids, view.sample(n_queries, seed), seed)
        else:
            asked = view.sample(n_queries, seed)
            self._items = self._truth(view.read(asked), asked)
            made_up = self._made_up(self._items.queries, asked, ids, seed)
            self._parts.append((index, self._truth(made_up, None)))
        self.queries = np.concatenate([truth.queries for _, truth in self._parts])
        self.wanted = max(truth.wanted for _, truth in self._parts)

    def shares(self) -> Shares:
        """Return what part of its true neighbours the index finds for each query, as it is set."""
        settings = self._index.settings()
        found = []
        for index, truth in self._parts:
            if index is not self._index:
                index.configure(**settings)
            found.append(truth.shares(index.search(truth.queries, truth.wanted).ids))
        return np.concatenate(found)

    def flattering(self) -> Shares | None:
        """Return the shares of items that are in the graph; None where nothing is made up."""
        if self._items is None:
            return None
        return self._items.shares(self._index.search(self._items.queries, self._items.wanted).ids)

    def _leave_out(self, ids: Ids, asking: Ids, seed: int) -> None:
        """Build graphs without the items that ask, which are few of those that are left."""
        most = max(1, min(len(ids) // _LEFT_OUT, len(ids) - self._k))
        asking = np.random.default_rng(seed).permutation(asking)
        for start in range(0, len(asking), most):
            asked = np.sort(asking[start : start + most])
            rest = np.setdiff1d(ids, asked)
            truth = self._truth(self._view.read(asked), None, rest)
            self._parts.append((self._built(rest), truth))

    def _made_up(self, items: Embeddings, asked: Ids, ids: Ids, seed: int) -> Embeddings:
        """Return a vector near each of some items."""
        cosine = self._index.metric == "cosine"
        near = exact_search(
            items,
            self._view.blocks(ids),
            _AROUND + 1,
            self._index.metric,
        ).ids
        # Without the item itself; of many copies it may not be among them.
        order = np.argsort(near == asked[:, None], axis=1, kind="stable")[:, :_AROUND]
        near = np.take_along_axis(near, order, axis=1)
        generator = np.random.default_rng(seed)
        two = generator.permuted(near, axis=1)[:, :2]
        nearest, start, end = (
            self._view.read(some).astype(np.float64) for some in (near[:, 0], two[:, 0], two[:, 1])
        )
        items = items.astype(np.float64)
        way, steps = end - start, np.linalg.norm(nearest - items, axis=1, keepdims=True)
        if cosine:  # along the sphere
            way -= (way * items).sum(axis=1, keepdims=True) * items
        way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12)
        if cosine:
            cosines = (nearest * items).sum(axis=1, keepdims=True)
            made = cosines * items + np.sqrt(np.maximum(1 - cosines**2, 0)) * way
            return unit_length(made.astype(np.float32))
        made = items + steps * way
        found: Embeddings = made.astype(np.float32)
        return found

    def _truth(self, queries: Embeddings, asked: Ids | None, among: Ids | None = None) -> Truth:
        return Truth(self._view, queries, asked, k=self._k, among=among)

    def _built(self, ids: Ids) -> VectorIndex:
        """Return an index like the one that is measured, of some items."""
        index = type(self._index).from_config(self._index.config())
        if index.needs_training:
            index.train(self._view.read(ids), expected=len(ids))
        for block, vectors in self._view.blocks(ids):
            index.add(vectors, block)
        index.refine_by(self._view.read)
        return index


def index_of(view: View) -> VectorIndex:
    """Return the index of a view, or raise where the gallery has none to measure and tune."""
    index = view.index
    if index is None:
        raise UnsupportedError(
            "this gallery searches by an engine of its own, whose index cannot be measured here"
        )
    return index
