"""Base class and helpers of the Faiss adapters: threads, selectors, sign of scores, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from imgret.abc import VectorIndex
from imgret.errors import InvalidInputError, StoreError
from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.pages import HugePages
from imgret.support.exact import best_of, rounding
from imgret.support.locks import RLock
from imgret.types import Embeddings, Ids, Metric

__all__ = [
    "TABLE_BYTES",
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

# Vectors compared with the queries, times the dimension, from which more threads pay off: about
# 1 ms on one core. If other programs keep the cores busy, waiting for a thread takes some 10 ms.
_WORTH_THREADS = 5_000_000

# Values of the vectors scored at a time: a megabyte, which stays in the cache.
_CACHED_VALUES = 2**18

# Additional rows to request, which cover equal scores: where Faiss multiplies matrices, so that
# scores may be rounded differently, and where it scores pair by pair.
_SPARE, _SPARE_IN_PAIRS = 8, 2

# Faiss scores pair by pair for fewer queries than the first (1.13), or fewer values of queries than
# the second (1.15).
_IN_PAIRS = 20, 128_000

# The smallest squared distance that is a normal number.
_SMALLEST = np.finfo(np.float32).tiny

_LIMITS = ("deserialization_vector_byte_limit", "deserialization_loop_limit")
_READING = RLock()
# Faiss makes a table of a product quantiser while it reads: a kilobyte for each list and byte of a
# code, 8 GB for a thousand million vectors.
TABLE_BYTES = 1 << 33

# Cost of skipping a vector that is not allowed, relative to comparing one.
_PASSED = 0.03


class threads:  # noqa: N801  # used like a function
    """Run a ``with`` block on one OpenMP thread, unless ``work`` multiply-adds justify more."""

    __slots__ = ("_before",)

    def __init__(self, work: float) -> None:
        most = 1 if work >= _WORTH_THREADS else faiss.omp_get_max_threads()
        self._before = None if most == 1 else most

    def __enter__(self) -> None:
        if self._before is not None:
            faiss.omp_set_num_threads(1)  # applies to the calling thread only

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            faiss.omp_set_num_threads(self._before)


@contextmanager
def _limited(size: int) -> Iterator[None]:
    """Let Faiss read no array, and no list, that is longer than the file and the tables made of it.

    Otherwise a few wrong bytes make it fill hundreds of gigabytes with zeros first, which takes
    minutes, or the memory that other programs need. The limits are settings of the process.
    """
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):  # before Faiss 1.15
        yield
        return
    with _READING:
        before = [getattr(faiss, f"get_{name}")() for name in _LIMITS]
        for name in _LIMITS:
            getattr(faiss, f"set_{name}")(size)
        try:
            yield
        finally:
            for name, value in zip(_LIMITS, before, strict=True):
                getattr(faiss, f"set_{name}")(value)


def row_selector(rows: NDArray[np.integer[Any]], total: int) -> Any:
    """Return a bitmap selector of the given rows among 0..total-1."""
    chosen = np.zeros(total, dtype=bool)
    chosen[rows] = True
    return faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))


def id_selector(ids: Ids) -> Any:
    """Return a selector of ids: a bitmap if they lie close together, otherwise a hash set."""
    top = int(ids.max())
    if top < 64 * len(ids):
        return row_selector(ids, top + 1)
    return faiss.IDSelectorBatch(ids)


def scan_work(scanned: float, total: int, n_allowed: int | None) -> float:
    """Return the cost of a scan that skips the vectors that are not allowed."""
    if n_allowed is None or not total:
        return scanned
    return scanned * (_PASSED + n_allowed / total)


def search_params(index: Any, params: Any) -> Any:
    """Return the parameters in the form the index takes, with or without a transform."""
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=params)
    return params


def clear_end(packer: Any, codes: Any, size: int) -> None:
    """Zero the unused end of the last block of fast-scan codes.

    Faiss 1.15 leaves removed codes there and adds new ones by OR (``pq4_pack_codes_range``), so
    without zeroing the new codes would be a mixture of both.

    Parameters
    ----------
    packer : faiss.CodePacker
    codes : pointer to uint8
    size : int
        Number of vectors in the list.
    """
    used = size % packer.nvec
    if used:
        start = size // packer.nvec * packer.block_size
        block = faiss.rev_swig_ptr(codes, start + packer.block_size)[None, start:]
        zero = np.zeros(packer.code_size, dtype=np.uint8)
        for place in range(used, packer.nvec):
            packer.pack_1(zero, place, block)


def large_arrays(index: Any) -> list[tuple[int, int]]:
    """Return address and bytes of the arrays that a search of a graph or a plain list reads."""
    if isinstance(index, faiss.IndexHNSW):
        stored, links = faiss.downcast_index(index.storage), index.hnsw.neighbors
        return [*large_arrays(stored), (int(links.data() or 0), 4 * int(links.size()))]
    if isinstance(index, faiss.IndexFlatCodes):
        return [(int(index.codes.data() or 0), int(index.codes.size()))]
    return []


def flat_rows(index: Any) -> Embeddings:
    """Return a view of the vectors of an IndexFlat, valid until the index changes."""
    total, dim = index.ntotal, index.d
    rows: Embeddings = faiss.rev_swig_ptr(index.get_xb(), total * dim).reshape(total, dim)
    return rows


def _of_pairs(queries: Embeddings, table: Embeddings, rows: Ids, metric: int) -> Embeddings:
    """Score each query with its rows of a table, pair by pair, under a Faiss metric.

    Parameters
    ----------
    queries : float32 array of shape (n, dim)
    table : float32 array of shape (m, dim)
        C-contiguous.
    rows : int64 array of shape (n, k)
    """
    n, k = rows.shape
    dim = queries.shape[1]
    rows = np.ascontiguousarray(rows)
    is_l2 = metric == faiss.METRIC_L2
    score = faiss.fvec_L2sqr_by_idx if is_l2 else faiss.fvec_inner_products_by_idx
    scores: Embeddings = np.empty((n, k), dtype=np.float32)
    step = max(1, _CACHED_VALUES // max(1, k * dim))
    with threads(n * k * dim):
        for start in range(0, n, step):
            part = slice(start, start + step)
            given = scores[part], queries[part], table, rows[part]
            score(*map(faiss.swig_ptr, given), dim, len(given[0]), k)
    return np.negative(scores, out=scores) if is_l2 else scores


class FaissIndex(VectorIndex):
    """Base class of the adapters: threads, the sign of scores, and files.

    ``_faiss`` is the Faiss index, or None until it is trained.
    """

    supports_renumber = True  # Faiss numbers rows itself, except in lists

    _faiss: Any = None
    _table_bytes: ClassVar[int] = 0  # of tables that Faiss makes while it reads
    _worth_threads: ClassVar[float] = _WORTH_THREADS  # minimum work of a search

    def __init__(self, dim: int, metric: Metric = "cosine") -> None:
        super().__init__(dim, metric)
        self._selectors: list[tuple[Ids, int, Any]] = []
        self._huge_pages = HugePages()
        self._longest: tuple[int, float] | None = None  # changes, length
        # Of the rows of the table that were compared: changes, 1 / length or 0 if unknown.
        self._scales: tuple[int, Embeddings] = (-1, np.empty(0, dtype=np.float32))

    def _arrays(self) -> list[tuple[int, int]]:
        """Return address and bytes of the arrays that benefit from huge pages."""
        return large_arrays(self._faiss)

    @final
    def _use_huge_pages(self) -> None:
        """Move new arrays into huge pages after a change: see `HugePages`."""
        self._huge_pages.move(self._arrays())

    @final
    def _selected(self, allowed: Ids, make: Callable[[Ids], Any]) -> Any:
        """Return the selector ``make(allowed)``, cached per array until the index changes."""
        for known, change, selector in self._selectors:
            if known is allowed and change == self._changes:
                return selector
        selector = make(allowed)
        self._selectors = [(allowed, self._changes, selector), *self._selectors[:3]]
        return selector

    @final
    def _row_selector(self, allowed: Ids) -> Any:
        """Return a selector of ids for an index labelled by row, in the order of insertion."""
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
        metric = faiss.METRIC_INNER_PRODUCT if self.metric.by_product else faiss.METRIC_L2
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
        """Search ``_faiss``, or a part of it; return labels (-1 if too few) and scores.

        ``work`` is the approximate number of vectors each query is compared with.
        """
        index = self._faiss if index is None else index
        # A single query is never split over threads.
        if len(queries) > 1 and queries.size * work >= self._worth_threads:
            scores, labels = index.search(queries, k, params=params)
        else:
            with threads(0.0):
                scores, labels = index.search(queries, k, params=params)
        if not self.metric.by_product:
            np.negative(scores, out=scores)
        return labels, scores

    @final
    def _true_scores(
        self, queries: Embeddings, ids: Ids, vectors_of: Callable[[Ids], Embeddings]
    ) -> Embeddings:
        table = None if self._true_table is None else self._true_table(ids)
        if table is None:
            return super()._true_scores(queries, ids, vectors_of)
        scores = _of_pairs(queries, table, ids, self._faiss_metric)
        if self.metric.on_sphere:
            scores *= self._scales_of(table, ids)
        return scores

    @final
    def _scales_of(self, table: Embeddings, ids: Ids) -> Embeddings:
        """Return 1 / length of some rows of a table; each is computed once."""
        changes, scales = self._scales
        if changes != self._changes or len(scales) < len(table):
            scales = np.zeros(len(table), dtype=np.float32)
            self._scales = self._changes, scales
        found = scales.take(ids)
        if not found.all():
            new = np.unique(ids[found == 0])
            step = max(1, _CACHED_VALUES // table.shape[1])
            for start in range(0, len(new), step):
                some = new[start : start + step]
                rows = table.take(some, axis=0)
                squares = np.maximum(np.vecdot(rows, rows), np.float32(1e-24))
                scales[some] = 1 / np.sqrt(squares)
            scales.take(ids, out=found)
        return found

    @final
    def _pair_scores(self, queries: Embeddings, vectors: Embeddings, rows: Ids) -> Embeddings:
        return _of_pairs(queries, np.ascontiguousarray(vectors), rows, self._faiss_metric)

    @final
    def _scan(
        self,
        index: Any,
        queries: Embeddings,
        k: int,
        among: int,
        *,
        selector: Any = None,
        named: Callable[[Ids], Ids] | None = None,
    ) -> tuple[Ids, Embeddings]:
        """Compare queries with all rows of an IndexFlat, or with the selected ones.

        Faiss does not define which of several equal scores it returns, and for some searches it
        multiplies matrices, which rounds differently. Therefore a few more rows are requested, and
        then scored pair by pair. If that does not settle which ones are best, a range search finds
        all rows that score at least as well as the last of them.

        Parameters
        ----------
        index : faiss.IndexFlat
        queries : float32 array of shape (n, dim)
        k : int
            At most ``among``.
        among : int
            Number of rows, or of selected rows.
        selector : faiss.IDSelector, optional
        named : callable, optional
            Function from rows to ids, which order equal scores. By default the rows themselves
            are returned.
        """
        in_pairs = len(queries) < _IN_PAIRS[0] and queries.size < _IN_PAIRS[1]
        asked = min(k + (_SPARE_IN_PAIRS if in_pairs else _SPARE), among)
        params = None if selector is None else faiss.SearchParameters(sel=selector)
        rows, scores = self._ask(queries, asked, params, work=index.ntotal, index=index)
        ids = rows if named is None else named(rows)
        if in_pairs:
            # Sorted already, except for the order of ids.
            edges = [] if k == asked else scores[:, k - 1 : k + 1].tolist()
            tied = [row for row, (last_in, first_out) in enumerate(edges) if last_in == first_out]
            if not tied:
                return ids[:, :k], scores[:, :k]
            open_ = [row for row in tied if asked < among and scores[row, k - 1] == scores[row, -1]]
            best = best_of(ids, scores, k)
        else:
            last, table = scores[:, -1], flat_rows(index)
            best = best_of(ids, _of_pairs(queries, table, rows, self._faiss_metric), k)
            open_ = []
            if asked < among:
                error = self._scan_error(queries, table)
                open_ = np.flatnonzero(last >= best.scores[:, -1] - error).tolist()
        for row in open_:
            best.ids[row], best.scores[row] = self._all_from(
                index, queries[row : row + 1], best.scores[row, -1], k, params=params, named=named
            )
        return best.ids, best.scores

    def _scan_error(self, queries: Embeddings, table: Embeddings) -> Embeddings:
        """Return the maximum rounding error of scores from a matrix product, for each query."""
        error = np.float32(2 * rounding(self.dim))
        if self.metric.on_sphere:
            return np.full(len(queries), error, dtype=np.float32)
        if self._longest is None or self._longest[0] != self._changes:
            self._longest = self._changes, float(np.sqrt(np.vecdot(table, table).max()))
        lengths: Embeddings = np.sqrt(np.vecdot(queries, queries))
        longest = np.float32(self._longest[1])
        return error * (lengths * longest if self.metric.by_product else (lengths + longest) ** 2)

    def _all_from(
        self,
        index: Any,
        query: Embeddings,
        score: float,
        k: int,
        *,
        params: Any,
        named: Callable[[Ids], Ids] | None,
    ) -> tuple[Ids, Embeddings]:
        """Return the ``k`` best rows of one query among all that score at least ``score``."""
        if not self.metric.by_product:
            radius = max(np.nextafter(np.float32(-score), np.float32(np.inf)), _SMALLEST)
        else:
            radius = np.nextafter(np.float32(score), np.float32(-np.inf))
        with threads(0.0):
            _, _, rows = index.range_search(query, float(radius), params=params)
        ids = rows if named is None else named(rows)
        scores = _of_pairs(query, flat_rows(index), rows[None], self._faiss_metric)
        found = best_of(ids[None], scores, k)
        return found.ids[0], found.scores[0]

    @final
    def _named(self, positions: Ids) -> Ids:
        """Return the ids at positions in the order of insertion; -1 stays -1."""
        return positions if self._ids.is_range else self._ids.at(positions)

    @final
    def _write(self, directory: Path, name: str = "index.faiss") -> None:
        path = directory / name
        try:
            # Opened here because Faiss accepts only UTF-8 paths. The file is buffered, so it
            # writes everything it is given: Faiss does not check how much was written.
            with path.open("wb") as file:
                faiss.write_index(self._faiss, faiss.PyCallbackIOWriter(file.write))
        except (OSError, RuntimeError) as error:
            raise StoreError(f"{path}: cannot be written: {error}") from error

    @final
    def _read(self, directory: Path, name: str = "index.faiss") -> Any:
        path = directory / name
        with path.open("rb") as file, _limited(path.stat().st_size + self._table_bytes):
            index = faiss.read_index(faiss.PyCallbackIOReader(file.read))
        if index.d != self.dim or index.metric_type != self._faiss_metric:
            raise InvalidInputError(
                f"{name}: expected dimension {self.dim} and Faiss metric "
                f"{self._faiss_metric}, found {index.d} and {index.metric_type}"
            )
        return index
