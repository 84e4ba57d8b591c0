"""Items and embeddings in an ``.npz`` file, which NumPy reads without anything else.

====================== ==========================================================================
``vectors``            float16 or float32 array of shape (n, dim), as the gallery stores them
``keys``, ``labels``   arrays of text of shape (n,); an item without a label has ``""``
``items``              uint8 array: one JSON object per line and item, with everything known of it
``imgret``             text: the header, from which a gallery is made again
====================== ==========================================================================

Arrays are written and read in pieces, so that they need not fit memory.
"""

from __future__ import annotations

import json
import math
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from imgret.errors import DimensionError, InvalidInputError
from imgret.support.json_text import loads
from imgret.transfer.header import GalleryHeader
from imgret.transfer.plain import Columns, choose_columns, plain_item
from imgret.transfer.records import Records, item_of, record_of
from imgret.transfer.table import Table

__all__ = ["NpzTable", "write_npz"]

_BYTES = 2**25
# An array that unpacks to more than 100 times its size is made to fill memory; a small one may.
_MOST_RATIO, _SMALL_BYTES = 100, 2**26
# Rows of text that are converted at a time.
_ROWS = 4096
# What damaged archives raise, and those that are encrypted or compressed in other ways.
_DAMAGED = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
_UNREADABLE = (*_DAMAGED, ValueError, KeyError, SyntaxError, tokenize.TokenError)


def write_npz(path: Path, header: GalleryHeader, batches: Iterable[Records]) -> int:
    """Write an ``.npz`` file, and return the number of items.

    Vectors go into a temporary file until their number is known.
    """
    dim, dtype = header.spec.dim, np.dtype(f"<f{2 if header.spec.dtype == 'float16' else 4}")
    count, longest = 0, {"key": 1, "label": 1}
    with (
        tempfile.TemporaryFile(dir=path.parent) as lines,
        tempfile.TemporaryFile(dir=path.parent) as rows,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for items, embeddings in batches:
            for item in items:
                record = record_of(item)
                for name, length in longest.items():
                    longest[name] = max(length, len(record[name] or ""))
                lines.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            rows.write(np.ascontiguousarray(embeddings, dtype=dtype).data)
            count += len(items)
        with _member(archive, "vectors", (count, dim), dtype, plain=True) as member:
            _copy(rows, member)
        for name, array in (("key", "keys"), ("label", "labels")):
            kind = np.dtype(f"<U{longest[name]}")
            with _member(archive, array, (count,), kind) as member:
                lines.seek(0)
                texts = (loads(line)[name] or "" for line in lines)
                while some := list(islice(texts, _ROWS)):
                    member.write(np.array(some, dtype=kind).tobytes())
        with _member(archive, "items", (lines.tell(),), np.dtype("u1")) as member:
            _copy(lines, member)
        text = np.array(header.to_json())
        with _member(archive, "imgret", (), text.dtype) as member:
            member.write(text.tobytes())
    return count


def _member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: Any, *, plain: bool = False
) -> IO[bytes]:
    """Open an array of the archive to write, after its header; ``plain`` does not compress it."""
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_STORED if plain else zipfile.ZIP_DEFLATED
    member = archive.open(info, "w", force_zip64=True)
    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(member, described)
    return member


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    source.seek(0)
    while data := source.read(2**20):
        target.write(data)


@final
class NpzTable(Table):
    """An ``.npz`` file of imgret or of another program.

    Parameters
    ----------
    path : Path
    key, vector : str or None
        Arrays of keys and vectors in a file of another program.

    Raises
    ------
    InvalidInputError
        It is not such a file, or has no such arrays.
    """

    def __init__(self, path: Path, *, key: str | None = None, vector: str | None = None) -> None:
        self.path, self.header = path, None
        try:
            self._archive = zipfile.ZipFile(path)
        except _DAMAGED as error:
            raise InvalidInputError(f"{path}: expected an .npz file, found {error}") from error
        try:
            self._check_packing()
            self._read_headers(key, vector)
        except BaseException:
            self._archive.close()
            raise

    def _check_packing(self) -> None:
        for member in self._archive.infolist():
            if member.file_size > max(_SMALL_BYTES, _MOST_RATIO * member.compress_size):
                raise InvalidInputError(
                    f"{self.path}: expected arrays of at most {_MOST_RATIO} times their size in "
                    f"the file, found {member.filename} of {member.file_size:,} bytes in "
                    f"{member.compress_size:,}; if it is right, save it with numpy.savez, which "
                    f"does not compress"
                )

    def _read_headers(self, key: str | None, vector: str | None) -> None:
        names = [n.removesuffix(".npy") for n in self._archive.namelist() if n.endswith(".npy")]
        self._columns: Columns | None = None
        self._headers: dict[str, tuple[tuple[int, ...], bool, Any]] = {}
        for name in names:
            try:
                with self._archive.open(f"{name}.npy") as member:
                    self._headers[name] = _header(member)
            except _UNREADABLE as error:
                raise InvalidInputError(
                    f"{self.path}: expected an array {name!r}, found {error}"
                ) from error
        if {"imgret", "items", "vectors"} <= set(names) and key is None and vector is None:
            self.header = GalleryHeader.from_json(str(self._whole("imgret")), self.path)
            self._vector = "vectors"
        else:
            rows = {n: h[0] for n, h in self._headers.items() if h[2].kind in "fiu"}
            vectors = [name for name, shape in rows.items() if len(shape) == 2]
            lists = [name for name, header in self._headers.items() if len(header[0]) == 1]
            columns = choose_columns(self.path, [*lists, *vectors], vectors, key=key, vector=vector)
            self._columns = columns
            self._vector = columns.vector
            self.chosen = f"keys from {columns.key!r}, vectors from {columns.vector!r}"
        shape = self._headers[self._vector][0]
        if len(shape) != 2:
            raise DimensionError(
                f"{self.path}: expected {self._vector!r} of shape (n, dim), found {shape}"
            )
        self._count, self.dim = shape
        if self.header is not None and self.dim != self.header.spec.dim:
            raise DimensionError(
                f"{self.path}: expected vectors of dimension {self.header.spec.dim}, as its "
                f"header says, found {self.dim}"
            )

    def __len__(self) -> int:
        return self._count

    def batches(self) -> Iterator[Records]:
        """Yield all items in pieces that fit memory."""
        items = self._items() if self._columns is None else self._plain_items(self._columns)
        for vectors in self._vectors():
            some = list(islice(items, len(vectors)))
            if len(some) < len(vectors):
                raise InvalidInputError(
                    f"{self.path}: expected one item for each of {self._count} vectors, found fewer"
                )
            yield Records(some, vectors)
        if next(items, None) is not None:
            raise InvalidInputError(
                f"{self.path}: expected one item for each of {self._count} vectors, found more"
            )

    def _items(self) -> Iterator[Any]:
        with self._archive.open("items.npy") as member:
            _header(member)
            try:
                for number, line in enumerate(member, 1):
                    where = f"{self.path}, item {number}"
                    try:
                        record = loads(line)
                    except ValueError as error:
                        raise InvalidInputError(f"{where}: expected JSON, found {error}") from error
                    yield item_of(record, where)
            except _DAMAGED as error:
                raise InvalidInputError(f"{self.path}: damaged: {error}") from error

    def _plain_items(self, columns: Columns) -> Iterator[Any]:
        kept = {columns.key, columns.label, columns.path, *columns.metadata} - {None}
        arrays = {}
        for name in self._headers:
            shape = self._headers[name][0]
            if name in kept and shape == (self._count,):
                arrays[name] = self._whole(name).tolist()
        for needed in (columns.key, columns.label):
            if needed is not None and needed not in arrays:
                raise InvalidInputError(
                    f"{self.path}: expected {needed!r} with one entry for each of {self._count} "
                    f"vectors, found shape {self._headers[needed][0]}"
                )
        fitting = columns._replace(
            path=columns.path if columns.path in arrays else None,
            metadata=tuple(name for name in columns.metadata if name in arrays),
        )
        folder = self.path.absolute().parent
        for number in range(self._count):
            row = {name: values[number] for name, values in arrays.items()}
            yield plain_item(row, fitting, folder, f"{self.path}, row {number + 1}")

    def _whole(self, name: str) -> NDArray[Any]:
        try:
            with self._archive.open(f"{name}.npy") as member:
                array: NDArray[Any] = npy.read_array(member, allow_pickle=False)
        except _UNREADABLE as error:
            reason = str(error)
            if "allow_pickle" in reason:
                reason = "Python objects, which could run code; save them as text or numbers"
            raise InvalidInputError(
                f"{self.path}: expected an array {name!r}, found {reason}"
            ) from error
        return array

    def _vectors(self) -> Iterator[NDArray[Any]]:
        """Yield the vectors in pieces."""
        shape, by_columns, dtype = self._headers[self._vector]
        rows = max(1, _BYTES // max(1, math.prod(shape[1:]) * 4))
        if by_columns:
            whole = self._whole(self._vector)
            yield from (whole[start : start + rows] for start in range(0, len(whole), rows))
            return
        width = shape[1] * dtype.itemsize
        try:
            with self._archive.open(f"{self._vector}.npy") as member:
                _header(member)
                for start in range(0, shape[0], rows):
                    some = min(rows, shape[0] - start)
                    data = b"".join(_exactly(member, some * width))
                    yield np.frombuffer(data, dtype=dtype).reshape(some, shape[1])
        except _DAMAGED as error:
            raise InvalidInputError(f"{self.path}: damaged: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._archive.close()


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, Any]:
    """Read the header of an array: its shape, whether it is stored by columns, and its dtype."""
    version = npy.read_magic(member)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format")
    shape, by_columns, dtype = read(member)
    return shape, by_columns, dtype


def _exactly(member: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield exactly this many bytes."""
    while size:
        data = member.read(min(size, 2**20))
        if not data:
            raise EOFError("truncated")
        size -= len(data)
        yield data
