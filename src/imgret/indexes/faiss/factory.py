"""Any index that Faiss can describe in a string."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from imgret.errors import InvalidInputError, UnsupportedError
from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.base import (
    FaissIndex,
    clear_end,
    large_arrays,
    row_selector,
    scan_work,
    search_params,
    threads,
)
from imgret.indexes.faiss.ivf import Lists
from imgret.indexes.faiss.strings import check_factory, explain
from imgret.types import Embeddings, Ids, Json, Metric

__all__ = ["FactoryIndex"]

# Vectors that one in training or being added is compared with: only a magnitude.
_COMPARED_TO_ADD = 1000


@final
class FactoryIndex(FaissIndex):
    """Any index that Faiss can describe in a string, registered as ``faiss:<string>``.

    What it can do depends on the string: see ``needs_training``, ``supports_remove`` and
    ``supports_allowed`` of the instance. Flat, compressed and inverted-file indexes can
    remove, HNSW and refined ones cannot. NSG is refused: its build never ends where many
    vectors are equal. Scores come from the vectors as they are compressed.

    Parameters
    ----------
    factory : str
        Faiss index factory string such as ``"IVF256,PQ32np"`` or ``"PCA64,SQ8"``. The
        first argument, or by keyword as `config` gives it; where both, they must agree.
    dim : int
        Dimension of the vectors, at least 1.
    metric : {"cosine", "ip", "l2"}
        See `VectorIndex`.
    parameters : str, optional
        Search parameters as ``faiss.ParameterSpace`` reads them, such as
        ``"nprobe=16,k_factor_rf=4"``. By default those of Faiss (``nprobe=1``,
        ``efSearch=16``).

    Raises
    ------
    InvalidInputError
        Faiss cannot parse the string, or cannot make the index for this dimension and metric.
    UnsupportedError
        The index cannot give neighbours under the metric and ids of its own.
    """

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
        self._trained = not self.needs_training
        kinds = (faiss.IndexIVF, faiss.IndexFlatCodes, faiss.IndexFastScan)
        self.supports_remove = isinstance(self._inner, kinds)
        kinds = (faiss.IndexIVF, faiss.IndexFlat, faiss.IndexScalarQuantizer)
        self.supports_allowed = isinstance(self._inner, kinds)
        self.is_compressed = not self._keeps_vectors()
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
        """Refuse what gives no neighbours, or those of another metric."""
        kinds = (
            *(faiss.IndexIVF, faiss.IndexFlatCodes, faiss.IndexFastScan, faiss.IndexHNSW),
            *(faiss.IndexRefine, faiss.IndexPreTransform),
        )
        # Distances of bits; a search that takes no parameters, so that it cannot be widened.
        unfit = (faiss.IndexLSH, faiss.IndexIVFAdditiveQuantizerFastScan)
        part = faiss.downcast_index(index)
        while part is not None:
            kind = type(part).__name__
            if not isinstance(part, kinds) or isinstance(part, unfit):
                raise UnsupportedError(
                    f"factory {self.factory!r}: expected a flat, compressed, inverted-file, "
                    f"HNSW or refined index, found {kind}"
                )
            if part.metric_type != self._faiss_metric:  # HNSW,PQ is made for l2 whatever is asked
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
        """Whether what is found is ranked by the vectors as they were added."""
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
                f"parameters: expected some that {type(inner).__name__} has, of at least 1, such "
                f"as 'nprobe=16' for an inverted file, found {parameter!r}"
            )
            if re.search("=0*$", parameter):  # taken here, and an error in the search
                raise InvalidInputError(message)
            try:
                faiss.ParameterSpace().set_index_parameters(index, parameter)
            except RuntimeError as error:
                raise InvalidInputError(message) from error
        self._faiss, self._inner = index, inner
        self._lists = Lists(index) if isinstance(inner, faiss.IndexIVF) else None
        self._use_huge_pages()

    def _work(self, k: int, n_allowed: int | None) -> float:  # noqa: ARG002  # much the same
        if self._lists is not None:
            return self._lists.work(n_allowed)
        return scan_work(len(self), len(self), n_allowed)

    def _sweep(self) -> Mapping[str, Sequence[int]]:
        if self._lists is not None:
            return {"nprobe": self._lists.sweep()}
        if isinstance(self._inner, faiss.IndexHNSW):
            return {"efSearch": [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]}
        return {}

    @property
    def nprobe(self) -> int | None:
        """Lists visited a query; None where there are none."""
        return None if self._lists is None else int(self._lists.ivf.nprobe)

    @property
    def efSearch(self) -> int | None:  # noqa: N802  # Faiss's name, as in ``parameters``
        """Candidates kept while searching a graph; None where there is none."""
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
                index.train(vectors)
        except RuntimeError as error:
            raise explain(self.factory, self.dim, error) from error
        self._take(index)

    def _add(self, vectors: Embeddings, ids: Ids) -> None:
        if self._lists is not None:
            self._lists.add(vectors, ids)
            return
        before = self._faiss.ntotal
        try:
            with threads(len(vectors) * _COMPARED_TO_ADD * self.dim):
                self._faiss.add(vectors)
        except BaseException:  # out of memory; what cannot remove cannot be set right again
            if self.supports_remove and self._faiss.ntotal > before:
                self._faiss.remove_ids(faiss.IDSelectorRange(before, self._faiss.ntotal))
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

    def _search(self, queries: Embeddings, k: int, allowed: Ids | None) -> tuple[Ids, Embeddings]:
        if self._lists is not None:
            return self._search_lists(self._lists, queries, k, allowed)
        params = None
        if allowed is not None:
            selector = self._selected(allowed, self._row_selector)
            params = search_params(self._faiss, faiss.SearchParameters(sel=selector))
        labels, scores = self._ask(queries, k, params, work=self._work(k, None))
        return self._named(labels), scores

    def _reconstruct(self, ids: Ids) -> Embeddings:
        if self._lists is not None:
            return self._lists.reconstruct(ids)
        with threads(len(ids) * self.dim):
            vectors: Embeddings = self._faiss.reconstruct_batch(self._ids.positions(ids))
        return vectors

    def _save(self, directory: Path) -> None:
        self._write(directory)

    def _load(self, directory: Path) -> None:
        self._take(self._read(directory))
        if isinstance(self._inner, faiss.IndexIVFPQFastScan):
            # Faiss reads it back without this pointer, and crashes when it reconstructs.
            self._inner.fine_quantizer = self._inner.pq
