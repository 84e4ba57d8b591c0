"""Metadata of images: from a callable, a mapping, or a file with one row per image."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, NoReturn, TypeAlias

from imgret.errors import InvalidInputError
from imgret.files import is_url
from imgret.ingest.sources import check_sources
from imgret.pipeline.embed import Source
from imgret.support.given import by_key, plain_metadata
from imgret.support.json_text import loads
from imgret.support.spelling import respelled

__all__ = [
    "Described",
    "Metadata",
    "Sidecar",
    "csv_rows",
    "describe",
    "json_rows",
    "read_sidecar",
    "refuse",
    "typed",
]

Metadata: TypeAlias = (
    Callable[[Path], Mapping[str, Any] | None]
    | Mapping[str, Mapping[str, Any]]
    | str
    | os.PathLike[str]
    | None
)

_NAMES = ("key", "path", "file")
# Whole numbers as JSON writes them: 007 and +1 are text.
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class Sidecar(NamedTuple):
    """Contents of a metadata file.

    Attributes
    ----------
    facts : dict of str to dict
        Metadata by key.
    labels : dict of str to str
        Labels by key, if the file has a column ``label``.
    """

    facts: dict[str, dict[str, Any]]
    labels: dict[str, str]


class Described(NamedTuple):
    """Sources with their metadata.

    Attributes
    ----------
    sources : list of Source
    unmatched : list of str
        Keys of a mapping or a file that no image has.
    undescribed : list of str
        Keys of images that a mapping or a file does not contain.
    """

    sources: list[Source]
    unmatched: list[str]
    undescribed: list[str]


def read_sidecar(file: Path, folder: Path, prefix: str) -> Sidecar:
    """Read a file with one row per image.

    Parameters
    ----------
    file : Path
        ``.csv`` with a header row, or ``.jsonl`` (or ``.ndjson``) with one object per line, in
        UTF-8. The image is named by its ``key``, or by its ``path`` or ``file`` (absolute or
        relative to ``folder``); the first of these columns that exists is used. ``label`` is its
        label, and all other columns are metadata. In a CSV, cells that are JSON numbers become
        numbers, and empty cells are left out.
    folder : Path
    prefix : str
        Prefix of the keys of images below ``folder``.

    Raises
    ------
    InvalidInputError
        The file cannot be read or is malformed; the message names the line.
    """
    readers = {".csv": _csv_rows, ".jsonl": json_rows, ".ndjson": json_rows}
    rows = readers.get(file.suffix.lower())
    if rows is None:
        raise InvalidInputError(
            f"{file}: expected a metadata file {', '.join(readers)}, found {file.suffix!r}"
        )
    facts: dict[str, dict[str, Any]] = {}
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        for line, row in rows(file):
            key = _key_of(row, file, line, folder, prefix)
            if key in lines:
                refuse(
                    file, line, f"expected each image once, found {key!r} as in line {lines[key]}"
                )
            lines[key] = line
            if (label := row.pop("label", None)) is not None:
                labels[key] = label
            facts[key] = row
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file}: expected UTF-8, found {error}") from error
    except OSError as error:
        raise InvalidInputError(f"{file}: cannot be read: {error.strerror or error}") from error
    return Sidecar(facts, labels)


def describe(sources: Sequence[Source], metadata: Any) -> Described:
    """Attach metadata to sources.

    Parameters
    ----------
    sources : sequence of Source
        Sources that come from files.
    metadata : callable, mapping or None
        Function of the path, or mapping by key; None for no metadata.

    Raises
    ------
    InvalidInputError
        ``metadata`` is something else, or what it gives is not a mapping of JSON values.
    """
    metadata = by_key(metadata)
    if metadata is None:
        return Described(list(sources), [], [])
    if isinstance(metadata, Mapping):
        # A metadata file and a disk may spell the same name differently.
        other = respelled([source.key for source in sources], metadata)
        keys = [other.get(source.key, source.key) for source in sources]
        asked = set(keys)
        unmatched = [str(key) for key in metadata if key not in asked]
        undescribed = [
            source.key for source, key in zip(sources, keys, strict=True) if key not in metadata
        ]
        found = [metadata.get(key) for key in keys]
    elif callable(metadata):
        unmatched, undescribed = [], []
        found = [metadata(source.image) for source in sources]
    else:
        raise InvalidInputError(
            f"metadata: expected a callable, a mapping, the path of a .csv or .jsonl file, or "
            f"None, found {metadata!r}"
        )
    described = [
        replace(source, metadata={} if facts is None else plain_metadata(facts, source.key))
        for source, facts in zip(sources, found, strict=True)
    ]
    check_sources(described)
    return Described(described, unmatched, undescribed)


def _key_of(row: dict[str, Any], file: Path, line: int, folder: Path, prefix: str) -> str:
    """Remove from a row the column that names its image, and return the key."""
    column = next((name for name in _NAMES if name in row), None)
    if column is None:
        refuse(file, line, f"expected one of {', '.join(_NAMES)}, found {list(row)}")
    name = row.pop(column)
    if not isinstance(name, str) or not name:
        refuse(file, line, f"expected text for {column!r}, found {name!r}")
    for reserved in ("key", "path"):  # a filter could not ask for these
        if reserved in row:
            refuse(file, line, f"expected metadata, found {reserved!r} beside {column!r}")
    return name if column == "key" or is_url(name) else prefix + _relative(name, folder)


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    def check(header: list[str]) -> None:
        if not any(name in header for name in _NAMES) or len({*header}) < len(header):
            refuse(
                file,
                1,
                f"expected a header row of different names, one of them {', '.join(_NAMES)}, found "
                f"{header}",
            )

    for line, row in csv_rows(file, check):
        yield (
            line,
            {
                name: cell if name in {*_NAMES, "label"} else typed(cell)
                for name, cell in row.items()
                if cell or name in _NAMES
            },
        )


def csv_rows(
    file: Path, check: Callable[[list[str]], None], *, delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file with their lines, cells by column; empty rows are left out.

    ``check`` gets the header row before any other row is read.
    """
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True, delimiter=delimiter)
        try:
            header = next(reader, [])
            check(header)
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    what = f"expected {len(header)} cells, found {len(cells)}"
                    refuse(file, reader.line_num, what)
                yield reader.line_num, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            refuse(file, reader.line_num, f"expected CSV, found: {error}")


def typed(cell: str) -> Any:
    """Return the cell of a CSV file, a number if it is one."""
    if _INTEGER.fullmatch(cell):
        return int(cell)
    if _FLOAT.fullmatch(cell) and math.isfinite(number := float(cell)):
        return number
    return cell


def json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the lines of a JSON lines file, with their numbers."""
    with file.open(encoding="utf-8-sig") as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                row = loads(line, parse_constant=_no_constant)
            except ValueError as error:
                refuse(file, number, f"expected a JSON object, found: {error}")
            if not isinstance(row, dict):
                refuse(file, number, f"expected a JSON object, found {line.strip()[:80]}")
            yield number, row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is not JSON")


def _relative(name: str, folder: Path) -> str:
    """Return a path in the form of a key: relative to the folder, with forward slashes."""
    path = Path(name)
    if path.is_absolute():
        root = folder.absolute()
        if not path.is_relative_to(root):  # another spelling of the folder, perhaps
            path, root = (
                Path(os.path.realpath(path.parent), path.name),
                Path(os.path.realpath(root)),
            )
        return Path(os.path.relpath(path, root)).as_posix()
    return str(PurePosixPath(name.replace("\\", "/") if os.sep == "\\" else name))


def refuse(file: Path, line: int, what: str) -> NoReturn:
    """Raise the error for a line of a file."""
    raise InvalidInputError(f"{file}, line {line}: {what}")
