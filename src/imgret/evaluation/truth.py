"""The true neighbours of some queries, by comparing with everything in a gallery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.galleries.local.store import Store
from imgret.support.exact import exact_search, pair_scores
from imgret.support.unit import unit_length
from imgret.types import Embeddings, Ids, Metric

__all__ = ["Truth", "drawn"]


def drawn(ids: Ids, n_queries: int, seed: int) -> Ids:
    """Draw items to ask with: increasing, all of them where there are no more."""
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(ids, min(n_queries, len(ids)), replace=False))


class Truth:
    """What a search has to be compared with.

    Parameters
    ----------
    store : Store
        Not to be changed meanwhile.
    project : callable
        Embeddings -> indexed vectors.
    embeddings : float32 array of shape (n, dim)
        Queries.
    asked : int64 array of shape (n,) or None
        The items they are of, each asked for others; None where they are of no item.
    k : int
        Neighbours that are to be found.
    metric : {"cosine", "ip", "l2"}
    among : int64 array or None
        Increasing ids of the items that can be found; None: all there are.
    as_searched : bool
        Whether the embeddings are queries already, projected and of unit length.

    Attributes
    ----------
    queries : float32 array of shape (n, d)
        As they are searched: projected, of unit length for metric ``"cosine"``.
    wanted : int
        What to search for: ``k``, or one more where a query's own item may be among them.
    """

    def __init__(
        self,
        store: Store,
        project: Callable[[Embeddings], Embeddings],
        embeddings: Embeddings,
        asked: Ids | None,
        *,
        k: int,
        metric: Metric,
        among: Ids | None = None,
        as_searched: bool = False,
    ) -> None:
        self._store, self._project, self._asked = store, project, asked
        self._k, self._metric = k, metric
        self.wanted = k if asked is None else k + 1
        self.queries = embeddings if as_searched else self._comparable(embeddings)
        ids = store.catalog.live_ids() if among is None else among
        blocks = ((block, self._comparable(rows)) for block, rows in store.blocks(ids))
        found = exact_search(self.queries, blocks, self.wanted, metric)
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
            -1 for none. Scored anew, as those of a compressed index may be others.
        """

        def vectors_of(some: Ids) -> Any:
            return self._project(self._store.read(some))

        scores = pair_scores(self.queries, np.maximum(ids, 0), vectors_of, self._metric)
        good = (scores >= self._least) & (ids >= 0)
        if self._asked is not None:
            good &= ids != self._asked[:, None]
        shares: NDArray[np.float64] = np.minimum(good.sum(axis=1), self._k) / self._k
        return shares

    def _comparable(self, embeddings: Embeddings) -> Embeddings:
        vectors = self._project(embeddings)
        return unit_length(vectors) if self._metric == "cosine" else vectors
