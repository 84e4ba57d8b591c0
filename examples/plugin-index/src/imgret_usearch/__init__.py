"""A USearch index for imgret."""

import threading
from pathlib import Path
from typing import Any, final

import numpy as np
import onnxruntime  # noqa: F401  # before usearch 2.26, or importing it later ends the process
from usearch.index import Index

from imgret import VectorIndex
from imgret.types import Embeddings, Ids, Json, Metric

__all__ = ["USearchIndex"]

# USearch's names. For "cosine", imgret passes vectors of length 1.
_METRICS = {"cosine": "ip", "ip": "ip", "l2": "l2sq"}


@final
class USearchIndex(VectorIndex):
    """Searches a graph of near neighbours (HNSW) that USearch stores in float32.

    Parameters
    ----------
    dim : int
        Dimension of the vectors, at least 1.
    metric : {"cosine", "ip", "l2"}
        Scores are the cosine, the inner product, or the negated squared distance.
    connectivity : int
        Number of neighbours of each vector in the graph (M).
    expansion_add : int
        Number of candidates kept while inserting a vector (efConstruction).
    expansion_search : int
        Number of candidates kept while searching (efSearch).
    """

    name = "usearch"
    supports_remove = True

    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        *,
        connectivity: int = 16,
        expansion_add: int = 128,
        expansion_search: int = 64,
    ) -> None:
        super().__init__(dim, metric)
        self.connectivity = connectivity
        self.expansion_add = expansion_add
        self.expansion_search = expansion_search
        self._graph = self._new()
        # USearch has one working memory per thread of its own, so searches run one at a time.
        self._one_at_a_time = threading.Lock()

    def _new(self) -> Any:
        return Index(ndim=self.dim, metric=_METRICS[self.metric], dtype="f32", **self._options())

    def _options(self) -> Json:
        return {
            "connectivity": self.connectivity,
            "expansion_add": self.expansion_add,
            "expansion_search": self.expansion_search,
        }

    def _add(self, vectors: Embeddings, ids: Ids) -> None:
        try:
            self._graph.add(ids.astype(np.uint64), vectors)
        except BaseException:  # all or nothing: remove the added ones
            self._graph.remove(ids.astype(np.uint64))
            raise

    def _remove(self, ids: Ids) -> None:
        self._graph.remove(ids.astype(np.uint64))

    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        del allowed  # never given: supports_allowed is False
        with self._one_at_a_time:
            found = self._graph.search(queries, k)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        # USearch returns a different type for one query, and may return fewer than k matches.
        for row, matches in enumerate([found] if len(queries) == 1 else found):
            ids[row, : len(matches)] = matches.keys
            # Its distances, 1 - product and the squared distance, are better when lower.
            higher = -matches.distances if self.metric == "l2" else 1 - matches.distances
            scores[row, : len(matches)] = higher
        return ids, scores

    def _reconstruct(self, ids: Ids) -> Embeddings:
        return np.stack(self._graph.get(ids.astype(np.uint64)))

    def _save(self, directory: Path) -> None:
        self._graph.save(str(directory / "graph.usearch"))

    def _load(self, directory: Path) -> None:
        self._graph.load(str(directory / "graph.usearch"))
