"""A growing set of ids that remembers the order they came in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret.types import Ids

__all__ = ["IdMap"]


class IdMap:
    """Ids in the order of insertion; the position of an id is found in O(log n).

    Ids that arrive in increasing order, as a gallery's do, cost 8 bytes each. In any other order
    they need a sorted copy, made on the first look-up. If they are 0, 1, 2 and so on, there is
    nothing to look up.

    Parameters
    ----------
    ids : int64 array of shape (n,), optional
        Initial ids; the array is used directly, not copied.

    Attributes
    ----------
    size : int
    is_range : bool
        Whether every id equals its position, as when nothing was removed.
    """

    def __init__(self, ids: Ids | None = None) -> None:
        self._buffer: Ids = np.empty(0, dtype=np.int64)
        self.size = 0
        self._increasing = True
        self.is_range = False
        self._order: NDArray[np.intp] | None = None
        if ids is not None:
            self._buffer, self.size = ids, len(ids)
            self._increasing = bool((ids[1:] > ids[:-1]).all())
            self._see_range()

    def __len__(self) -> int:
        return self.size

    @property
    def ids(self) -> Ids:
        """The ids by position: int64, shape (n,). Read-only view."""
        view = self._buffer[: self.size]
        view.flags.writeable = False
        return view

    def at(self, positions: Ids) -> Ids:
        """Return the ids at positions; -1 stays -1."""
        if self.is_range:
            return positions
        return np.where(positions >= 0, self._buffer[positions], -1)

    def _see_range(self) -> None:
        size = self.size
        self.is_range = self._increasing and size > 0 and bool(self._buffer[size - 1] < size)

    def append(self, ids: Ids) -> None:
        """Append ids that are new; the caller has checked this."""
        if not len(ids):
            return
        size = self.size + len(ids)
        if size > len(self._buffer):
            buffer = np.empty(max(size, 2 * len(self._buffer)), dtype=np.int64)
            buffer[: self.size] = self._buffer[: self.size]
            self._buffer = buffer
        self._increasing = (
            self._increasing
            and (self.size == 0 or bool(ids[0] > self._buffer[self.size - 1]))
            and bool((ids[1:] > ids[:-1]).all())
        )
        self._buffer[self.size : size] = ids
        self.size = size
        self._order = None
        self._see_range()

    def positions(self, ids: Ids) -> NDArray[np.intp]:
        """Return the position of each id; -1 if it is absent."""
        known = self._buffer[: self.size]
        if self.size == 0:
            return np.full(len(ids), -1, dtype=np.intp)
        if self.is_range:
            return np.where((ids >= 0) & (ids < self.size), ids, -1)
        if self._increasing:
            found = np.minimum(np.searchsorted(known, ids), self.size - 1)
        else:
            if self._order is None:
                self._order = np.argsort(known, kind="stable")
            place = np.searchsorted(known, ids, sorter=self._order)
            found = self._order[np.minimum(place, self.size - 1)]
        return np.where(known[found] == ids, found, -1)

    def remove(self, positions: NDArray[np.intp]) -> None:
        """Drop the ids at these positions; later ones move up."""
        keep = np.ones(self.size, dtype=bool)
        keep[positions] = False
        self._buffer = self._buffer[: self.size][keep]
        self.size = len(self._buffer)
        self._order = None
        self._see_range()
