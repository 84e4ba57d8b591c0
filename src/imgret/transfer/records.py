"""Items as records of plain values, which every format of an export stores in its own way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from imgret.errors import InvalidInputError
from imgret.support.items import check_item
from imgret.support.json_text import loads
from imgret.types import Box, Embeddings, Item

__all__ = ["COLUMNS", "OPTIONAL", "Records", "from_cell", "item_of", "record_of", "to_cell"]

# The columns of an item, in the order in which every format has them.
COLUMNS = (
    *("key", "path", "label", "box", "subject", "size", "mtime_ns", "sha256", "phash"),
    "metadata",
)
# Columns that a file may lack: those of later versions.
OPTIONAL = frozenset({"phash"})


class Records(NamedTuple):
    """Some items and their embeddings.

    Attributes
    ----------
    items : list of Item
    embeddings : float32 array of shape (n, dim)
    """

    items: list[Item]
    embeddings: Embeddings


def record_of(item: Item) -> dict[str, Any]:
    """Return an item as JSON values under the names of `COLUMNS`, its metadata as JSON text."""
    return {
        "key": item.key,
        "path": item.path,
        "label": item.label,
        "box": None if item.box is None else list(item.box),
        "subject": item.subject,
        "size": item.size,
        "mtime_ns": item.mtime_ns,
        "sha256": None if item.sha256 is None else item.sha256.hex(),
        "phash": None if item.phash is None else item.phash.hex(),
        "metadata": check_item(item),
    }


def item_of(record: Mapping[str, Any], where: str) -> Item:
    """Return the item of a record.

    Parameters
    ----------
    record : mapping
        Values under the names of `COLUMNS`.
    where : str
        File and row, for errors.

    Raises
    ------
    InvalidInputError
        A value is missing or has the wrong type.
    """
    try:
        metadata, box, digest = (record[name] for name in ("metadata", "box", "sha256"))
        phash = record.get("phash")
        item = Item(
            key=record["key"],
            path=record["path"],
            sha256=None if digest is None else bytes.fromhex(digest),
            phash=None if phash is None else bytes.fromhex(phash),
            size=None if record["size"] is None else int(record["size"]),
            mtime_ns=None if record["mtime_ns"] is None else int(record["mtime_ns"]),
            box=None if box is None else _box(box),
            subject=bool(record["subject"]),
            label=record["label"],
            metadata={} if metadata is None else _object(metadata),
        )
        check_item(item)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidInputError(f"{where}: expected an item as exported, found {reason}") from error
    return item


def _box(values: Any) -> Box:
    box = Box(*(int(value) for value in values))
    if not (0 <= box.x0 < box.x1 and 0 <= box.y0 < box.y1):
        raise ValueError(f"the box {tuple(box)}, which is empty or outside of the image")
    return box


def _object(text: str) -> dict[str, Any]:
    value = loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"metadata {text[:80]!r}, which is not a JSON object")
    return value


def to_cell(value: Any) -> str:
    """Write a JSON value as the cell of a text table, from which `from_cell` reads it again.

    Text is written as it is, unless it could be read as something else: then it is in quotes.
    """
    if isinstance(value, str) and value and from_cell(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def from_cell(cell: str) -> Any:
    """Read a cell: JSON if it is JSON, otherwise text."""
    try:
        return loads(cell, parse_constant=_not_json)
    except ValueError:
        return cell


def _not_json(name: str) -> Any:
    raise ValueError(name)
