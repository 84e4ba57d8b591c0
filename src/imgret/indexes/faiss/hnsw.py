"""Search along a graph of near neighbours."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from imgret.abc.brute import first_of
from imgret.abc.checks import check_count
from imgret.errors import InvalidInputError
from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.base import FaissIndex, flat_rows, row_selector, scan_work, threads
from imgret.types import Embeddings, Ids, Json, Metric, Neighbors

__all__ = ["HNSWIndex", "HNSWSQ8Index"]

# What it costs to compare with a vector anywhere in memory, in vectors of a scan.
_JUMP = 6.0

# An HNSW graph is rebuilt when fewer of its rows than this are still in the index.
_LIVE_SHARE = 0.75


class _Graph(FaissIndex):
    """What graphs share, whatever form their vectors are kept in."""

    supports_remove = True
    supports_allowed = True
    finds_itself = True
    # About 1 ms as well, as vectors here and there are fetched from memory, not from the cache.
    _worth_threads = 1_500_000

    def __init__(
        self,
        dim: int,
        metric: Metric,
        *,
        M: int,  # noqa: N803  # the paper's name, and Faiss's
        ef_construction: int,
        ef_search: int,
    ) -> None:
        super().__init__(dim, metric)
        self.M = check_count(M, "M")
        if self.M < 2:
            raise InvalidInputError("M: expected at least 2 neighbours a vector, found 1")
        self.ef_construction = check_count(ef_construction, "ef_construction")
        self.ef_search = check_count(ef_search, "ef_search")

    @abstractmethod
    def _new(self) -> Any:
        """Return a graph without vectors."""

    @abstractmethod
    def _rows(self, rows: NDArray[np.integer[Any]]) -> Embeddings:
        """Return the vectors at these rows of the graph."""

    def _set_graph(self, graph: Any, live: NDArray[np.int64] | None) -> None:
        """Take a graph and its rows that are in the index, in their order; None means all."""
        graph.hnsw.efSearch = self.ef_search
        self._faiss = graph
        self._total = int(graph.ntotal)  # rows, those that were removed included
        self._live = live
        self._live_selector = None if live is None else row_selector(live, graph.ntotal)
        self._use_huge_pages()

    def _options(self) -> Json:
        return {"M": self.M, "ef_construction": self.ef_construction, "ef_search": self.ef_search}

    def _work(self, k: int, n_allowed: int | None) -> float:
        walk, scan = self._ef(k, n_allowed) * self.M, self._scanned(n_allowed)
        return walk * _JUMP if walk < scan else scan

    def _sweep(self) -> Mapping[str, Sequence[int]]:
        return {"ef_search": [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]}

    def _configure(self, settings: Mapping[str, int]) -> None:
        self.ef_search = settings["ef_search"]
        if self._faiss is not None:
            self._faiss.hnsw.efSearch = self.ef_search

    def _scanned(self, n_allowed: int | None) -> float:
        return scan_work(self._total, len(self), n_allowed)

    def _ef(self, k: int, n_allowed: int | None) -> int:
        """Return the candidates to keep: with a filter the walk goes on until as many pass."""
        among = len(self) if n_allowed is None else n_allowed
        wanted = max(self.ef_search, k)
        return wanted if among == self._total else math.ceil(wanted * self._total / max(among, 1))

    def _storage(self) -> Any:
        """Return the index of the vectors themselves."""
        return faiss.downcast_index(self._faiss.storage)

    def _graph_rows(self, ids: Ids) -> NDArray[np.integer[Any]]:
        positions = self._ids.positions(ids)
        return positions if self._live is None else self._live[positions]

    def _add(self, vectors: Embeddings, ids: Ids) -> None:  # noqa: ARG002  # rows keep their order
        before = self._faiss.ntotal
        live = self._live
        try:
            with threads(len(vectors) * self.ef_construction * self.M * self.dim):
                self._faiss.add(vectors)
            if live is not None:
                live = np.concatenate([live, np.arange(before, self._faiss.ntotal)])
        except BaseException:
            if self._faiss.ntotal > before:  # rows that came in before the failure never count
                self._set_graph(self._faiss, np.arange(before) if live is None else live)
            raise
        self._set_graph(self._faiss, live)

    def _removal_rebuilds(self, count: int) -> bool:
        return len(self) - count < _LIVE_SHARE * self._total

    def _remove(self, ids: Ids) -> None:
        total = self._total
        keep = np.ones(len(self), dtype=bool)
        keep[self._ids.positions(ids)] = False
        live = np.flatnonzero(keep) if self._live is None else self._live[keep]
        if len(live) >= _LIVE_SHARE * total:
            self._set_graph(self._faiss, live)
            return
        graph = self._new()
        if len(live):
            with threads(len(live) * self.ef_construction * self.M * self.dim):
                graph.add(self._rows(live))
        self._set_graph(graph, None)

    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        count = None if allowed is None else len(allowed)
        ef_search = self._ef(k, count)
        selector = self._live_selector
        if allowed is not None:
            selector = self._selected(allowed, self._graph_selector)
        walk, scan = ef_search * self.M, self._scanned(count)
        if self._live is not None and allowed is None and walk < scan:
            rows, scores = self._search_live(queries, k, ef_search)
        elif walk < scan:
            params = None  # those of the graph
            if selector is not None or ef_search != self.ef_search:
                params = faiss.SearchParametersHNSW(sel=selector, efSearch=ef_search)
            rows, scores = self._ask(queries, k, params, work=walk * _JUMP)
        else:  # a walk would compare as many as a scan
            params = faiss.SearchParameters(sel=selector)
            rows, scores = self._ask(queries, k, params, work=scan, index=self._storage())
        if self._live is not None:
            rows = np.where(rows >= 0, np.searchsorted(self._live, rows), -1)
        return self._named(rows), scores

    def _search_live(self, queries: Embeddings, k: int, ef_search: int) -> tuple[Ids, Embeddings]:
        """Search among the rows that are left: for more than is wanted, those removed included.

        Where too few of the nearest are left, a walk that looks for nothing else would lead from
        one removed row to the next: all that are left are compared.
        """
        assert self._live is not None  # noqa: S101  # only called where some were removed
        share = len(self._live) / self._total
        wide = math.ceil((k + 3 * math.sqrt(k * (1 - share))) / share) + 5
        wide = min(wide, self._total)
        ef_search = max(ef_search, wide)
        params = faiss.SearchParametersHNSW(efSearch=ef_search)
        rows, scores = self._ask(queries, wide, params, work=ef_search * self.M * _JUMP)
        places = np.minimum(np.searchsorted(self._live, rows), len(self._live) - 1)
        left = np.equal(self._live[places], rows)
        short = left.sum(axis=1) < k
        found = first_of(Neighbors(rows, scores), left, k)
        rows, scores = found
        if short.any():
            params = faiss.SearchParameters(sel=self._live_selector)
            rows[short], scores[short] = self._ask(
                queries[short], k, params, work=self._scanned(None), index=self._storage()
            )
        return rows, scores

    def _graph_selector(self, allowed: Ids) -> Any:
        return row_selector(self._graph_rows(allowed), self._total)

    def _reconstruct(self, ids: Ids) -> Embeddings:
        return self._rows(self._graph_rows(ids))

    def _save(self, directory: Path) -> None:
        self._write(directory)
        if self._live is not None:
            np.save(directory / "live.npy", self._live, allow_pickle=False)

    def _load(self, directory: Path) -> None:
        live = directory / "live.npy"
        rows = np.load(live, allow_pickle=False) if live.exists() else None
        self._set_graph(self._read(directory), rows)


@final
class HNSWIndex(_Graph):
    """Walks a graph of near neighbours (Faiss ``IndexHNSWFlat``): fast, and nearly exact.

    Memory: ``4 * dim + 8 * M`` bytes a vector. Removed vectors are passed over until they
    are more than a quarter of the graph, which is then built anew. Where a walk would compare
    about as many vectors as there are, or are allowed, all of these are compared instead.

    Parameters
    ----------
    dim : int
        Dimension of the vectors, at least 1.
    metric : {"cosine", "ip", "l2"}
        See `VectorIndex`.
    M : int
        Neighbours a vector keeps in the graph, at least 2; twice as many on the lowest level.
    ef_construction : int
        Candidates kept while a vector is inserted; more: a better graph, built slower.
    ef_search : int
        Candidates kept while searching (efSearch), at least ``k``; more: better recall,
        slower search.

    References
    ----------
    Y. Malkov and D. Yashunin, "Efficient and robust approximate nearest neighbor search
    using Hierarchical Navigable Small World graphs", 2016, https://arxiv.org/abs/1603.09320.
    """

    name = "hnsw"

    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        *,
        M: int = 32,  # noqa: N803  # the paper's name, and Faiss's
        ef_construction: int = 100,
        ef_search: int = 64,
    ) -> None:
        super().__init__(dim, metric, M=M, ef_construction=ef_construction, ef_search=ef_search)
        self._set_graph(self._new(), None)

    def _new(self) -> Any:
        graph = faiss.IndexHNSWFlat(self.dim, self.M, self._faiss_metric)
        graph.hnsw.efConstruction = self.ef_construction
        return graph

    def _rows(self, rows: NDArray[np.integer[Any]]) -> Embeddings:
        vectors: Embeddings = flat_rows(self._storage())[rows]
        return vectors


@final
class HNSWSQ8Index(_Graph):
    """Walks a graph of near neighbours over vectors of 8 bits a value (Faiss ``IndexHNSWSQ``).

    Memory: ``dim + 8 * M`` bytes a vector, and faster to build and to walk than `HNSWIndex`.
    The bits are laid over the range that each dimension has in the training sample. A gallery
    ranks what is found by the embeddings it keeps.

    Parameters
    ----------
    dim, metric, M, ef_construction
        As for `HNSWIndex`.
    ef_search : int
        Candidates kept while searching (efSearch), at least ``refine * k``.
    refine : int
        Candidates ranked anew for each neighbour wanted; see `VectorIndex`.
    """

    name = "hnsw-sq8"
    needs_training = True
    is_compressed = True

    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        *,
        M: int = 16,  # noqa: N803  # the paper's name, and Faiss's
        ef_construction: int = 64,
        ef_search: int = 48,
        refine: int = 2,
    ) -> None:
        super().__init__(dim, metric, M=M, ef_construction=ef_construction, ef_search=ef_search)
        self.refine = check_count(refine, "refine")

    def _options(self) -> Json:
        return {**super()._options(), "refine": self.refine}

    def _train(self, vectors: Embeddings) -> None:
        graph = self._untrained()
        with threads(len(vectors) * self.dim):
            graph.train(vectors)
        self._range = faiss.vector_to_array(faiss.downcast_index(graph.storage).sq.trained)
        self._set_graph(graph, None)

    def _untrained(self) -> Any:
        kind = faiss.ScalarQuantizer.QT_8bit
        graph = faiss.IndexHNSWSQ(self.dim, kind, self.M, self._faiss_metric)
        graph.hnsw.efConstruction = self.ef_construction
        return graph

    def _new(self) -> Any:
        graph = self._untrained()
        storage = faiss.downcast_index(graph.storage)
        faiss.copy_array_to_vector(self._range, storage.sq.trained)
        graph.is_trained = storage.is_trained = True
        return graph

    def _rows(self, rows: NDArray[np.integer[Any]]) -> Embeddings:
        vectors: Embeddings = self._storage().reconstruct_batch(rows)
        return vectors

    def _load(self, directory: Path) -> None:
        super()._load(directory)
        self._range = faiss.vector_to_array(self._storage().sq.trained)
