"""Items and embeddings on their way into a collection, and out of it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from imgret.errors import InvalidInputError
from imgret.support.items import check_item
from imgret.support.locks import RLock
from imgret.types import Box, Embeddings, Item

__all__ = [
    "FIELDS",
    "KEY_BYTES",
    "LABEL_BYTES",
    "PATH_BYTES",
    "from_row",
    "new_ids",
    "size_of",
    "to_row",
    "vectors_of",
]

FIELDS = [
    *("key", "id", "label", "labelled", "path", "has_path", "sha256", "metadata", "details"),
]
# Bytes of a text in its field, and of a JSON value in any.
KEY_BYTES, LABEL_BYTES, PATH_BYTES, _JSON_BYTES = 2048, 2048, 8192, 65536
_INT64 = 2**63
_SCALARS = frozenset({str, int, float, bool, type(None)})
_ENCODE = json.JSONEncoder().encode
# An id is made of milliseconds since 2020 (40 bits), a writer drawn at random (16) and a counter.
_EPOCH, _WRITER_BITS, _COUNTER_BITS = 1_577_836_800_000, 16, 7
_writer = secrets.randbits(_WRITER_BITS)
_ids_lock = RLock(brief=True)
_last = 0


def new_ids(count: int) -> list[int]:
    """Return increasing int64 numbers that no other writer returns, larger than all before."""
    global _last  # noqa: PLW0603  # one clock a process
    with _ids_lock:
        now = int(time.time() * 1000) - _EPOCH
        start = max(now << _COUNTER_BITS, _last + 1)
        _last = start + count - 1
    low = (1 << _COUNTER_BITS) - 1
    return [
        ((n >> _COUNTER_BITS) << (_WRITER_BITS + _COUNTER_BITS))
        | (_writer << _COUNTER_BITS)
        | (n & low)
        for n in range(start, start + count)
    ]


def to_row(item: Item, id_: int) -> dict[str, Any]:
    """Return the scalar fields of an item.

    Raises
    ------
    InvalidInputError
        A text or the metadata are longer than Milvus keeps, or a number is larger; and what
        `check_item` raises.
    """
    metadata = check_item(item)
    _check_length("key", item.key, item.key, KEY_BYTES)
    _check_length("label", item.label or "", item.key, LABEL_BYTES)
    _check_length("path", item.path or "", item.key, PATH_BYTES)
    _check_length("metadata", metadata, item.key, _JSON_BYTES)
    nulls = _has_null(item)
    details = {
        "size": item.size,
        "mtime_ns": item.mtime_ns,
        "box": None if item.box is None else [int(value) for value in item.box],
        "subject": bool(item.subject),
        "phash": None if item.phash is None else item.phash.hex(),
    }
    return {
        "key": item.key,
        "id": id_,
        "label": item.label or "",
        "labelled": item.label is not None,
        "path": item.path or "",
        "has_path": item.path is not None,
        "sha256": "" if item.sha256 is None else item.sha256.hex(),
        "metadata": metadata,
        "nulls": nulls,
        "details": _ENCODE(details),
    }


def from_row(row: Mapping[str, Any]) -> Item:
    """Return the item with these fields."""
    details = _parsed(row["details"])
    box, phash = details["box"], details["phash"]
    return Item(
        key=row["key"],
        path=row["path"] if row["has_path"] else None,
        sha256=bytes.fromhex(row["sha256"]) if row["sha256"] else None,
        size=details["size"],
        mtime_ns=details["mtime_ns"],
        box=None if box is None else Box(*box),
        subject=details["subject"],
        label=row["label"] if row["labelled"] else None,
        metadata=_parsed(row["metadata"]),
        phash=None if phash is None else bytes.fromhex(phash),
    )


def vectors_of(rows: Sequence[Mapping[str, Any]], dim: int) -> Embeddings:
    """Return the embeddings of rows: float32, shape (n, dim)."""
    found = [row["embedding"] for row in rows]
    if found and _is_half(found[0]):
        packed = b"".join(each if isinstance(each, bytes) else each[0] for each in found)
        vectors: Embeddings = np.frombuffer(packed, "<f2").astype(np.float32)
    else:
        vectors = np.array(found, dtype=np.float32)
    return vectors.reshape(-1, dim)


def size_of(row: Mapping[str, Any], dim: int) -> int:
    """Return about how many bytes a row takes in a request."""
    texts = sum(len(value) for value in row.values() if isinstance(value, str))
    return 4 * dim + 2 * texts + 64


def _is_half(value: Any) -> bool:
    return isinstance(value, bytes) or isinstance(value[0], bytes)


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def _check_length(what: str, text: str, key: str, most: int) -> None:
    if len(text) * 4 > most and len(text.encode()) > most:
        of = "" if what == "key" else f" of {_brief(key)}"
        raise InvalidInputError(
            f"{what}{of}: expected at most {most:,} bytes in Milvus, found "
            f"{len(text.encode()):,}: {text[:40]!r}..."
        )


def _has_null(item: Item) -> bool:
    """Whether there is a null in the metadata; its whole numbers must fit 64 bits."""
    found = False
    for value in _values(item.metadata) if item.metadata else ():
        if value is None:
            found = True
        elif isinstance(value, int) and not -_INT64 <= value < _INT64:
            raise InvalidInputError(
                f"metadata of {_brief(item.key)}: expected whole numbers of at most 64 bits in "
                f"Milvus, found {value}; write it as text, or as a float"
            )
    return found


def _values(metadata: Mapping[str, Any]) -> Iterator[Any]:
    """Yield every value that is no object and no list."""
    level: list[Any] = [metadata]
    while level:
        value = level.pop()
        if type(value) in _SCALARS:
            yield value
        elif isinstance(value, Mapping):
            level += value.values()
        elif isinstance(value, (list, tuple)):
            level += value
        else:
            yield value


def _brief(key: str) -> str:
    return repr(key if len(key) <= 60 else f"{key[:57]}...")
