"""Items and embeddings in Parquet, by PyArrow.

One row per item. The footer has a header of imgret, from which a gallery is made again; without
it the file is a plain table for everybody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np

from imgret.errors import DimensionError, InvalidInputError
from imgret.support.tables import arrow, parquet
from imgret.transfer.header import GalleryHeader
from imgret.transfer.plain import Columns, choose_columns, plain_item
from imgret.transfer.records import COLUMNS, OPTIONAL, Records, item_of, record_of
from imgret.transfer.table import Table
from imgret.types import Item

__all__ = ["ParquetTable", "write_parquet"]

_FOOTER = b"imgret"
_WHAT = "Parquet"
# Bytes of vectors that are read at a time.
_BYTES = 2**25
_EXPORTED = tuple("modified" if name == "mtime_ns" else name for name in COLUMNS)


def write_parquet(
    path: Path, header: GalleryHeader, batches: Iterable[Records], *, half: bool = False
) -> int:
    """Write a Parquet file, and return the number of items.

    Embeddings are float32, which every reader knows, whatever the gallery's dtype: split into
    streams of bytes and compressed, float16 values take little more room than as float16.

    Parameters
    ----------
    path : Path
    header : GalleryHeader
    batches : iterable of Records
    half : bool
        Whether the gallery's float16 embeddings are written as float16, in a column of the name
        ``embedding``: a shard.
    """
    pa, pq = arrow(_WHAT), parquet(_WHAT)
    dim, half = header.spec.dim, half and header.spec.dtype == "float16"
    kind, dtype = (pa.float16(), np.float16) if half else (pa.float32(), np.float32)
    name = "embedding" if half else "vector"
    schema = pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("path", pa.string()),
            pa.field("label", pa.string()),
            # of four; PyArrow before 26 writes no list of a fixed length that is null
            pa.field("box", pa.list_(pa.int32())),
            pa.field("subject", pa.bool_(), nullable=False),
            pa.field("size", pa.int64()),
            pa.field("modified", _time(pa)),
            pa.field("sha256", pa.string()),
            pa.field("phash", pa.string()),
            pa.field("metadata", pa.string(), nullable=False),
            pa.field(name, pa.list_(kind, dim), nullable=False),
        ],
        metadata={_FOOTER: header.to_json().encode()},
    )
    count = 0
    with pq.ParquetWriter(
        path,
        schema,
        version="2.6",  # the first with nanoseconds
        compression="zstd",
        use_dictionary=["label"],
        write_page_checksum=True,
        use_byte_stream_split=[] if half else ["vector.list.element"],  # DuckDB knows no other
    ) as writer:
        for items, embeddings in batches:
            records = [record_of(item) for item in items]
            values = [[record[name] for record in records] for name in COLUMNS]
            columns = [
                pa.array(column, type=schema.field(n).type) for n, column in enumerate(values)
            ]
            flat = pa.array(np.ascontiguousarray(embeddings, dtype=dtype).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, dim))
            writer.write_batch(pa.record_batch(columns, schema=schema))
            count += len(items)
    return count


@final
class ParquetTable(Table):
    """A Parquet file of imgret or of another program.

    Parameters
    ----------
    path : Path
    key, vector : str or None
        Columns of keys and vectors in a file of another program.

    Raises
    ------
    InvalidInputError
        It is not a Parquet file, or has no such columns.
    """

    def __init__(self, path: Path, *, key: str | None = None, vector: str | None = None) -> None:
        self._pa, pq = arrow(_WHAT), parquet(_WHAT)
        self.path = path
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
        except (self._pa.ArrowException, ValueError, OSError) as error:
            raise InvalidInputError(
                f"{path}: expected a Parquet file, found {_first_line(error)}"
            ) from error
        self._rows = max(0, int(self._file.metadata.num_rows))
        try:
            schema = self._file.schema_arrow
            self._vector = "vector"
            if "vector" not in schema.names and _FOOTER in (schema.metadata or {}):
                self._vector = "embedding"  # of a shard
            self.header: GalleryHeader | None = None
            self._columns: Columns | None = None
            if key is None and vector is None:
                footer = (schema.metadata or {}).get(_FOOTER)
                if footer is not None:
                    self.header = GalleryHeader.from_json(footer.decode("utf-8", "replace"), path)
                    self._check(schema)
                    self.dim = self.header.spec.dim
                    return
                if not self._lost(schema):  # pandas has written it again, without the footer
                    self.dim = self._width(self._vector)
                    return
            vectors = [field.name for field in schema if _is_vector(self._pa, field.type)]
            columns = choose_columns(path, schema.names, vectors, key=key, vector=vector)
            self._columns = columns
            self.dim = self._width(columns.vector)
            self.chosen = f"keys from {columns.key!r}, vectors from {columns.vector!r}"
        except BaseException:
            self._file.close()
            raise

    def _check(self, schema: Any) -> None:
        """Raise if a file with a header of imgret has lost columns."""
        if lost := self._lost(schema):
            raise InvalidInputError(
                f"{self.path}: expected the columns of an export, found none of the name "
                f"{', '.join(map(repr, lost))}; export the gallery again, or name the columns to "
                f"read by key_column and vector_column (--key-column, --vector-column)"
            )
        if not _is_vector(self._pa, schema.field(self._vector).type):
            raise InvalidInputError(
                f"{self.path}: expected lists of numbers in column {self._vector!r}, found "
                f"{schema.field(self._vector).type}"
            )

    def _lost(self, schema: Any) -> list[str]:
        """Return the columns of an export that a file does not have."""
        return sorted({*_EXPORTED, self._vector} - OPTIONAL - set(schema.names))

    def items(self) -> Iterator[Item]:
        """Yield the items of a file with a header, without reading their embeddings."""
        names = [name for name in _EXPORTED if name in self._file.schema_arrow.names]
        done = 0
        for batch in self._file.iter_batches(columns=names):
            columns = self._plain(batch, names)
            for number in range(batch.num_rows):
                row = {other: values[number] for other, values in columns.items()}
                yield item_of(row, f"{self.path}, row {done + number + 1}")
            done += batch.num_rows

    def _plain(self, batch: Any, names: Iterable[str]) -> dict[str, list[Any]]:
        """Return columns as lists of Python objects."""
        columns = {}
        for other in names:
            column = batch.column(batch.schema.get_field_index(other))
            if self._columns is None and other == "modified":
                pa = self._pa
                column, other = column.cast(_time(pa)).cast(pa.int64()), "mtime_ns"  # noqa: PLW2901
            columns[other] = column.to_pylist()
        return columns

    def _width(self, name: str) -> int:
        """Return the dimension of the vectors: that of the type, or of the first row."""
        kind = self._file.schema_arrow.field(name).type
        if self._pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        for batch in self._file.iter_batches(batch_size=1, columns=[name]):
            first = batch.column(0)[0].as_py()
            return len(first or ())
        return 0

    def __len__(self) -> int:
        return self._rows

    def batches(self) -> Iterator[Records]:
        """Yield all items in pieces that fit memory."""
        names = self._file.schema_arrow.names
        if self._columns is None:
            names = [name for name in (*_EXPORTED, self._vector) if name in names]
        step, done = max(1, _BYTES // (4 * max(self.dim, 1))), 0
        try:
            for batch in self._file.iter_batches(batch_size=step, columns=list(names)):
                yield self._batch(batch, done)
                done += batch.num_rows
        except (self._pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if "Expected all lists to be of size" in str(error):
                raise InvalidInputError(
                    f"{self.path}: has lists of a fixed length, some of them null, which PyArrow "
                    f"{self._pa.__version__} does not read; PyArrow 26 does: pip install -U pyarrow"
                ) from error
            raise InvalidInputError(
                f"{self.path}: damaged: {_first_line(error)}; nothing of it was imported"
            ) from error
        if done != self._rows:  # a damaged header of a page hides its rows
            raise InvalidInputError(
                f"{self.path}: damaged: expected {self._rows} rows, found {done}; nothing of it "
                f"was imported"
            )

    def _batch(self, batch: Any, done: int) -> Records:
        folder = self.path.absolute().parent
        name = self._vector if self._columns is None else self._columns.vector
        embeddings = self._vectors(batch.column(batch.schema.get_field_index(name)), name, done)
        others = [field.name for field in batch.schema if field.name != name]
        columns = self._plain(batch, others)
        items = []
        for number in range(batch.num_rows):
            row = {other: values[number] for other, values in columns.items()}
            where = f"{self.path}, row {done + number + 1}"
            if self._columns is None:
                items.append(item_of(row, where))
            else:
                items.append(plain_item(row, self._columns, folder, where))
        return Records(items, embeddings)

    def _vectors(self, column: Any, name: str, done: int) -> Any:
        """Return a column of lists as an array."""
        values = column.flatten()  # without the lists that are null
        lengths = self._pa.compute.list_value_length(column)
        for number, length in enumerate(lengths.to_pylist()):
            if length != self.dim:
                found = "none" if length is None else f"one of {length}"
                raise DimensionError(
                    f"{self.path}, row {done + number + 1}: expected a vector of {self.dim} "
                    f"numbers in column {name!r}, found {found}"
                )
        if values.null_count:
            raise InvalidInputError(
                f"{self.path}, rows {done + 1} to {done + len(column)}: expected numbers in column "
                f"{name!r}, found null"
            )
        return np.asarray(values).reshape(len(column), self.dim)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _time(pa: Any) -> Any:
    return pa.timestamp("ns", tz="UTC")


def _is_vector(pa: Any, kind: Any) -> bool:
    """Whether a column may hold vectors: lists of floats, or of integers if all have a length."""
    types = pa.types
    if types.is_fixed_size_list(kind):
        return bool(types.is_floating(kind.value_type) or types.is_integer(kind.value_type))
    if types.is_list(kind) or types.is_large_list(kind):
        return bool(types.is_floating(kind.value_type))
    return False


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
