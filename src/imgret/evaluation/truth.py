"""True neighbours of queries, found by an exact search of a whole gallery."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret.search import View
from imgret.support.exact import exact_search, pair_scores
from imgret.types import Embeddings, Ids, Neighbors

__all__ = ["Truth"]


class Truth:
    """True neighbours of queries, to compare a search with.

    Parameters
    ----------
    view : View
    queries : float32 array of shape (n, dim)
        Queries in the space that is searched.
    asked : int64 array of shape (n,) or None
        Ids of the items that are the queries, which are not their own neighbours; None if the
        queries are not items.
    k : int
        Number of neighbours to find.
    among : int64 array or None
        Increasing ids of the items that can be found; None for all items.
    found : Neighbors or None
        Result of an exact search of these items for more neighbours than `wanted`, if there is one.

    Attributes
    ----------
    queries : float32 array of shape (n, dim)
    wanted : int
        Number of neighbours to search for: ``k``, or one more if a query's own item may be among
        them.
    """

    def __init__(
        self,
        view: View,
        queries: Embeddings,
        asked: Ids | None,
        *,
        k: int,
        among: Ids | None = None,
        found: Neighbors | None = None,
    ) -> None:
        self._view, self._asked, self._k = view, asked, k
        self.wanted = k if asked is None else k + 1
        self.queries = queries
        if found is None:
            found = exact_search(queries, view.blocks(among), self.wanted, view.metric)
        scores = found.scores
        if asked is not None:
            scores = np.where(found.ids == asked[:, None], -np.inf, scores)
        # Whatever reaches the k-th best score counts as found, so ties do not matter.
        least = np.sort(scores, axis=1)[:, ::-1][:, k - 1 : k]
        self._least = least - np.float32(1e-5) * np.maximum(np.abs(least), 1)

    def shares(self, ids: Ids) -> NDArray[np.float64]:
        """Return the share of the true neighbours that were found, for each query.

        Parameters
        ----------
        ids : int64 array of shape (n, m)
            Ids that were found, -1 for none. They are scored again, because the scores of a
            compressed index may differ.
        """
        held = np.where(ids >= 0, ids, self._view.ids[0])
        scores = pair_scores(self.queries, held, self._view.read, self._view.metric)
        good = (scores >= self._least) & (ids >= 0)
        if self._asked is not None:
            good &= ids != self._asked[:, None]
        shares: NDArray[np.float64] = np.minimum(good.sum(axis=1), self._k) / self._k
        return shares
