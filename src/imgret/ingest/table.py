"""Tables of images: a column of paths, others with labels and metadata.

CSV and JSON lines are read with the standard library, Parquet with pyarrow (an extra), and a data
frame of pandas, or of anything with its ``columns`` and ``to_dict``, as it is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from imgret.errors import InvalidInputError
from imgret.files import is_url
from imgret.ingest.metadata import csv_rows, json_rows, typed
from imgret.support import tables
from imgret.support.given import is_frame, label_or_none

__all__ = ["LABEL_COLUMN", "PATH_COLUMNS", "TABLES", "TableRow", "is_table", "read_table"]

PATH_COLUMNS = ("path", "file", "filename", "file_name", "image_path", "image", "url")
"""Columns that are tried for the image, in this order, upper and lower case alike."""
LABEL_COLUMN = "label"
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_BATCH_ROWS = 4096


class TableRow(NamedTuple):
    """One image of a table.

    Attributes
    ----------
    line : int
        Line of a CSV or JSON lines file, else number of the row from 1.
    image : str or bytes
        Path or address as the table gives it, or the contents of an image file; empty for none.
    name : str
        Name of the image: its path, or what a table of contents calls it.
    key : str or None
        Key, if the table has a column of that name.
    label : str or None
    metadata : dict
        All other columns; missing values are left out.
    """

    line: int
    image: str | bytes
    name: str
    key: str | None
    label: str | None
    metadata: dict[str, Any]


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a path has the suffix of a table."""
    return os.fspath(path).lower().endswith(TABLES)


def read_table(
    table: Any, *, path_column: str | None = None, label_column: str | None = None
) -> list[TableRow]:
    """Read a table with one row per image.

    Parameters
    ----------
    table : Path or data frame
        A file in one of the formats `TABLES`, in UTF-8 where it is text. The cells of CSV are
        separated by commas, or by semicolons if the header row has no comma.
    path_column : str, optional
        Column with the path or the address of the image; by default the first of `PATH_COLUMNS`
        that exists. In Parquet and in data frames it may also hold the contents of image files,
        as bytes or as Hugging Face datasets do (``{"bytes": ..., "path": ...}``).
    label_column : str, optional
        Column with the label; by default ``label``, if it exists.

    Raises
    ------
    InvalidInputError
        The file cannot be read or is malformed, or lacks a column; the message names them.
    MissingExtraError
        The file is Parquet and pyarrow is not installed.
    """
    name = "table" if is_frame(table) else str(table)
    rows, columns = _rows_of(table)
    if not columns:
        raise InvalidInputError(f"{name}: expected a table with a header row, found none")
    image = _column(name, columns, path_column, PATH_COLUMNS, "path")
    label = _column(name, columns, label_column, (LABEL_COLUMN,), "label")
    if image is None:
        raise InvalidInputError(
            f"{name}: expected a column of paths ({', '.join(PATH_COLUMNS)}), found "
            f"{_shown(columns)}; name it with path_column (--path-column)"
        )
    key = "key" if "key" in columns and image != "key" else None
    is_csv = not is_frame(table) and Path(table).suffix.lower() in {".csv", ".tsv"}
    found = []
    for line, row in rows:
        given = {str(column): _plain(value) for column, value in row.items()}
        shown, path = _image(given.pop(image, None), name, line)
        own = given.pop(key, None) if key else None
        tag = label_or_none(given.pop(label, None)) if label else None
        metadata = {
            column: typed(value) if is_csv else value
            for column, value in given.items()
            if value is not None
        }
        found.append(
            TableRow(
                line,
                shown,
                path,
                None if own is None else str(own),
                None if tag is None else str(tag),
                metadata,
            )
        )
    return found


def _rows_of(table: Any) -> tuple[Iterator[tuple[int, Mapping[Any, Any]]], list[str]]:
    """Return the rows of a table with their numbers, and the names of its columns."""
    if is_frame(table):
        columns = [str(column) for column in table.columns]
        _check_columns("table", columns)
        return enumerate(table.to_dict("records"), 1), columns
    file = Path(table)
    kind = file.suffix.lower()
    try:
        if kind == ".parquet":
            return _parquet(file)
        if kind in {".csv", ".tsv"}:
            return _csv(file, "\t" if kind == ".tsv" else ",")
        rows = list(json_rows(file))
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file}: expected UTF-8, found {error}") from error
    except OSError as error:
        raise InvalidInputError(f"{file}: cannot be read: {error.strerror or error}") from error
    return iter(rows), list(dict.fromkeys(name for _, row in rows for name in row))


def _csv(file: Path, delimiter: str) -> tuple[Iterator[tuple[int, Mapping[Any, Any]]], list[str]]:
    columns: list[str] = []

    def take(header: list[str]) -> None:
        _check_columns(str(file), header)
        columns.extend(header)

    with file.open(encoding="utf-8-sig") as text:
        first = text.readline()
    if delimiter == "," and "," not in first and ";" in first:
        delimiter = ";"
    rows = [
        (line, {name: cell for name, cell in row.items() if cell})
        for line, row in csv_rows(file, take, delimiter=delimiter)
    ]
    return iter(rows), columns


def _parquet(file: Path) -> tuple[Iterator[tuple[int, Mapping[Any, Any]]], list[str]]:
    what = f"{file}: reading Parquet"
    pa, pq = tables.arrow(what), tables.parquet(what)
    try:
        with pq.ParquetFile(file) as table:
            columns = list(table.schema_arrow.names)
            _check_columns(str(file), columns)
            rows = [row for batch in table.iter_batches(_BATCH_ROWS) for row in batch.to_pylist()]
        return enumerate(rows, 1), columns
    except pa.ArrowException as error:
        raise InvalidInputError(f"{file}: expected Parquet, found: {error}") from error


def _check_columns(name: str, columns: Sequence[str]) -> None:
    double = next((column for column in columns if columns.count(column) > 1), None)
    if double is not None:
        raise InvalidInputError(f"{name}: expected columns of different names, found {columns}")


def _column(
    name: str, columns: Sequence[str], given: str | None, usual: Sequence[str], what: str
) -> str | None:
    """Return the column to use: the one given or the first of the usual ones; else None."""
    if given is not None:
        if given in columns:
            return given
        raise InvalidInputError(
            f"{name}: expected the column {given!r} ({what}_column), found {_shown(columns)}"
        )
    by_name = {column.lower(): column for column in reversed(columns)}
    return next((by_name[each] for each in usual if each in by_name), None)


def _shown(columns: Sequence[str]) -> str:
    names = ", ".join(map(repr, columns[:20]))
    return names if len(columns) <= 20 else f"{names} and {len(columns) - 20} more"


def _image(value: Any, name: str, line: int) -> tuple[str | bytes, str]:
    """Return the image of a cell and its name; both empty for an empty cell."""
    if isinstance(value, Mapping):  # of Hugging Face
        data, path = value.get("bytes"), value.get("path")
        if isinstance(data, bytes) and data:
            return data, str(path or "")
        value = path
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None:
        return "", ""
    if not isinstance(value, str):
        raise InvalidInputError(
            f"{name}, row {line}: expected the path of an image, found {value!r}; name the column "
            f"of paths with path_column (--path-column)"
        )
    value = value.strip() if not is_url(value) else value
    return value, value


def _plain(value: Any) -> Any:
    """Return a cell as a JSON value, None for a missing one."""
    if label_or_none(value) is None:
        return None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value) if math.isfinite(value) else None
    if callable(getattr(value, "tolist", None)) and not isinstance(value, (str, bytes)):
        return value.tolist()
    return value
