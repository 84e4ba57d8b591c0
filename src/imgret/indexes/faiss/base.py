"""What the adapters of Faiss share: threads, selectors, the sign of scores, files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from imgret.abc import VectorIndex
from imgret.errors import InvalidInputError, StoreError
from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.pages import HugePages
from imgret.types import Embeddings, Ids, Metric

__all__ = [
    "FaissIndex",
    "clear_end",
    "flat_rows",
    "id_selector",
    "large_arrays",
    "row_selector",
    "scan_work",
    "search_params",
    "threads",
]

# Vectors compared with the queries, times the dimension, from which more threads pay: about
# 1 ms on one core. Where other programs keep the cores busy, a thread is waited for some 10 ms.
_WORTH_THREADS = 5_000_000

# True vectors that are looked at twice, in values: a megabyte, which stays in the cache.
_CACHED_VALUES = 2**18

# What it costs a scan to pass over a vector that is not allowed, in vectors compared.
_PASSED = 0.03


class threads:  # noqa: N801  # used like a function
    """Run a ``with`` block on one OpenMP thread unless ``work`` multiply-adds are worth more."""

    __slots__ = ("_before",)

    def __init__(self, work: float) -> None:
        most = 1 if work >= _WORTH_THREADS else faiss.omp_get_max_threads()
        self._before = None if most == 1 else most

    def __enter__(self) -> None:
        if self._before is not None:
            faiss.omp_set_num_threads(1)  # counts for the calling thread alone

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            faiss.omp_set_num_threads(self._before)


def row_selector(rows: NDArray[np.integer[Any]], total: int) -> Any:
    """Select some of the rows 0..total-1: one bit each."""
    chosen = np.zeros(total, dtype=bool)
    chosen[rows] = True
    return faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))


def id_selector(ids: Ids) -> Any:
    """Select ids of any size: by bitmap where they lie close, else by hash set."""
    top = int(ids.max())
    if top < 64 * len(ids):
        return row_selector(ids, top + 1)
    return faiss.IDSelectorBatch(ids)


def scan_work(scanned: float, total: int, n_allowed: int | None) -> float:
    """Return the work of a scan in which those that are not allowed are passed over."""
    if n_allowed is None or not total:
        return scanned
    return scanned * (_PASSED + n_allowed / total)


def search_params(index: Any, params: Any) -> Any:
    """Return the parameters in the form the index takes, behind a transform or not."""
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=params)
    return params


def clear_end(packer: Any, codes: Any, size: int) -> None:
    """Zero the unused end of the last block of codes for fast scan.

    Faiss 1.15 leaves there what was removed, and adds by OR (``pq4_pack_codes_range``): what
    came in its place would be a mixture of both.

    Parameters
    ----------
    packer : faiss.CodePacker
    codes : pointer to uint8
    size : int
        Vectors there are.
    """
    used = size % packer.nvec
    if used:
        start = size // packer.nvec * packer.block_size
        block = faiss.rev_swig_ptr(codes, start + packer.block_size)[None, start:]
        zero = np.zeros(packer.code_size, dtype=np.uint8)
        for place in range(used, packer.nvec):
            packer.pack_1(zero, place, block)


def large_arrays(index: Any) -> list[tuple[int, int]]:
    """Return address and bytes of what searches of a graph or a plain list read."""
    if isinstance(index, faiss.IndexHNSW):
        stored, links = faiss.downcast_index(index.storage), index.hnsw.neighbors
        return [*large_arrays(stored), (int(links.data() or 0), 4 * int(links.size()))]
    if isinstance(index, faiss.IndexFlatCodes):
        return [(int(index.codes.data() or 0), int(index.codes.size()))]
    return []


def flat_rows(index: Any) -> Embeddings:
    """View the vectors of an IndexFlat, without a copy; valid until it changes."""
    total, dim = index.ntotal, index.d
    rows: Embeddings = faiss.rev_swig_ptr(index.get_xb(), total * dim).reshape(total, dim)
    return rows


class FaissIndex(VectorIndex):
    """What the adapters share: threads, the sign of scores, and files.

    ``_faiss`` is the Faiss index; None as long as it cannot be made (untrained).
    """

    _faiss: Any = None
    _worth_threads: ClassVar[float] = _WORTH_THREADS  # of the work of a search

    def __init__(self, dim: int, metric: Metric = "cosine") -> None:
        super().__init__(dim, metric)
        self._selectors: list[tuple[Ids, int, Any]] = []
        self._huge_pages = HugePages(self._lock)

    def _arrays(self) -> list[tuple[int, int]]:
        """Return address and bytes of the arrays that are worth huge pages."""
        return large_arrays(self._faiss)

    @final
    def _use_huge_pages(self) -> None:
        """Move the arrays where they may be others now: see `HugePages`."""
        self._huge_pages.follow(self._arrays)

    @final
    def _selected(self, allowed: Ids, make: Callable[[Ids], Any]) -> Any:
        """Return ``make(allowed)``, a selector; for the same array the same one, until a change."""
        for known, change, selector in self._selectors:
            if known is allowed and change == self._changes:
                return selector
        selector = make(allowed)
        self._selectors = [(allowed, self._changes, selector), *self._selectors[:3]]
        return selector

    @final
    def _row_selector(self, allowed: Ids) -> Any:
        """Select ids that are labelled by row, in the order they were added."""
        return row_selector(self._ids.positions(allowed), len(self))

    @final
    def _search_lists(
        self, lists: Any, queries: Embeddings, k: int, allowed: Ids | None
    ) -> tuple[Ids, Embeddings]:
        """Search an inverted file: see `Lists`."""
        ask = partial(self._ask, work=lists.work(None) if len(queries) > 1 else 0.0)
        if allowed is None:
            found = lists.search(ask, queries, k, None, None)
        else:
            selector = self._selected(allowed, id_selector)
            found = lists.search(ask, queries, k, len(allowed), selector)
        ids, scores = found
        return ids, scores

    @property
    @final
    def _faiss_metric(self) -> int:
        metric = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        return int(metric)

    @final
    def _ask(
        self,
        queries: Embeddings,
        k: int,
        params: Any = None,
        *,
        work: float,
        index: Any = None,
    ) -> tuple[Ids, Embeddings]:
        """Search ``_faiss``, or a part of it; return labels (-1 where short) and scores.

        ``work`` is about how many vectors a query is compared with.
        """
        index = self._faiss if index is None else index
        # One query is never split over threads.
        if len(queries) > 1 and queries.size * work >= self._worth_threads:
            scores, labels = index.search(queries, k, params=params)
        else:
            with threads(0.0):
                scores, labels = index.search(queries, k, params=params)
        if self.metric == "l2":
            np.negative(scores, out=scores)
        return labels, scores

    @final
    def _true_scores(
        self, queries: Embeddings, ids: Ids, vectors_of: Callable[[Ids], Embeddings]
    ) -> Embeddings:
        table = None if self._true_table is None else self._true_table()
        if table is None:
            return super()._true_scores(queries, ids, vectors_of)
        n, m = ids.shape
        ids = np.ascontiguousarray(ids)
        scores: Embeddings = np.empty((n, m), dtype=np.float32)
        squares = np.empty_like(scores) if self.metric == "cosine" else None
        step = max(1, _CACHED_VALUES // (m * self.dim))
        with threads(n * m * self.dim):
            for start in range(0, n, step):
                part = slice(start, start + step)
                given = queries[part], table, ids[part]
                args = (*map(faiss.swig_ptr, given), self.dim, len(given[0]), m)
                if self.metric == "l2":
                    faiss.fvec_L2sqr_by_idx(faiss.swig_ptr(scores[part]), *args)
                    continue
                faiss.fvec_inner_products_by_idx(faiss.swig_ptr(scores[part]), *args)
                if squares is not None:
                    faiss.fvec_L2sqr_by_idx(faiss.swig_ptr(squares[part]), *args)
        if self.metric == "l2":
            np.negative(scores, out=scores)
        if squares is not None:
            # |v|^2 = |q - v|^2 - 1 + 2 q.v, as queries have length 1.
            squares += 2 * scores
            squares -= 1
            scores /= np.sqrt(np.maximum(squares, np.float32(1e-24)))
        return scores

    @final
    def _named(self, positions: Ids) -> Ids:
        """Return the ids at positions in the order of insertion; -1 stays -1."""
        return self._ids.at(positions)

    @final
    def _write(self, directory: Path, name: str = "index.faiss") -> None:
        path = directory / name
        try:
            faiss.write_index(self._faiss, str(path))
        except RuntimeError as error:
            raise StoreError(f"{path}: cannot be written: {error}") from error

    @final
    def _read(self, directory: Path, name: str = "index.faiss") -> Any:
        index = faiss.read_index(str(directory / name))
        if index.d != self.dim or index.metric_type != self._faiss_metric:
            raise InvalidInputError(
                f"{name}: expected dimension {self.dim} and Faiss metric "
                f"{self._faiss_metric}, found {index.d} and {index.metric_type}"
            )
        return index
