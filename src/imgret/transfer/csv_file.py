"""Items without embeddings in a CSV file, for spreadsheets.

A cell of metadata is text as it is, or JSON where that is something else: see `to_cell`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgret.errors import InvalidInputError
from imgret.transfer.records import from_cell, to_cell
from imgret.types import Item

__all__ = ["Edit", "read_csv", "write_csv"]

_FIXED = (
    *("key", "path", "label", "x0", "y0", "x1", "y1", "subject", "size", "modified", "sha256"),
    "phash",
)
_PREFIX = "metadata."
# Characters of a cell; the csv module's own limit is 128 KB.
_LONGEST = 2**30


class Edit(NamedTuple):
    """A row of a CSV file.

    Attributes
    ----------
    line : int
    key : str
    label : str or None
    metadata : dict
    """

    line: int
    key: str
    label: str | None
    metadata: dict[str, Any]


def write_csv(path: Path, items: Iterable[Item], fields: Iterable[str]) -> int:
    """Write a CSV file, and return the number of items.

    Parameters
    ----------
    path : Path
    items : iterable of Item
    fields : iterable of str
        Names of all metadata fields, each a column.
    """
    names, count = list(fields), 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)  # by CRLF, as RFC 4180 has it: a lone CR is then quoted
        writer.writerow([*_FIXED, *(f"{_PREFIX}{name}" for name in names)])
        for item in items:
            facts = item.metadata
            writer.writerow(
                [
                    item.key,
                    item.path or "",
                    item.label or "",
                    *(item.box or ("",) * 4),
                    "true" if item.subject else "false",
                    "" if item.size is None else item.size,
                    "" if item.mtime_ns is None else _iso(item.mtime_ns),
                    "" if item.sha256 is None else item.sha256.hex(),
                    "" if item.phash is None else item.phash.hex(),
                    *(to_cell(facts[name]) if name in facts else "" for name in names),
                ]
            )
            count += 1
    return count


def _iso(nanoseconds: int) -> str:
    """Return a time as ISO 8601 with nanoseconds, UTC."""
    return f"{np.datetime64(nanoseconds, 'ns')}Z"


class Edits(NamedTuple):
    """Contents of a CSV file.

    Attributes
    ----------
    rows : list of Edit
    has_labels, has_metadata : bool
        Whether the file has such columns.
    """

    rows: list[Edit]
    has_labels: bool
    has_metadata: bool


def read_csv(path: Path) -> Edits:
    """Read keys, labels and metadata of a CSV file that `write_csv` wrote.

    Raises
    ------
    InvalidInputError
        It is not such a file; the message names the line.
    """
    limit = csv.field_size_limit(_LONGEST)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            fields = [name for name in header if name.startswith(_PREFIX)]
            if "key" not in header or not ("label" in header or fields):
                raise InvalidInputError(
                    f"{path}, line 1: expected the columns 'key' and 'label' or 'metadata.NAME', "
                    f"as `imgret export` writes them, found {header}"
                )
            if twice := [name for name in header if header.count(name) > 1]:
                raise InvalidInputError(
                    f"{path}, line 1: expected each column once, found {twice[0]!r} twice"
                )
            rows = list(_rows(path, reader, header, fields))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: expected CSV in UTF-8, found {error}") from error
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error.strerror or error}") from error
    finally:
        csv.field_size_limit(limit)
    return Edits(rows, "label" in header, bool(fields))


def _rows(path: Path, reader: Any, header: list[str], fields: list[str]) -> Iterator[Edit]:
    lines: dict[str, int] = {}
    for cells in reader:
        line = reader.line_num
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise InvalidInputError(
                f"{path}, line {line}: expected {len(header)} cells, found {len(cells)}"
            )
        row = dict(zip(header, cells, strict=True))
        key = row["key"]
        if not key:
            raise InvalidInputError(f"{path}, line {line}: expected a key, found none")
        if key in lines:
            raise InvalidInputError(
                f"{path}, line {line}: expected each key once, found {key!r} as in line "
                f"{lines[key]}"
            )
        lines[key] = line
        metadata = {
            name.removeprefix(_PREFIX): from_cell(row[name]) for name in fields if row[name]
        }
        yield Edit(line, key, row.get("label") or None, metadata)
