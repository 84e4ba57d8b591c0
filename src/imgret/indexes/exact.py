"""Exact search with NumPy alone, the reference for the other indexes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import final

import numpy as np

from imgret.abc import VectorIndex
from imgret.errors import StoreCorruptError
from imgret.support.exact import exact_search
from imgret.types import Embeddings, Ids, Json, Metric

__all__ = ["ExactIndex"]

# Rows compared at a time. The number limits the memory of a search and suits the cache.
_BLOCK_ROWS = 16_384


@final
class ExactIndex(VectorIndex):
    """Compares every query with every vector.

    Equal scores are ordered by id. `FlatIndex` gives the same answers faster.

    Parameters
    ----------
    dim : int
        Dimension of the vectors, at least 1.
    metric : {"cosine", "ip", "l2"}
        See `VectorIndex`.
    """

    name = "exact"
    supports_remove = True
    supports_renumber = True
    supports_allowed = True
    is_exact = True
    cheap_to_build = True

    def __init__(self, dim: int, metric: Metric = "cosine") -> None:
        super().__init__(dim, metric)
        self._rows: Embeddings = np.empty((0, self.dim), dtype=np.float32)  # room to grow
        self._count = 0

    def _options(self) -> Json:
        return {}

    def _comparisons(self, k: int, n_allowed: int | None) -> float:  # noqa: ARG002  # the same for all
        return float(self._count if n_allowed is None else n_allowed)

    def _add(self, vectors: Embeddings, ids: Ids) -> None:
        count = self._count + len(ids)
        if count > len(self._rows):
            rows = np.empty((max(count, 2 * len(self._rows)), self.dim), dtype=np.float32)
            rows[: self._count] = self._rows[: self._count]
            self._rows = rows
        self._rows[self._count : count] = vectors
        self._count = count

    def _remove(self, ids: Ids) -> None:
        keep = np.ones(self._count, dtype=bool)
        keep[self._ids.positions(ids)] = False
        self._rows = self._rows[: self._count][keep]
        self._count = len(self._rows)

    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        def blocks() -> Iterator[tuple[Ids, Embeddings]]:
            all_ids = self.ids
            if allowed is None:
                for start in range(0, self._count, _BLOCK_ROWS):
                    stop = min(start + _BLOCK_ROWS, self._count)
                    yield all_ids[start:stop], self._rows[start:stop]
            else:
                positions = np.sort(self._ids.positions(allowed))
                for start in range(0, len(positions), _BLOCK_ROWS):
                    block = positions[start : start + _BLOCK_ROWS]
                    yield all_ids[block], self._rows[block]

        return exact_search(queries, blocks(), k, self.metric)

    def _reconstruct(self, ids: Ids) -> Embeddings:
        return self._rows[self._ids.positions(ids)]

    def _save(self, directory: Path) -> None:
        np.save(directory / "vectors.npy", self._rows[: self._count], allow_pickle=False)

    def _load(self, directory: Path) -> None:
        rows = np.load(directory / "vectors.npy", allow_pickle=False)
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != self.dim:
            raise StoreCorruptError(
                f"vectors.npy: expected float32 of shape (n, {self.dim}), found {rows.dtype} of "
                f"shape {rows.shape}"
            )
        self._rows = rows
        self._count = len(rows)
