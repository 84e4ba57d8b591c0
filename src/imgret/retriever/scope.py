"""What one search may find, in the space that is searched."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from imgret.abc.brute import first_of
from imgret.abc.checks import check_scorable
from imgret.projections import LinearProjection
from imgret.searcher import Searcher
from imgret.storage import Store
from imgret.types import Embeddings, Ids, Metric, Neighbors

__all__ = ["Scope"]


class Scope:
    """The items of a gallery that a filter lets pass, without some: an `imgret.rerank.Searched`.

    Vectors are those that are searched: embeddings, projected where there is a projection, and of
    length 1 for metric ``"cosine"``.

    Parameters
    ----------
    store : Store
    searcher : Searcher
    where : mapping, optional
    without : sequence of int
        Ids that are not to be found.
    """

    def __init__(
        self,
        store: Store,
        searcher: Searcher,
        where: Mapping[str, Any] | None = None,
        without: list[int] | None = None,
    ) -> None:
        self._store = store
        self._searcher = searcher
        self._where = where
        self._without = without
        self._projection = searcher.projection
        self._width = 1

    @property
    def metric(self) -> Metric:
        """``"cosine"``, ``"ip"`` or ``"l2"``."""
        return self._store.manifest.metric

    def find(self, embeddings: Any, k: int) -> Neighbors:
        """Return the ``k`` nearest of each embedding, -1 and -inf where there are fewer.

        There are at most as many columns as items in the gallery.
        """
        if not self._without:
            found = self._searcher.search(embeddings, k, self._where)
        else:
            found = self._searcher.search(embeddings, k + len(self._without), self._where)
            left = (found.ids >= 0) & ~np.isin(found.ids, self._without)
            found = first_of(found, left, k)
        self._width = max(self._width, found.ids.shape[1])
        return found

    def search(self, vectors: Embeddings, k: int) -> Neighbors:
        """Return the ``k`` nearest of each vector, -1 and -inf where there are fewer.

        There are ``k`` columns, or where ``k`` is above the number of items at most so many.
        """
        found = self.find(self.embeddings(vectors), k)
        missing = min(k, self._width) - found.ids.shape[1]
        if missing <= 0:
            return found
        # Items were removed since the first search, whose width re-rankers count on.
        pad = ((0, 0), (0, missing))
        return Neighbors(
            np.pad(found.ids, pad, constant_values=-1),
            np.pad(found.scores, pad, constant_values=-np.inf),
        )

    def read(self, ids: Ids) -> Embeddings:
        """Return the vectors of some ids."""
        return self.vectors(self._store.read(ids), "items")

    def vectors(self, embeddings: Any, name: str) -> Embeddings:
        """Return embeddings as they are searched.

        Raises
        ------
        InvalidInputError
            They are of another shape, not finite, or have no direction; ``name`` names them.
        """
        if self._projection is not None:
            embeddings = self._projection.apply(self._store.as_kept(embeddings))
            return check_scorable(embeddings, self._projection.dim_out, self.metric, name)
        return check_scorable(embeddings, self._store.dim, self.metric, name)

    def embeddings(self, vectors: Embeddings) -> Embeddings:
        """Return embeddings that are searched as these vectors.

        Vectors are combinations of such as come from embeddings, so that there are some.
        """
        if self._projection is None:
            return vectors
        lifted: Embeddings = vectors @ _inverse(self._projection) + self._projection.mean
        return lifted


@lru_cache(maxsize=4)
def _inverse(projection: LinearProjection) -> Embeddings:
    """Return what takes a projected vector back to where it is projected from."""
    inverse: Embeddings = np.linalg.pinv(projection.matrix.astype(np.float64)).astype(np.float32)
    return inverse
