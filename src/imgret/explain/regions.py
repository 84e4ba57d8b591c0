"""The regions of two images that correspond best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Link", "best_links"]


class Link(NamedTuple):
    """A window of the query's grid and one of the hit's.

    Attributes
    ----------
    query, hit : (int, int)
        First row and column of each window.
    share : float
        Share of the pairs' whole score that the two windows have.
    """

    query: tuple[int, int]
    hit: tuple[int, int]
    share: float


def best_links(scores: NDArray[np.float32], sides: tuple[int, int], n: int) -> Iterator[Link]:
    """Yield the pairs of windows with the highest scores, none of which overlap.

    Parameters
    ----------
    scores : float32 array of shape (h, w, h2, w2)
        Score of each pair of places.
    sides : (int, int)
        Side of the windows in the query and in the hit, in places.
    n : int
        Maximum number of pairs.
    """
    whole = float(np.maximum(scores, 0).sum())
    sums = _window_sums(_window_sums(scores, sides[0], (0, 1)), sides[1], (2, 3))
    for _ in range(n):
        row, column, row2, column2 = (int(i) for i in np.unravel_index(sums.argmax(), sums.shape))
        best = float(sums[row, column, row2, column2])
        if not best > 0:
            return
        yield Link((row, column), (row2, column2), best / whole)
        sums[_around(row, sides[0]), _around(column, sides[0])] = -np.inf
        sums[:, :, _around(row2, sides[1]), _around(column2, sides[1])] = -np.inf


def _around(start: int, side: int) -> slice:
    """Return the starts of all windows that overlap one."""
    return slice(max(0, start - side + 1), start + side)


def _window_sums(
    values: NDArray[np.float32], side: int, axes: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the sums over all windows along two axes."""
    for axis in axes:
        windows = np.lib.stride_tricks.sliding_window_view(values, side, axis=axis)
        values = windows.sum(axis=-1, dtype=np.float32)
    return values
