"""Conversion between items and the rows of the catalog."""

from __future__ import annotations

import json
from typing import Any

from imgret.support.items import check_item
from imgret.types import Box, Item

__all__ = ["COLUMNS", "COLUMNS_OF_V1", "MARKS", "from_row", "to_row"]

COLUMNS = "key, path, sha256, size, mtime_ns, x0, y0, x1, y1, subject, label, metadata, phash"

# As a reader selects them from a catalog of version 1, which it must not change.
COLUMNS_OF_V1 = COLUMNS.replace("phash", "NULL")
MARKS = ", ".join("?" * len(COLUMNS.split(", ")))

_NUL, _NUL_IN_JSON = "\0", "\\u0000"


def to_row(item: Item) -> tuple[Any, ...]:
    """Return the values of `COLUMNS` for an item; raises what `check_item` does."""
    metadata = check_item(item)
    return (
        item.key,
        item.path,
        item.sha256,
        item.size,
        item.mtime_ns,
        *(item.box or (None, None, None, None)),
        int(item.subject),
        item.label,
        metadata,
        item.phash,
    )


def from_row(row: tuple[Any, ...]) -> Item:
    """Return the item with these values of `COLUMNS`."""
    key, path, sha256, size, mtime_ns, x0, y0, x1, y1, subject, label, metadata, phash = row
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
    """Return metadata as filters see it: up to a NUL, which an older imgret let in."""
    loaded = json.loads(metadata)
    return _cut(loaded) if _NUL_IN_JSON in metadata else loaded


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value.partition(_NUL)[0]
    if isinstance(value, list):
        return [_cut(each) for each in value]
    if isinstance(value, dict):
        return {_cut(name): _cut(each) for name, each in value.items()}
    return value
