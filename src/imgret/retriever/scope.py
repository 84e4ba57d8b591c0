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

    @property
    def metric(self) -> Metric:
        """``"cosine"``, ``"ip"`` or ``"l2"``."""
        return self._store.manifest.metric

    def find(self, embeddings: Any, k: int) -> Neighbors:
        """Return the ``k`` nearest of each embedding, -1 and -inf where there are fewer."""
        if not self._without:
            return self._searcher.search(embeddings, k, self._where)
        found = self._searcher.search(embeddings, k + len(self._without), self._where)
        left = (found.ids >= 0) & ~np.isin(found.ids, self._without)
        return first_of(found, left, k)

    def search(self, vectors: Embeddings, k: int) -> Neighbors:
        """Return the ``k`` nearest of each vector, -1 and -inf where there are fewer."""
        return self.find(self.embeddings(vectors), k)

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
            embeddings = self._projection.apply(embeddings)
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
