"""True neighbours of queries, found by an exact search of a whole gallery."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret.search import View
from imgret.support.exact import exact_search, pair_scores
from imgret.types import Embeddings, Ids, Neighbors

__all__ = ["Truth"]

# Values of vectors that are read at a time: 32 MB.
_READ_VALUES = 2**23


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
            blocks = view.scan() if among is None else view.blocks(among)
            found = exact_search(queries, blocks, self.wanted, view.metric)
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
        scores = np.empty(held.shape, dtype=np.float32)
        step = max(1, _READ_VALUES // (held.shape[1] * self._view.dim))
        for start in range(0, len(held), step):
            part = slice(start, start + step)
            some, places = np.unique(held[part], return_inverse=True)
            places, vectors = places.reshape(held[part].shape), self._view.read(some)
            scores[part] = pair_scores(
                self.queries[part], places, vectors.__getitem__, self._view.metric
            )
        good = (scores >= self._least) & (ids >= 0)
        if self._asked is not None:
            good &= ids != self._asked[:, None]
        shares: NDArray[np.float64] = np.minimum(good.sum(axis=1), self._k) / self._k
        return shares
