"""Every item asked for its nearest others, every item read: in pieces that fit memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from imgret.abc.unit import unit_length
from imgret.storage import Store
from imgret.types import Embeddings, Ids, Neighbors

__all__ = ["Project", "Search", "answers", "indexed", "nearest_others", "scorable"]

Search: TypeAlias = Callable[[Embeddings, int], Neighbors]  # embeddings, k -> neighbours
Project: TypeAlias = Callable[[Embeddings], Embeddings]  # embeddings -> indexed vectors

_ANSWERS = 2**20  # neighbours held at once


def answers(store: Store, search: Search, asked: Ids, k: int) -> Iterator[tuple[slice, Neighbors]]:
    """Ask for the ``k`` nearest of some items, these themselves among them.

    Parameters
    ----------
    store : Store
    search : callable
        Embeddings and ``k`` -> neighbours.
    asked : int64 array of shape (n,)
        Ids, increasing.
    k : int

    Yields
    ------
    (slice, Neighbors)
        Of one part of ``asked`` after the other.
    """
    step = max(1, _ANSWERS // k)
    done = 0
    for block, embeddings in store.blocks(asked):
        for start in range(0, len(block), step):
            part = embeddings[start : start + step]
            yield slice(done, done + len(part)), search(part, k)
            done += len(part)


def nearest_others(
    store: Store, search: Search, ids: Ids, k: int
) -> Iterator[tuple[slice, Ids, Embeddings]]:
    """Ask every item for its ``k`` nearest others.

    Parameters
    ----------
    store, search
        As for `answers`.
    ids : int64 array of shape (n,)
        Increasing; all that ``search`` can find.
    k : int
        Below ``n``.

    Yields
    ------
    (slice, int64 array of shape (m, k), float32 array of shape (m, k))
        Of one part of ``ids`` after the other: places in ``ids``, best first, and scores.
    """
    for part, found in answers(store, search, ids, k + 1):
        itself = found.ids == ids[part, None]
        # Of many equals, or by an index that is not exact, the item itself may not be found;
        # then the farthest goes.
        order = np.argsort(itself, axis=1, kind="stable")[:, :k]
        places = np.searchsorted(ids, np.take_along_axis(found.ids, order, axis=1))
        yield part, places, np.take_along_axis(found.scores, order, axis=1)


def indexed(store: Store, project: Project, ids: Ids) -> Iterator[tuple[slice, Embeddings]]:
    """Yield the vectors that scores are computed from, one part of ``ids`` after the other."""
    done = 0
    for block, embeddings in store.blocks(ids):
        yield slice(done, done + len(block)), scorable(store, project(embeddings))
        done += len(block)


def scorable(store: Store, vectors: Embeddings) -> Embeddings:
    """Return vectors of length 1 for metric ``"cosine"``, for others as they are."""
    return unit_length(vectors) if store.manifest.metric == "cosine" else vectors
