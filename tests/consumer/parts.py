"""Parts of a stranger: a cropper, an index and a re-ranker, with all their types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np

from imgret import Cropper, VectorIndex
from imgret.abc import Reranker
from imgret.rerank import Asked, Searched
from imgret.types import Box, Embeddings, Ids, Image, Json, Metric, Neighbors


@final
class BrightPart(Cropper):
    """The box around what is brighter than the mean, by more than ``margin`` levels."""

    name = "bright-part"

    def __init__(self, margin: int = 10) -> None:
        self.margin = margin

    def config(self) -> Json:
        return {"margin": self.margin}

    def _detect(self, images: Sequence[Image]) -> Sequence[Box | None]:
        return [self._box(image) for image in images]

    def _box(self, image: Image) -> Box | None:
        gray = image.mean(axis=2)
        rows, columns = np.nonzero(gray > gray.mean() + self.margin)
        if not len(rows):
            return None
        top, left = int(rows.min()), int(columns.min())
        return Box(left, top, int(columns.max()) + 1, int(rows.max()) + 1)


@final
class TableIndex(VectorIndex):
    """Compares a query with every row of one table."""

    name = "table"
    supports_remove = True
    is_exact = True

    def __init__(self, dim: int, metric: Metric = "cosine") -> None:
        super().__init__(dim, metric)
        self._table: Embeddings = np.empty((0, dim), np.float32)

    def _options(self) -> Json:
        return {}

    def _add(self, vectors: Embeddings, ids: Ids) -> None:
        self._table = np.concatenate([self._table, vectors])

    def _remove(self, ids: Ids) -> None:
        self._table = self._table[~np.isin(self.ids, ids)]

    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        scores: Embeddings = self.metric.scores(queries[:, None], self._table[None])
        best = np.lexsort((np.broadcast_to(self.ids, scores.shape), -scores))[:, :k]
        return self.ids[best], np.take_along_axis(scores, best, axis=1)

    def _reconstruct(self, ids: Ids) -> Embeddings:
        return self._table[[np.flatnonzero(self.ids == id_)[0] for id_ in ids]]

    def _save(self, directory: Path) -> None:
        np.save(directory / "table.npy", self._table)

    def _load(self, directory: Path) -> None:
        self._table = np.load(directory / "table.npy")


@final
class WorstFirst(Reranker):
    """Turns the order of the candidates around."""

    name = "worst-first"
    scores = "kept"

    @property
    def candidates(self) -> int:
        return 3

    def _rank(self, asked: Asked, k: int, searched: Searched) -> Asked:
        ids, scores = asked.found
        return Asked(asked.queries, Neighbors(ids[:, ::-1][:, :k], scores[:, ::-1][:, :k]))
