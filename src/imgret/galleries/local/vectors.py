"""An append-only table of vectors, in memory or in a file."""

from __future__ import annotations

import logging
import mmap
import os
import sys
import time
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.errors import (
    DimensionError,
    ImgretError,
    InvalidInputError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
)
from imgret.galleries.local.own import open_file, remedy
from imgret.support.locks import ReadWriteLock
from imgret.types import Dtype, Embeddings, Ids

__all__ = ["SUFFIXES", "VectorLog", "checksums", "widened"]

_log = logging.getLogger(__name__)
SUFFIXES: dict[Dtype, str] = {"float16": "f16", "float32": "f32"}
_BLOCK_BYTES = 32 * 2**20
# A file up to this size stays mapped. Rows of a larger one are read with one call each: reading one
# through a mapping brings in what the system has cached around it, up to megabytes.
_MAPPED_BYTES = 512 * 2**20
# Maximum time to read a row that the system has cached; 1.5 us is usual, 100 us from a disk.
_CACHED_SECONDS = 6e-6
# When the bits of a float16 are moved to their place in a float32, the value is too small by this
# factor: the exponents have biases of 15 and 127. The sign is before them, three bits further on.
_HALF_SCALE, _HALF_BITS, _HALF_SHIFT = np.float32(2.0**112), np.int32(-0x7000_2000), 13
_CACHED_VALUES = 2**16


def widened(rows: NDArray[Any]) -> Embeddings:
    """Return finite rows as C-contiguous float32; values of float16 stay the same.

    NumPy widens float16 values one by one; integer arithmetic on many takes a fifth of the time.
    """
    if rows.dtype != np.float16:  # nor of another byte order
        return np.ascontiguousarray(rows, dtype=np.float32)
    wide: Embeddings = np.empty(rows.shape, dtype=np.float32)
    halves, values = np.ascontiguousarray(rows).reshape(-1).view(np.int16), wide.reshape(-1)
    for start in range(0, len(values), _CACHED_VALUES):
        part = values[start : start + _CACHED_VALUES]
        bits = part.view(np.int32)
        bits[:] = halves[start : start + _CACHED_VALUES]
        bits <<= _HALF_SHIFT
        bits &= _HALF_BITS
        part *= _HALF_SCALE
    return wide


class VectorLog:
    """Rows of one width that are added at the end and never changed.

    The file is held open, so it stays the same even if another one replaces it at the path.

    Parameters
    ----------
    dim : int
        Width of a row.
    dtype : {"float16", "float32"}
        Type in which rows are stored, little-endian; they are returned as float32.
    path : Path, optional
        File of the rows; without one, they are kept in memory.
    rows : int
        Number of committed rows. A file may hold more, left by a process that was killed before
        its commit.
    writable : bool
        Whether rows can be appended; if there are no rows yet, a missing file is created.

    Raises
    ------
    StoreCorruptError
        The file is missing, or shorter than ``rows``.
    StoreReadOnlyError, StoreError
        The file cannot be opened for writing, or for reading.
    """

    def __init__(
        self,
        dim: int,
        dtype: Dtype = "float16",
        *,
        path: Path | None = None,
        rows: int = 0,
        writable: bool = True,
    ) -> None:
        self.dim = dim
        self.dtype = dtype
        self._stored = np.dtype(dtype).newbyteorder("<")
        self._path = path
        self._rows = rows
        self._table: NDArray[Any] = self._empty(0)
        self._view: NDArray[Any] | None = None  # of a mapped file
        self._waits = False  # whether the last read waited for a disk
        self._file: FileIO | None = None
        self._closed = False
        # Shared while rows are read: the descriptor of a closed file may go to the next file that
        # is opened, and a reader would read that one.
        self._reading = ReadWriteLock()
        if path is not None:
            try:
                if writable:
                    self._file = FileIO(open_file(path, creates=not rows), "r+")
                else:
                    self._file = path.open("rb", buffering=0)
            except FileNotFoundError:
                raise StoreCorruptError(f"{path}: missing; restore it from a copy") from None
            except StoreError:  # a link
                raise
            except OSError as error:
                kind, what = (StoreReadOnlyError, "written") if writable else (StoreError, "read")
                raise kind(f"{path}: cannot be {what}: {error.strerror}") from error
            try:
                self._check_length(rows)
                if writable and os.fstat(self._file.fileno()).st_size > self._bytes(rows):
                    self._file.truncate(self._bytes(rows))
                    _log.warning("%s: dropped vectors that were never committed", path)
            except OSError as error:
                self._file.close()
                if isinstance(error, ImgretError):
                    raise
                raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
            except BaseException:
                self._file.close()
                raise

    def __len__(self) -> int:
        return self._rows

    def append(self, vectors: Embeddings) -> list[int]:
        """Add rows at the end, not yet durable.

        Returns
        -------
        list of int
            CRC-32 of each stored row.

        Raises
        ------
        DimensionError
            The vectors have another width.
        InvalidInputError
            A value is too large for float16.
        OSError
            The file cannot be written, for example because the disk is full; no row was added.
        """
        self._check_open()
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise DimensionError(
                f"vectors: expected shape (n, {self.dim}), found {np.shape(vectors)}"
            )
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(vectors, dtype=self._stored)
        if self.dtype == "float16" and not np.isfinite(rows).all():
            raise InvalidInputError(
                f"vectors: expected values within +-65504 (float16), found "
                f"{np.abs(vectors).max():.4g}; make the gallery with dtype='float32'"
            )
        if self._file is None:
            self._reserve(self._rows + len(rows))
            self._table[self._rows : self._rows + len(rows)] = rows
        elif len(rows):
            self._write(self._file, rows.data.cast("B"))
        self._rows += len(rows)
        return checksums(rows)

    def truncate(self, rows: int) -> None:
        """Drop the rows from ``rows`` on, to undo an append that was not committed."""
        if rows == self._rows:
            return
        self._view = None  # a file that is mapped must not be truncated
        self._rows = rows
        if self._file is not None:
            try:
                self._file.truncate(self._bytes(rows))
            except OSError as error:
                raise StoreError(f"{self._path}: cannot be written: {error.strerror}") from error

    def sync(self) -> None:
        """Make what was appended durable."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def __del__(self) -> None:
        """Close the file of vectors that were dropped."""
        if getattr(self, "_file", None) is not None:
            self.close()

    def close(self) -> None:
        """Close the file, after reads in progress; nothing can be read from then on."""
        with self._reading.write():
            self._closed = True
            self._view = None
            self._table = self._empty(0)
            if self._file is not None:
                self._file.close()
                self._file = None

    def stored(self, ids: Ids) -> NDArray[Any]:
        """Return a copy of the rows of these ids as they are stored."""
        with self._reading.read():
            rows = self._at_hand()
            return self._fetched(ids) if rows is None else rows.take(ids, axis=0)

    def table(self) -> NDArray[Any] | None:
        """Return a view of all rows, if they are stored as float32 in native byte order; else None.

        It is also None if the file is so large that its pages would fill memory.
        """
        if self._stored != np.float32:
            return None
        with self._reading.read():
            return self._at_hand()

    def read(self, ids: Ids) -> Embeddings:
        """Return the rows of these ids: float32, shape (n, dim)."""
        return widened(self.stored(ids))

    def blocks(
        self, ids: Ids, *, rows: int | None = None, size: int | None = None
    ) -> Iterator[tuple[Ids, NDArray[Any]]]:
        """Yield increasing ids and their stored rows in pieces.

        A piece takes about 32 MB as float32, or ``size`` bytes. ``rows`` is the bound of the ids,
        if another process may have added some of them.
        """
        step, bound = max(1, (size or _BLOCK_BYTES) // (self.dim * 4)), rows
        for start in range(0, len(ids), step):
            block = ids[start : start + step]
            with self._reading.read():
                found = self._block(block, self._rows if bound is None else bound)
            yield block, found

    def to_memory(self, rows: int) -> VectorLog:
        """Return the first rows in memory, including those another process added since."""
        copy = VectorLog(self.dim, self.dtype)
        with self._reading.read():
            copy._table = np.array(self._first(rows))
        copy._rows = rows
        return copy

    # -- inside --------------------------------------------------------------------------

    def _at_hand(self) -> NDArray[Any] | None:
        """Return a view of the rows, in memory or mapped; None for a large file."""
        self._check_open()
        if self._file is None:
            return self._table[: self._rows]
        self._check_length(self._rows)  # reading past the end would kill the process
        if self._bytes(self._rows) > _MAPPED_BYTES:
            self._view = None  # it may have grown since
            return None
        view = self._view
        if view is None or len(view) < self._rows:
            self._view = view = self._first(self._rows)
        return view

    def _fetched(self, ids: Ids) -> NDArray[Any]:
        """Read rows of a file one by one."""
        assert self._file is not None  # noqa: S101  # only called where it is
        if sys.platform == "win32":  # which releases pages by itself
            return self._first(self._rows).take(ids, axis=0)
        file, width = self._file.fileno(), self._bytes(1)
        places = [row * width for row in ids.tolist()]
        started = time.perf_counter()
        if sys.platform == "linux" and self._waits:  # ask the disk for all at once
            for place in places:
                os.posix_fadvise(file, place, width, os.POSIX_FADV_WILLNEED)
        try:
            rows = bytearray().join([os.pread(file, width, place) for place in places])
        except OSError as error:
            raise self._unreadable(error) from error
        self._waits = time.perf_counter() - started > _CACHED_SECONDS * len(places)
        if len(rows) < width * len(places):
            self._check_length(self._rows)  # another program may have truncated it meanwhile
        return np.frombuffer(rows, dtype=self._stored).reshape(len(ids), self.dim)

    def _block(self, ids: Ids, bound: int) -> NDArray[Any]:
        """Return a copy of the rows of increasing ids below a bound."""
        first, last = int(ids[0]), int(ids[-1])
        if last - first >= len(ids):
            # Mapped for this block alone: the pages that were read are released with it.
            return self._first(bound).take(ids, axis=0)
        if self._file is None or sys.platform == "win32":
            return self._first(bound)[first : last + 1].copy()
        found = self._empty(len(ids))
        place, data = self._bytes(first), found.data.cast("B")
        try:
            while data and (read := os.preadv(self._file.fileno(), [data], place)):
                place, data = place + read, data[read:]
        except OSError as error:
            raise self._unreadable(error) from error
        if data:  # another program has truncated it meanwhile
            self._check_length(bound)
        return found

    def _empty(self, rows: int) -> NDArray[Any]:
        return np.empty((rows, self.dim), dtype=self._stored)

    def _bytes(self, rows: int) -> int:
        return rows * self.dim * self._stored.itemsize

    def _check_length(self, rows: int) -> None:
        assert self._file is not None and self._path is not None  # noqa: S101, PT018  # only called where they are
        size = os.fstat(self._file.fileno()).st_size
        if size < self._bytes(rows):
            raise StoreCorruptError(
                f"{self._path}: expected {rows} rows of {self.dim} {self.dtype} "
                f"({self._bytes(rows)} bytes), found {size} bytes; {remedy(self._path.parent)}"
            )

    def _unreadable(self, error: OSError) -> StoreError:
        return StoreError(f"{self._path}: cannot be read: {error.strerror}")

    def _reserve(self, rows: int) -> None:
        if rows > len(self._table):
            grown = self._empty(max(rows, len(self._table) * 3 // 2))
            grown[: self._rows] = self._table[: self._rows]
            self._table = grown

    def _write(self, file: FileIO, data: memoryview) -> None:
        start = self._bytes(self._rows)
        file.seek(start)
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(start)
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError(
                f"{self._path or 'gallery'}: closed; open it again with Retriever.open()"
            )

    def _first(self, rows: int) -> NDArray[Any]:
        self._check_open()
        if self._file is None or not rows:
            return self._table[:rows]
        self._check_length(rows)
        # np.memmap would move the file's position, at which another thread may be writing.
        pages = mmap.mmap(self._file.fileno(), self._bytes(rows), access=mmap.ACCESS_READ)
        return np.frombuffer(pages, dtype=self._stored).reshape(rows, self.dim)


def checksums(rows: NDArray[Any]) -> list[int]:
    """Return the CRC-32 of each row of a C-contiguous array."""
    return list(map(zlib.crc32, np.ascontiguousarray(rows)))
