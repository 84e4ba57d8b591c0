"""Graph indexes (HNSW)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.base import FaissIndex, flat_rows, row_selector, scan_work, threads
from imgret.indexes.faiss.nodes import (
    GRAPH_FILE,
    Codes,
    Groups,
    Nodes,
    codes_in,
    codes_of,
    distinct,
    groups_of,
)
from imgret.support.checks import check_count
from imgret.support.exact import first_of
from imgret.types import Embeddings, Ids, Json, Metric, Neighbors

__all__ = ["HNSWIndex", "HNSWSQ8Index"]

# Cost of comparing with a vector anywhere in memory, relative to one in a scan.
_JUMP = 6.0

# A graph is rebuilt when a smaller share of its nodes than this is still in the index.
_LIVE_SHARE = 0.75

# Neighbours of a vector take 8 bytes each, and Faiss counts candidates in 32 bits.
_MOST_NEIGHBOURS = 4096
_MOST_CANDIDATES = 2**31 - 1


class _Graph(FaissIndex):
    """Base class of the graph indexes, independent of how vectors are stored."""

    supports_remove = True
    supports_allowed = True
    finds_itself = True
    # About 1 ms too, as vectors at random places are fetched from memory, not from the cache.
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
        self.M = check_count(M, "M", at_most=_MOST_NEIGHBOURS)
        if self.M < 2:
            raise InvalidInputError("M: expected at least 2 neighbours per vector, found 1")
        self.ef_construction = check_count(
            ef_construction, "ef_construction", at_most=_MOST_CANDIDATES
        )
        self.ef_search = check_count(ef_search, "ef_search", at_most=_MOST_CANDIDATES)

    @abstractmethod
    def _new(self) -> Any:
        """Return an empty graph with the training of this one."""

    @abstractmethod
    def _rows(self, rows: NDArray[np.integer[Any]]) -> Embeddings:
        """Return the vectors at these rows of the graph."""

    def _set_graph(self, graph: Any, nodes: Nodes) -> None:
        """Set the graph and the mapping from positions to its nodes."""
        graph.hnsw.efSearch = self.ef_search
        self._faiss = graph
        self._nodes = nodes
        self._selector = self._live = None
        if nodes.of is not None and nodes.n_nodes < nodes.total:
            self._selector = row_selector(nodes.of, nodes.total)
            self._live = np.zeros(nodes.total, dtype=np.bool_)  # whether a node has a vector
            self._live[nodes.of] = True
        self._use_huge_pages()

    def _options(self) -> Json:
        return {"M": self.M, "ef_construction": self.ef_construction, "ef_search": self.ef_search}

    def _comparisons(self, k: int, n_allowed: int | None) -> float:
        among = self._nodes.n_nodes
        if n_allowed is not None:
            among = math.ceil(n_allowed * self._nodes.n_nodes / max(len(self), 1))
        walk, scan = self._ef(min(k, among), among) * self.M, self._scanned(among)
        return walk * _JUMP if walk < scan else scan

    def _search_options(self) -> Mapping[str, Sequence[int]]:
        return {"ef_search": [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]}

    def _configure(self, settings: Mapping[str, int]) -> None:
        self.ef_search = settings["ef_search"]
        if self._faiss is not None:
            self._faiss.hnsw.efSearch = self.ef_search

    def _scanned(self, among: int) -> float:
        return scan_work(self._nodes.total, self._nodes.total, among)

    def _ef(self, k: int, among: int) -> int:
        """Return the number of candidates to keep, more if not all nodes are allowed."""
        wanted, total = max(self.ef_search, k), self._nodes.total
        return wanted if among == total else math.ceil(wanted * total / max(among, 1))

    def _storage(self) -> Any:
        """Return the Faiss index that stores the vectors."""
        return faiss.downcast_index(self._faiss.storage)

    def _stored(self) -> Codes:
        return codes_in(self._faiss)

    def _add(self, vectors: Embeddings, ids: Ids) -> None:  # noqa: ARG002  # positions follow the order of ids
        placed = self._nodes.find(codes_of(self._faiss, vectors), self._stored)
        try:
            if placed.fresh.size:
                new = vectors if len(placed.fresh) == len(vectors) else vectors[placed.fresh]
                with threads(len(new) * self.ef_construction * self.M * self.dim):
                    self._faiss.add(new)
            self._nodes.added(placed)
        except BaseException:  # nodes added before the failure are ignored
            self._nodes.failed(int(self._faiss.ntotal))
            self._set_graph(self._faiss, self._nodes)
            raise
        self._set_graph(self._faiss, self._nodes)

    def _removal_rebuilds(self, count: int) -> bool:
        return self._nodes.n_nodes - count < _LIVE_SHARE * self._nodes.total

    def _remove(self, ids: Ids) -> None:
        of = self._nodes.without(self._ids.positions(ids), len(self))
        live = np.unique(of)
        if len(live) >= _LIVE_SHARE * self._nodes.total:
            self._set_graph(self._faiss, self._nodes.replaced(of))
        else:
            self._rebuild(live, np.searchsorted(live, of))

    def _rebuild(self, live: NDArray[np.integer[Any]], of: Ids) -> None:
        """Rebuild the graph from the nodes ``live``; ``of`` has the row of each vector in them."""
        graph = self._new()
        if len(live):
            with threads(len(live) * self.ef_construction * self.M * self.dim):
                graph.add(self._rows(live))
        self._set_graph(graph, Nodes(of, len(live)))

    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        selector, among, groups = self._selector, self._nodes.n_nodes, None
        if allowed is not None:
            selector, among, groups = self._selected(allowed, self._nodes_of)
        elif self._nodes.shared:
            groups = self._nodes.groups(self.ids)
        asked = min(k, among)
        ef_search = self._ef(asked, among)
        walk, scan = ef_search * self.M, self._scanned(among)
        if walk < scan and self._live is not None and allowed is None:
            nodes, scores = self._search_live(queries, asked, ef_search)
        elif walk < scan:
            params = None  # those set on the graph
            if selector is not None or ef_search != self.ef_search:
                params = faiss.SearchParametersHNSW(sel=selector, efSearch=ef_search)
            nodes, scores = self._ask(queries, asked, params, work=walk * _JUMP)
        elif isinstance(self._storage(), faiss.IndexFlat):
            nodes, scores = self._scan(self._storage(), queries, asked, among, selector=selector)
        else:  # a walk would compare as many vectors as a scan
            params = faiss.SearchParameters(sel=selector)
            nodes, scores = self._ask(queries, asked, params, work=scan, index=self._storage())
        if groups is None:
            return self._named(self._nodes.positions(nodes)), scores
        positions, scores = groups.spread(nodes, scores, k)
        return self._named(positions), scores

    def _nodes_of(self, allowed: Ids) -> tuple[Any, int, Groups | None]:
        """Return a selector of the nodes of ids, the number of nodes, and the positions of each."""
        positions, total = self._ids.positions(allowed), self._nodes.total
        nodes = self._nodes.at(positions)
        selector = row_selector(nodes, total)
        if not self._nodes.shared:
            return selector, len(allowed), None
        groups = groups_of(nodes, positions, allowed, total)
        return selector, groups.n_nodes, groups

    def _search_live(self, queries: Embeddings, k: int, ef_search: int) -> Neighbors:
        """Search for more than ``k`` nodes and drop the removed ones.

        If too few of the nearest nodes remain, a walk restricted to these would go from one
        removed node to the next. Then all remaining nodes are compared instead.
        """
        assert self._live is not None  # noqa: S101  # only called after a removal
        share = self._nodes.n_nodes / self._nodes.total
        wide = math.ceil((k + 3 * math.sqrt(k * (1 - share))) / share) + 5
        wide = min(wide, self._nodes.total)
        ef_search = max(ef_search, wide)
        params = faiss.SearchParametersHNSW(efSearch=ef_search)
        nodes, scores = self._ask(queries, wide, params, work=ef_search * self.M * _JUMP)
        left = (nodes >= 0) & self._live[nodes]
        short = left.sum(axis=1) < k
        found = first_of(Neighbors(nodes, scores), left, k)
        if short.any():
            params = faiss.SearchParameters(sel=self._selector)
            work = self._scanned(self._nodes.n_nodes)
            found.ids[short], found.scores[short] = self._ask(
                queries[short], k, params, work=work, index=self._storage()
            )
        return found

    def _reconstruct(self, ids: Ids) -> Embeddings:
        return self._rows(self._nodes.at(self._ids.positions(ids)))

    def _save(self, directory: Path) -> None:
        self._write(directory, GRAPH_FILE)
        self._nodes.save(directory)

    def _load(self, directory: Path) -> None:
        if (directory / GRAPH_FILE).exists():
            graph = self._read(directory, GRAPH_FILE)
            self._set_graph(graph, Nodes.load(directory, graph.ntotal))
            return
        # Written by a release in which each copy had its own node.
        graph, live = self._read(directory), directory / "live.npy"
        of = np.load(live, allow_pickle=False) if live.exists() else np.arange(graph.ntotal)
        self._set_graph(graph, Nodes(of, graph.ntotal))
        if (fewer := distinct(self._stored(), of)) is not None:
            self._rebuild(*fewer)


@final
class HNSWIndex(_Graph):
    """Searches a graph of near neighbours (Faiss ``IndexHNSWFlat``): fast and nearly exact.

    It takes ``4 * dim + 8 * M`` bytes per vector. Removed vectors are skipped until they make up
    more than a quarter of the graph, which is then rebuilt. If a walk would compare about as many
    vectors as there are, or as are allowed, all of them are compared instead.

    Parameters
    ----------
    dim : int
        Dimension of the vectors, at least 1.
    metric : {"cosine", "ip", "l2"}
        See `VectorIndex`.
    M : int
        Neighbours of each vector in the graph, at least 2; twice as many on the lowest level.
    ef_construction : int
        Number of candidates kept while inserting a vector. More candidates give a better
        graph, but a slower build.
    ef_search : int
        Number of candidates kept while searching (efSearch), at least ``k``. More candidates
        give a better recall, but a slower search.

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
        self._set_graph(self._new(), Nodes())

    def _new(self) -> Any:
        graph = faiss.IndexHNSWFlat(self.dim, self.M, self._faiss_metric)
        graph.hnsw.efConstruction = self.ef_construction
        return graph

    def _rows(self, rows: NDArray[np.integer[Any]]) -> Embeddings:
        vectors: Embeddings = flat_rows(self._storage())[rows]
        return vectors


@final
class HNSWSQ8Index(_Graph):
    """Searches a graph over vectors with 8 bits per value (Faiss ``IndexHNSWSQ``).

    It takes ``dim + 8 * M`` bytes per vector, and is faster to build and to search than
    `HNSWIndex`. The 8 bits cover the range of each dimension in the training sample. A gallery
    re-ranks the results by the stored embeddings.

    Parameters
    ----------
    dim, metric, M, ef_construction
        As for `HNSWIndex`.
    ef_search : int
        Number of candidates kept while searching (efSearch), at least ``refine * k``.
    refine : int
        Number of candidates to re-rank per requested neighbour; see `VectorIndex`.
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
        self._set_graph(graph, Nodes())

    def _untrained(self) -> Any:
        kind = faiss.ScalarQuantizer.QT_8bit
        graph = faiss.IndexHNSWSQ(self.dim, kind, self.M, self._faiss_metric)
        graph.hnsw.efConstruction = self.ef_construction
        return graph

    def _new(self) -> Any:
        graph = self._untrained()
        storage = faiss.downcast_index(graph.storage)
        storage.sq.trained = self._storage().sq.trained
        graph.is_trained = storage.is_trained = True
        return graph

    def _rows(self, rows: NDArray[np.integer[Any]]) -> Embeddings:
        vectors: Embeddings = self._storage().reconstruct_batch(rows)
        return vectors
