"""An append-only table of vectors, in memory or in a file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError, StoreCorruptError
from imgret.types import Embeddings, Ids

__all__ = ["Dtype", "VectorLog"]

Dtype: TypeAlias = Literal["float16", "float32"]

SUFFIXES: dict[Dtype, str] = {"float16": "f16", "float32": "f32"}
_BLOCK_BYTES = 32 * 2**20


class VectorLog:
    """Rows of one width that are added at the end and never changed.

    Parameters
    ----------
    dim : int
        Width of a row.
    dtype : {"float16", "float32"}
        How rows are kept, little-endian; they are handed out as float32.
    path : Path, optional
        The file; without one the rows are kept in memory.
    rows : int
        Rows that count. A file may hold more, left by a process that was killed before
        its commit.
    writable : bool
        Whether rows can be appended.
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
        self._table: NDArray[Any] = np.empty((0, dim), dtype=self._stored)
        self._file = None
        if path is not None:
            self._check_length(path, rows)
            if writable:
                self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
                self._file.truncate(self._bytes(rows))

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
        InvalidInputError
            A value is too large for float16.
        OSError
            The disk is full, say; no row was added.
        """
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
        else:
            self._write(rows.data.cast("B"))
        self._rows += len(rows)
        return checksums(rows)

    def truncate(self, rows: int) -> None:
        """Drop the rows from ``rows`` on: the undoing of an append that was not committed."""
        self._rows = rows
        if self._file is not None:
            self._table = self._table[:0]  # unmap before the file shrinks
            self._file.truncate(self._bytes(rows))

    def sync(self) -> None:
        """Make what was appended durable."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Give the file back; reading is over."""
        self._table = self._table[:0]
        if self._file is not None:
            self._file.close()
            self._file = None

    def stored(self, ids: Ids | slice) -> NDArray[Any]:
        """Return rows as they are kept."""
        return self._mapped()[ids]

    def read(self, ids: Ids) -> Embeddings:
        """Return the rows of these ids: float32, shape (n, dim)."""
        return np.ascontiguousarray(self._mapped()[ids], dtype=np.float32)

    def blocks(self, ids: Ids) -> Iterator[tuple[Ids, NDArray[Any]]]:
        """Yield ids and their stored rows in pieces of about 32 MB."""
        step = max(1, _BLOCK_BYTES // (self.dim * 4))
        for start in range(0, len(ids), step):
            block = ids[start : start + step]
            yield block, self.stored(block)

    # -- inside --------------------------------------------------------------------------

    def _bytes(self, rows: int) -> int:
        return rows * self.dim * self._stored.itemsize

    def _check_length(self, path: Path, rows: int) -> None:
        size = path.stat().st_size if path.exists() else 0
        if size < self._bytes(rows):
            raise StoreCorruptError(
                f"{path}: expected {rows} rows of {self.dim} {self.dtype} "
                f"({self._bytes(rows)} bytes), found {size} bytes; restore it from a copy"
            )

    def _reserve(self, rows: int) -> None:
        if rows > len(self._table):
            grown = np.empty((max(rows, len(self._table) * 3 // 2), self.dim), dtype=self._stored)
            grown[: self._rows] = self._table[: self._rows]
            self._table = grown

    def _write(self, data: memoryview) -> None:
        assert self._file is not None  # noqa: S101  # only called where it is
        start = self._bytes(self._rows)
        self._file.seek(start)
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError:
            self._file.truncate(start)
            raise

    def _mapped(self) -> NDArray[Any]:
        if self._path is not None and len(self._table) != self._rows:
            self._table = np.memmap(
                self._path, dtype=self._stored, mode="r", shape=(self._rows, self.dim)
            )
        return self._table[: self._rows]


def checksums(rows: NDArray[Any]) -> list[int]:
    """CRC-32 of each row of a C-contiguous array."""
    return [zlib.crc32(row) for row in np.ascontiguousarray(rows)]
