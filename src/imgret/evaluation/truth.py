"""The true neighbours of some queries, by comparing with everything in a gallery."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret.search import View
from imgret.support.exact import exact_search, pair_scores
from imgret.types import Embeddings, Ids

__all__ = ["Truth"]


class Truth:
    """What a search has to be compared with.

    Parameters
    ----------
    view : View
    queries : float32 array of shape (n, dim)
        As they are searched.
    asked : int64 array of shape (n,) or None
        The items they are of, each asked for others; None where they are of no item.
    k : int
        Neighbours that are to be found.
    among : int64 array or None
        Increasing ids of the items that can be found; None: all there are.

    Attributes
    ----------
    queries : float32 array of shape (n, dim)
    wanted : int
        What to search for: ``k``, or one more where a query's own item may be among them.
    """

    def __init__(
        self,
        view: View,
        queries: Embeddings,
        asked: Ids | None,
        *,
        k: int,
        among: Ids | None = None,
    ) -> None:
        self._view, self._asked, self._k = view, asked, k
        self.wanted = k if asked is None else k + 1
        self.queries = queries
        found = exact_search(queries, view.blocks(among), self.wanted, view.metric)
        scores = found.scores
        if asked is not None:
            scores = np.where(found.ids == asked[:, None], -np.inf, scores)
        # The k-th best score; what reaches it is right, whichever of equals it is.
        least = np.sort(scores, axis=1)[:, ::-1][:, k - 1 : k]
        self._least = least - np.float32(1e-5) * np.maximum(np.abs(least), 1)

    def shares(self, ids: Ids) -> NDArray[np.float64]:
        """Return what part of the true neighbours is among those found, for each query.

        Parameters
        ----------
        ids : int64 array of shape (n, m)
            -1 for none. Scored again, as those of a compressed index may be others.
        """
        held = np.where(ids >= 0, ids, self._view.ids[0])
        scores = pair_scores(self.queries, held, self._view.read, self._view.metric)
        good = (scores >= self._least) & (ids >= 0)
        if self._asked is not None:
            good &= ids != self._asked[:, None]
        shares: NDArray[np.float64] = np.minimum(good.sum(axis=1), self._k) / self._k
        return shares
