"""Indexes described by a Faiss factory string."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from imgret.errors import InvalidInputError, UnsupportedError
from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.base import (
    TABLE_BYTES,
    FaissIndex,
    clear_end,
    large_arrays,
    row_selector,
    scan_work,
    search_params,
    threads,
)
from imgret.indexes.faiss.ivf import Lists
from imgret.indexes.faiss.nodes import GRAPH_FILE, Nodes, codes_in, codes_of, distinct
from imgret.indexes.faiss.strings import check_factory, explain
from imgret.types import Embeddings, Ids, Json, Metric

__all__ = ["FactoryIndex"]

# Vectors that each new or training vector is compared with, as an order of magnitude.
_COMPARED_TO_ADD = 1000


@final
class FactoryIndex(FaissIndex):
    """Any index that Faiss can describe in a string, registered as ``faiss:<string>``.

    Its capabilities depend on the string: see ``needs_training``, ``supports_remove`` and
    ``supports_allowed`` of the instance. Flat, compressed and inverted-file indexes support
    removal, HNSW and refined ones do not. NSG is rejected, because its build never ends if many
    vectors are equal. Scores are computed from the compressed vectors.

    Parameters
    ----------
    factory : str
        Faiss index factory string such as ``"IVF256,PQ32np"`` or ``"PCA64,SQ8"``. It is the
        first argument, or a keyword as returned by `config`. If both are given, they must agree.
    dim : int
        Dimension of the vectors, at least 1.
    metric : {"cosine", "ip", "l2"}
        See `VectorIndex`.
    parameters : str, optional
        Search parameters in the format of ``faiss.ParameterSpace``, such as
        ``"nprobe=16,k_factor_rf=4"``. By default those of Faiss (``nprobe=1``,
        ``efSearch=16``).

    Raises
    ------
    InvalidInputError
        Faiss cannot parse the string, or cannot make the index for this dimension and metric.
    UnsupportedError
        The index type is not supported, or Faiss does not have it for this metric.
    """

    _table_bytes = TABLE_BYTES

    def __init__(
        self,
        _factory: str | None = None,
        /,
        *,
        dim: int,
        metric: Metric = "cosine",
        factory: str | None = None,
        parameters: str | None = None,
    ) -> None:
        super().__init__(dim, metric)
        if _factory is not None and factory is not None and _factory != factory:
            raise InvalidInputError(f"factory: expected {_factory!r}, found {factory!r} as well")
        self.factory = check_factory(factory if _factory is None else _factory)
        self.parameters = parameters
        self.name = f"faiss:{self.factory}"
        self._take(self._new())
        self.needs_training = not self._faiss.is_trained
        kinds = (faiss.IndexIVF, faiss.IndexFlatCodes, faiss.IndexFastScan)
        self.supports_remove = isinstance(self._inner, kinds)
        kinds = (faiss.IndexIVF, faiss.IndexFlat, faiss.IndexScalarQuantizer)
        self.supports_allowed = isinstance(self._inner, kinds)
        self.is_compressed = not self._keeps_vectors()
        self._nodes = Nodes()
        self.finds_itself = isinstance(self._inner, faiss.IndexHNSW)

    def _options(self) -> Json:
        return {"factory": self.factory, "parameters": self.parameters}

    def _new(self) -> Any:
        try:
            index = faiss.index_factory(self.dim, self.factory, self._faiss_metric)
        except Exception as error:  # RuntimeError, and what std::stoi throws
            raise explain(self.factory, self.dim, error) from error
        self._check_parts(index)
        return index

    def _check_parts(self, index: Any) -> None:
        """Reject index types that find no neighbours, or those under another metric."""
        kinds = (
            *(faiss.IndexIVF, faiss.IndexFlatCodes, faiss.IndexFastScan, faiss.IndexHNSW),
            *(faiss.IndexRefine, faiss.IndexPreTransform),
        )
        # LSH returns distances of bits; the other takes no search parameters to widen a search.
        unfit = (faiss.IndexLSH, faiss.IndexIVFAdditiveQuantizerFastScan)
        part = faiss.downcast_index(index)
        while part is not None:
            kind = type(part).__name__
            if not isinstance(part, kinds) or isinstance(part, unfit):
                raise UnsupportedError(
                    f"factory {self.factory!r}: expected a flat, compressed, inverted-file, "
                    f"HNSW or refined index, found {kind}"
                )
            if part.metric_type != self._faiss_metric:  # HNSW,PQ is always made for l2
                raise UnsupportedError(
                    f"factory {self.factory!r}: Faiss has no {kind} for metric {self.metric!r}, "
                    f"only for 'l2'"
                )
            if isinstance(part, faiss.IndexPreTransform):
                part = faiss.downcast_index(part.index)
            elif isinstance(part, faiss.IndexRefine):
                part = faiss.downcast_index(part.base_index)
            else:
                part = None

    def _keeps_vectors(self) -> bool:
        """Return whether results are ranked by the uncompressed vectors."""
        outer = faiss.downcast_index(self._faiss)
        flat = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexHNSWFlat, faiss.IndexRefineFlat)
        return isinstance(outer, flat)

    def _take(self, index: Any) -> None:
        inner = faiss.downcast_index(index)
        while isinstance(inner, faiss.IndexPreTransform):
            inner = faiss.downcast_index(inner.index)
        for parameter in (self.parameters or "").split(","):
            if not parameter:
                continue
            message = (
                f"parameters: expected parameters of {type(inner).__name__}, each at least 1, such "
                f"as 'nprobe=16' for an inverted file, found {parameter!r}"
            )
            if re.search("=0*$", parameter):  # accepted here by Faiss, an error in the search
                raise InvalidInputError(message)
            try:
                faiss.ParameterSpace().set_index_parameters(index, parameter)
            except RuntimeError as error:
                raise InvalidInputError(message) from error
        self._faiss, self._inner = index, inner
        self._lists = self._lists_of(index)
        self._is_graph = _has_graph(index)
        self._use_huge_pages()

    def _lists_of(self, index: Any) -> Lists | None:
        inner = faiss.downcast_index(index)
        while isinstance(inner, faiss.IndexPreTransform):
            inner = faiss.downcast_index(inner.index)
        if not isinstance(inner, faiss.IndexIVF):
            return None
        flat = isinstance(faiss.downcast_index(inner.quantizer), faiss.IndexFlat)
        return Lists(index, by_nearest=self.metric.rewards_length and flat)

    def _comparisons(self, k: int, n_allowed: int | None) -> float:  # noqa: ARG002  # hardly depends on k
        if self._lists is not None:
            return self._lists.work(n_allowed)
        return scan_work(len(self), len(self), n_allowed)

    def _search_options(self) -> Mapping[str, Sequence[int]]:
        if self._lists is not None:
            return {"nprobe": self._lists.sweep()}
        if isinstance(self._inner, faiss.IndexHNSW):
            return {"efSearch": [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]}
        return {}

    @property
    def nprobe(self) -> int | None:
        """Number of lists visited per query; None if the index has no lists."""
        return None if self._lists is None else int(self._lists.ivf.nprobe)

    @property
    def efSearch(self) -> int | None:  # noqa: N802  # Faiss's name, as in ``parameters``
        """Number of candidates kept while searching; None if the index is not a graph."""
        graph = isinstance(self._inner, faiss.IndexHNSW)
        return int(self._inner.hnsw.efSearch) if graph else None

    def _configure(self, settings: Mapping[str, int]) -> None:
        given = dict(part.split("=", 1) for part in (self.parameters or "").split(",") if part)
        changed = {**given, **{name: str(value) for name, value in settings.items()}}
        self.parameters = ",".join(f"{name}={value}" for name, value in changed.items())
        self._take(self._faiss)

    def _train(self, vectors: Embeddings) -> None:
        index = self._new()
        try:
            with threads(len(vectors) * _COMPARED_TO_ADD * self.dim):
                lists = self._lists_of(index)
                (index if lists is None else lists).train(vectors)
        except RuntimeError as error:
            raise explain(self.factory, self.dim, error) from error
        self._take(index)

    def _add(self, vectors: Embeddings, ids: Ids) -> None:
        if self._lists is not None:
            self._lists.add(vectors, ids)
            return
        if self._is_graph:
            self._add_nodes(vectors)
            return
        before = self._faiss.ntotal
        try:
            with threads(len(vectors) * _COMPARED_TO_ADD * self.dim):
                self._faiss.add(vectors)
        except BaseException:  # out of memory
            if self.supports_remove and self._faiss.ntotal > before:
                self._faiss.remove_ids(faiss.IDSelectorRange(before, self._faiss.ntotal))
            raise
        self._use_huge_pages()

    def _add_nodes(self, vectors: Embeddings) -> None:
        placed = self._nodes.find(codes_of(self._faiss, vectors), lambda: codes_in(self._faiss))
        try:
            if placed.fresh.size:
                new = vectors if len(placed.fresh) == len(vectors) else vectors[placed.fresh]
                with threads(len(new) * _COMPARED_TO_ADD * self.dim):
                    self._faiss.add(new)
            self._nodes.added(placed)
        except BaseException:  # nodes added before the failure are ignored
            self._nodes.failed(int(self._faiss.ntotal))
            raise
        self._use_huge_pages()

    def _arrays(self) -> list[tuple[int, int]]:
        return large_arrays(self._inner)

    def _remove(self, ids: Ids) -> None:
        if self._lists is not None:
            self._lists.remove(ids)
        else:
            self._faiss.remove_ids(row_selector(self._ids.positions(ids), len(self)))
            if isinstance(self._inner, faiss.IndexFastScan):
                inner = self._inner
                clear_end(inner.get_CodePacker(), inner.codes.data(), inner.ntotal)

    def _renumber(self, ids: Ids) -> None:
        if self._lists is not None:
            self._lists.renumber(self.ids, ids)

    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        if self._lists is not None:
            return self._search_lists(self._lists, queries, k, allowed)
        params = selector = None
        if allowed is not None:
            selector = self._selected(allowed, self._row_selector)
        if isinstance(self._faiss, faiss.IndexFlat):
            among = len(self) if allowed is None else len(allowed)
            return self._scan(self._faiss, queries, k, among, selector=selector, named=self._named)
        if selector is not None:
            params = search_params(self._faiss, faiss.SearchParameters(sel=selector))
        work = self._comparisons(k, None)
        if self._nodes.shared:
            groups = self._nodes.groups(self.ids)
            nodes, scores = self._ask(queries, min(k, groups.n_nodes), params, work=work)
            labels, scores = groups.spread(nodes, scores, k)
        else:
            labels, scores = self._ask(queries, k, params, work=work)
            labels = self._nodes.positions(labels)
        return self._named(labels), scores

    def _reconstruct(self, ids: Ids) -> Embeddings:
        if self._lists is not None:
            return self._lists.reconstruct(ids)
        with threads(len(ids) * self.dim):
            nodes = self._nodes.at(self._ids.positions(ids))
            vectors: Embeddings = self._faiss.reconstruct_batch(nodes)
        return vectors

    def _save(self, directory: Path) -> None:
        if self._is_graph:
            self._write(directory, GRAPH_FILE)
            self._nodes.save(directory)
        else:
            self._write(directory, "index.faiss" if self._lists is None else self._lists.file)

    def _load(self, directory: Path) -> None:
        if (directory / GRAPH_FILE).exists():
            self._take(self._read(directory, GRAPH_FILE))
            self._nodes = Nodes.load(directory, self._faiss.ntotal)
            return
        self._take(self._read(directory, self._lists.file if self._lists else "index.faiss"))
        if self._is_graph:  # written by a release in which each copy had its own node
            self._load_copies()
        if isinstance(self._inner, faiss.IndexIVFPQFastScan):
            # Faiss does not restore this pointer, and crashes in reconstruct without it.
            self._inner.fine_quantizer = self._inner.pq

    def _load_copies(self) -> None:
        total = int(self._faiss.ntotal)
        self._nodes = Nodes(total=total)
        fewer = distinct(codes_in(self._faiss), np.arange(total))
        if fewer is None:
            return
        nodes, of = fewer
        with threads(len(nodes) * _COMPARED_TO_ADD * self.dim):
            vectors = self._faiss.reconstruct_batch(nodes)
            self._faiss.reset()
            self._faiss.add(vectors)
        self._nodes = Nodes(of, len(nodes))
        self._use_huge_pages()


def _has_graph(index: Any) -> bool:
    part = faiss.downcast_index(index)
    while not isinstance(part, faiss.IndexHNSW):
        if isinstance(part, faiss.IndexPreTransform):
            part = faiss.downcast_index(part.index)
        elif isinstance(part, faiss.IndexRefine):
            part = faiss.downcast_index(part.base_index)
        else:
            return False
    return True
