"""Queries that an index is measured with, and their true neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.abc import VectorIndex
from imgret.errors import InvalidInputError
from imgret.evaluation.truth import Truth, drawn
from imgret.galleries.local.store import Store
from imgret.support.exact import exact_search
from imgret.support.unit import unit_length
from imgret.types import Embeddings, Ids

__all__ = ["Sample"]

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
    index : VectorIndex
        Of all items of the store.
    store : Store
        Not to be changed meanwhile.
    project : callable
        Embeddings -> indexed vectors.
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
        index: VectorIndex,
        store: Store,
        project: Callable[[Embeddings], Embeddings],
        *,
        k: int,
        queries: Embeddings | None,
        n_queries: int,
        seed: int,
    ) -> None:
        if queries is not None and not len(queries):
            raise InvalidInputError("queries: expected at least 1, found none")
        self._index, self._store, self._project, self._k = index, store, project, k
        ids = store.catalog.live_ids()
        # The index, or one like it, and the truth of the queries that it is asked.
        self._parts: list[tuple[VectorIndex, Truth]] = []
        self._items: Truth | None = None
        if queries is not None:
            self._parts.append((index, self._truth(queries, None, None)))
        elif not index.finds_itself or len(ids) <= k + 1:
            asked = drawn(ids, n_queries, seed)
            self._parts.append((index, self._truth(store.read(asked), asked, None)))
        elif len(ids) <= _BUILT:
            self._leave_out(ids, drawn(ids, n_queries, seed), seed)
        else:
            asked = drawn(ids, n_queries, seed)
            self._items = self._truth(store.read(asked), asked, None)
            made_up = self._made_up(self._items.queries, asked, ids, seed)
            self._parts.append((index, self._truth(made_up, None, None, as_searched=True)))
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
            truth = self._truth(self._store.read(asked), None, rest)
            self._parts.append((self._built(rest), truth))

    def _made_up(self, items: Embeddings, asked: Ids, ids: Ids, seed: int) -> Embeddings:
        """Return a vector near each of some items."""
        cosine = self._index.metric == "cosine"
        near = exact_search(
            items,
            ((block, self._vectors(block)) for block, _ in self._store.blocks(ids)),
            _AROUND + 1,
            self._index.metric,
        ).ids
        # Without the item itself; of many copies it may not be among them.
        order = np.argsort(near == asked[:, None], axis=1, kind="stable")[:, :_AROUND]
        near = np.take_along_axis(near, order, axis=1)
        generator = np.random.default_rng(seed)
        two = generator.permuted(near, axis=1)[:, :2]
        nearest, start, end = (
            self._vectors(some).astype(np.float64) for some in (near[:, 0], two[:, 0], two[:, 1])
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

    def _vectors(self, ids: Ids) -> Embeddings:
        """Return items as they are searched."""
        vectors = self._project(self._store.read(ids))
        return unit_length(vectors) if self._index.metric == "cosine" else vectors

    def _truth(
        self,
        embeddings: Embeddings,
        asked: Ids | None,
        among: Ids | None,
        *,
        as_searched: bool = False,
    ) -> Truth:
        return Truth(
            self._store,
            self._project,
            embeddings,
            asked,
            k=self._k,
            metric=self._index.metric,
            among=among,
            as_searched=as_searched,
        )

    def _built(self, ids: Ids) -> VectorIndex:
        """Return an index like the one that is measured, of some items."""
        index = type(self._index).from_config(self._index.config())
        if index.needs_training:
            index.train(self._project(self._store.read(ids)), expected=len(ids))
        for block, embeddings in self._store.blocks(ids):
            index.add(self._project(embeddings), block)
        index.refine_by(lambda some: self._project(self._store.read(some)))
        return index
