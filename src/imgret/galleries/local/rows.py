"""The rows of the catalog's items: their columns, their checksums, and the items they hold."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from imgret.support.items import check_item
from imgret.support.json_text import loads
from imgret.types import Box, Item

__all__ = [
    "COLUMNS",
    "HASHED",
    "SUMMED",
    "SUMMED_TEXT",
    "is_sound",
    "item_of",
    "row_checksum",
    "selected",
    "to_row",
    "without_nul",
]

# Columns that hold an item, in the order in which its checksum takes them after the id.
COLUMNS = "key, path, sha256, size, mtime_ns, x0, y0, x1, y1, subject, label, metadata, phash"
# Versions of the catalog since which a row has a perceptual hash, and a checksum. There is no
# version 3: one wrong bit would make it a version whose rows are not checked.
HASHED, SUMMED = 2, 4
_NUL, _NUL_IN_JSON = "\0", "\\u0000"


def row_checksum(row: tuple[Any, ...]) -> int:
    """Return the CRC-32 of the id of a row and its `COLUMNS`; what follows them is ignored.

    It is that of a text with U+001F between the values, nothing for NULL, and bytes as hexadecimal
    digits, so that SQLite can make it too: see `SUMMED_TEXT`.
    """
    (
        id_, key, path, sha256, size, mtime_ns, x0, y0, x1, y1, subject, label, metadata, phash,
    ) = row[:14]  # fmt: skip
    # One expression, as this runs for every row that is read.
    text = (
        f"{id_}\x1f{key}\x1f{'' if path is None else path}\x1f"
        f"{'' if sha256 is None else sha256.hex().upper()}\x1f{'' if size is None else size}\x1f"
        f"{'' if mtime_ns is None else mtime_ns}\x1f{'' if x0 is None else x0}\x1f"
        f"{'' if y0 is None else y0}\x1f{'' if x1 is None else x1}\x1f"
        f"{'' if y1 is None else y1}\x1f{subject}\x1f{'' if label is None else label}\x1f"
        f"{metadata}\x1f{'' if phash is None else phash.hex().upper()}"
    )
    return crc32(text.encode())


_BYTES = {"sha256", "phash"}
_VALUES = [f"hex({name})" if name in _BYTES else name for name in f"id, {COLUMNS}".split(", ")]
# SQL of the text that is summed. Making it there takes half the time of reading all columns; but
# it ends at a NUL, which an older imgret let in.
SUMMED_TEXT = f"CAST(printf('{chr(31).join(['%s'] * len(_VALUES))}', {', '.join(_VALUES)}) AS BLOB)"


def selected(version: int) -> str:
    """Return the columns of a row with its checksum, as a catalog of a version has them."""
    columns = COLUMNS if version >= HASHED else COLUMNS.replace("phash", "NULL")
    return f"id, {columns}, removed_at, {'row_crc' if version >= SUMMED else 'NULL'}"


def is_sound(row: tuple[Any, ...]) -> bool:
    """Whether a row with the columns of `selected` is what was committed."""
    removed_at = row[-2]
    try:
        return bool(row_checksum(row) + (0 if removed_at is None else removed_at + 1) == row[-1])
    except (AttributeError, TypeError, ValueError):  # a value of another type
        return False


def to_row(id_: int, item: Item) -> tuple[Any, ...]:
    """Return the id, the values of `COLUMNS` and their checksum; raises what `check_item` does."""
    metadata = check_item(item)
    row = (
        id_,
        item.key,
        item.path,
        item.sha256,
        _whole(item.size),
        _whole(item.mtime_ns),
        *(map(_whole, item.box) if item.box is not None else (None, None, None, None)),
        int(item.subject),
        item.label,
        metadata,
        item.phash,
    )
    return *row, row_checksum(row)


def _whole(value: Any) -> Any:
    """Return a number as SQLite stores it in a column of whole numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def item_of(row: tuple[Any, ...]) -> Item:
    """Return the item of a row that starts with its id and `COLUMNS`."""
    (
        _, key, path, sha256, size, mtime_ns, x0, y0, x1, y1, subject, label, metadata, phash,
    ) = row[:14]  # fmt: skip
    return Item(
        key=key,
        path=path,
        sha256=sha256,
        size=size,
        mtime_ns=mtime_ns,
        box=None if x0 is None else Box(x0, y0, x1, y1),
        subject=bool(subject),
        label=label,
        metadata={} if metadata == "{}" else _loaded(metadata),
        phash=phash,
    )


def _loaded(metadata: str) -> Any:
    """Return metadata whose texts end before a NUL, which imgret let in before version 4."""
    loaded = loads(metadata)
    if not isinstance(loaded, dict):
        raise TypeError("metadata that is no JSON object")
    return _cut(loaded) if _NUL_IN_JSON in metadata else loaded


def without_nul(metadata: str) -> str:
    """Return stored metadata as `item_of` reads them; what it cannot read stays as it is."""
    try:
        text = json.dumps(_loaded(metadata), ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        return metadata
    return text


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value.partition(_NUL)[0]
    if isinstance(value, list):
        return [_cut(each) for each in value]
    if isinstance(value, dict):
        return {_cut(name): _cut(each) for name, each in value.items()}
    return value
