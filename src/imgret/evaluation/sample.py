"""Queries that an index is measured with, and their true neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from imgret.abc import VectorIndex
from imgret.errors import InvalidInputError
from imgret.evaluation.truth import Truth, drawn
from imgret.storage import Store
from imgret.types import Embeddings, Ids

__all__ = ["Sample"]

# Of the items, one in so many is left out of a graph at a time, at most.
_LEFT_OUT = 5
# Graphs without the items that ask are built of so many at most: seconds.
_BUILT = 20_000


class Sample:
    """Some queries for an index: those that are given, or items of the gallery.

    A graph finds a vector that is in it more easily than a new one, as its links lead from that
    vector to its neighbours. So a graph is measured by items that are left out of another one,
    built of the rest. Of a large gallery its own items are asked, and by how much that flatters is
    measured by graphs of a part of the gallery.

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
        # Of each block of queries what is added up: (index, its truth, sign).
        self._parts: list[list[tuple[VectorIndex, Truth, int]]] = []
        if queries is not None:
            self._parts.append([(index, self._truth(queries, None, None), 1)])
        elif not index.finds_itself or len(ids) <= k + 1:
            asked = drawn(ids, n_queries, seed)
            self._parts.append([(index, self._truth(store.read(asked), asked, None), 1)])
        else:
            self._leave_out(ids, n_queries, seed)
        self.queries = np.concatenate([block[0][1].queries for block in self._parts])
        self.wanted = max(block[0][1].wanted for block in self._parts)

    def shares(self) -> NDArray[np.float64]:
        """Return what part of its true neighbours the index finds for each query, as it is set.

        Where it is a difference that is measured on a part of the gallery, it is the mean that
        counts: single values may be below 0 or over 1.
        """
        settings = self._index.settings()
        blocks = []
        for block in self._parts:
            total = np.zeros(len(block[0][1].queries))
            for index, truth, sign in block:
                if index is not self._index:
                    index.configure(**settings)
                found = index.search(truth.queries, truth.wanted)
                total += sign * truth.shares(found.ids)
            blocks.append(total)
        return np.concatenate(blocks)

    def _leave_out(self, ids: Ids, n_queries: int, seed: int) -> None:
        """Build graphs without the items that ask."""
        store = self._store
        generator = np.random.default_rng(seed)
        part = np.sort(generator.choice(ids, min(len(ids), _BUILT), replace=False))
        most = max(1, min(len(part) // _LEFT_OUT, len(part) - self._k))
        asking = generator.permutation(drawn(part, n_queries, seed))
        for start in range(0, len(asking), most):
            asked = np.sort(asking[start : start + most])
            rest = np.setdiff1d(part, asked)
            embeddings = store.read(asked)
            without = (self._built(rest), self._truth(embeddings, None, rest), 1)
            if len(part) == len(ids):
                self._parts.append([without])
                continue
            self._parts.append(
                [
                    (self._index, self._truth(embeddings, asked, None), 1),
                    (self._built(part), self._truth(embeddings, asked, part), -1),
                    without,
                ]
            )

    def _truth(self, embeddings: Embeddings, asked: Ids | None, among: Ids | None) -> Truth:
        return Truth(
            self._store,
            self._project,
            embeddings,
            asked,
            k=self._k,
            metric=self._index.metric,
            among=among,
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
