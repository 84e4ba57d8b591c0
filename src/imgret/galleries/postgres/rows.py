"""Items and embeddings on their way into the table of items, and out of it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo

from imgret.errors import InvalidInputError
from imgret.filters.postgres import json_number
from imgret.support.items import check_items
from imgret.types import Box, Dtype, Embeddings, Ids, Item

__all__ = [
    "COLUMNS",
    "TYPES",
    "Halfvec",
    "IdArray",
    "JsonLoader",
    "Vector",
    "check_keys",
    "copied",
    "from_row",
    "register",
    "to_row",
    "unwire",
    "wire",
    "wire_ids",
]

COLUMNS = "key, path, sha256, size, mtime_ns, box, subject, label, metadata, phash"
# Numbers of types.
_INT4, _INT8, _INT8_ARRAY = 23, 20, 1016
_DECODE = json.JSONDecoder().raw_decode
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode
TYPES: dict[Dtype, str] = {"float16": "halfvec", "float32": "vector"}

# A number with an exponent, or a text, in which there may be what looks like one.
_LARGE = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?e\+\d+')


class Vector(bytes):
    """A float32 vector as pgvector sends it."""


class Halfvec(bytes):
    """A float16 vector as pgvector sends it."""


class IdArray(bytes):
    """Ids as PostgreSQL sends a ``bigint[]``."""


def wire_ids(ids: Sequence[int] | Ids) -> IdArray:
    """Return ids in the binary form of a ``bigint[]``."""
    body = np.empty(len(ids), dtype=[("size", ">i4"), ("id", ">i8")])
    body["size"], body["id"] = 8, ids
    # Dimensions, a flag for nulls, the type int8; of the one dimension its length and first index.
    return IdArray(struct.pack(">iiIii", 1, 0, _INT8, len(ids), 1) + body.tobytes())


def wire(rows: Embeddings, dtype: Dtype) -> list[Vector] | list[Halfvec]:
    """Return embeddings in pgvector's binary form."""
    kind: type = Halfvec if dtype == "float16" else Vector
    return [kind(line.tobytes()) for line in _lines(rows, dtype)]


def unwire(vectors: Sequence[bytes], dim: int) -> Embeddings:
    """Return embeddings that came in pgvector's binary form: float32, shape (n, dim)."""
    value = ">f2" if vectors and isinstance(vectors[0], Halfvec) else ">f4"
    lines = np.frombuffer(b"".join(vectors), dtype=[("head", "V4"), ("values", value, (dim,))])
    return lines["values"].astype(np.float32)


def _lines(rows: Embeddings, dtype: Dtype) -> NDArray[np.uint8]:
    """Return embeddings as bytes: their dimension, a zero, big-endian values."""
    head = np.full((len(rows), 1), rows.shape[1] << 16, dtype=">u4").view(np.uint8)
    body = np.ascontiguousarray(rows, dtype=">f2" if dtype == "float16" else ">f4")
    return np.hstack([head, body.view(np.uint8).reshape(len(rows), -1)])


# The form of a binary COPY: a head; for each row the number of its fields, and each field after its
# size; an end. An array is its dimensions, a flag for nulls, type, length, first index, and values.
_COPY_HEAD, _COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_NULL, _FALSE, _TRUE = b"\xff\xff\xff\xff", b"\0\0\0\1\0", b"\0\0\0\1\1"
_FIELDS = (COLUMNS.count(",") + 2).to_bytes(2)
_SIZE, _LONG, _BOX = (
    struct.Struct(">i").pack,
    struct.Struct(">iq").pack,
    struct.Struct(">6i8i").pack,
)
_BLOCK = 512  # rows sent at once
_KEY_BYTES = 2600  # fit into an index


def check_keys(keys: Sequence[str]) -> None:
    """Raise `InvalidInputError` for a key that does not fit into an index of PostgreSQL."""
    for key in keys:
        if len(key) > _KEY_BYTES // 4 and len(key.encode()) > _KEY_BYTES:
            raise InvalidInputError(
                f"key: expected at most {_KEY_BYTES:,} bytes in PostgreSQL, found "
                f"{len(key.encode()):,}: {key[:40]!r}..."
            )


def copied(items: Sequence[Item], embeddings: Embeddings, dtype: Dtype) -> Iterator[bytes]:
    """Check items, and yield what a binary COPY into `COLUMNS` and the embedding takes.

    Some rows are checked and yielded at a time. Their fields are made column by column, which is
    several times as fast as row by row.

    Raises
    ------
    InvalidInputError
        An item is invalid, or its key is too long.
    """
    yield _COPY_HEAD
    for start in range(0, len(items), _BLOCK):
        block = items[start : start + _BLOCK]
        lines = _lines(embeddings[start : start + _BLOCK], dtype)
        columns = [
            [_FIELDS] * len(block),
            *_columns(block),
            [_SIZE(lines.shape[1])] * len(block),
            lines.view(f"V{lines.shape[1]}")[:, 0].tolist(),
        ]
        yield b"".join(chain.from_iterable(zip(*columns, strict=True)))
    yield _COPY_END


def _columns(items: Sequence[Item]) -> list[list[bytes]]:
    """Check items, and return their fields in the order of `COLUMNS`."""
    metadata = [_exact(text) for text in check_items(items)]
    check_keys([item.key for item in items])
    return [
        _texts([item.key for item in items]),
        _texts([item.path for item in items]),
        _fields([item.sha256 for item in items]),
        _longs([item.size for item in items]),
        _longs([item.mtime_ns for item in items]),
        [_NULL if item.box is None else _boxed(item.box) for item in items],
        [_TRUE if item.subject else _FALSE for item in items],
        _texts([item.label for item in items]),
        _fields([b"\1" + text.encode() for text in metadata]),  # the version of jsonb
        _fields([item.phash for item in items]),
    ]


def _texts(values: Sequence[str | None]) -> list[bytes]:
    return _fields([None if value is None else value.encode() for value in values])


def _fields(values: Sequence[bytes | None]) -> list[bytes]:
    return [_NULL if value is None else _SIZE(len(value)) + value for value in values]


def _longs(values: Sequence[int | None]) -> list[bytes]:
    return [_NULL if value is None else _LONG(8, value) for value in values]


def _boxed(box: Box) -> bytes:
    x0, y0, x1, y1 = box
    return _BOX(52, 1, 0, _INT4, 4, 1, 4, x0, 4, y0, 4, x1, 4, y1)


def register(connection: Connection[Any]) -> None:
    """Tell a connection the types of pgvector, if the database has them."""
    for name, kind in (("vector", Vector), ("halfvec", Halfvec)):
        info = TypeInfo.fetch(connection, name)
        if info is None:
            return
        info.register(connection)
        connection.adapters.register_dumper(kind, _dumper(info.oid))
        connection.adapters.register_loader(info.oid, _loader(kind))
    connection.adapters.register_dumper(IdArray, _dumper(_INT8_ARRAY))


def _dumper(oid_: int) -> type[Dumper]:
    class BinaryDumper(Dumper):
        format = Format.BINARY
        oid = oid_

        def dump(self, obj: bytes) -> Buffer:
            return bytes(obj)

    return BinaryDumper


def _loader(kind: type[bytes]) -> type[Loader]:
    class BinaryLoader(Loader):
        format = Format.BINARY

        def load(self, data: Buffer) -> bytes:
            return kind(data)

    return BinaryLoader


class JsonLoader(Loader):
    """Parses what `jsonb` sends, which is a version and JSON without space around it."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Any:
        """Return the values."""
        return _DECODE(str(data[1:], "utf-8"))[0]


def to_row(item: Item) -> tuple[Any, ...]:
    """Return the values of `COLUMNS` for an item that was checked."""
    metadata = _ENCODE(dict(item.metadata)) if item.metadata else "{}"
    return (
        item.key,
        item.path,
        item.sha256,
        item.size,
        item.mtime_ns,
        None if item.box is None else list(item.box),
        item.subject,
        item.label,
        _exact(metadata),
        item.phash,
    )


def from_row(row: Sequence[Any]) -> Item:
    """Return the item with these values of `COLUMNS`."""
    key, path, sha256, size, mtime_ns, box, subject, label, metadata, phash = row
    facts: Mapping[str, Any] = metadata
    return Item(
        key=key,
        path=path,
        sha256=sha256,
        size=size,
        mtime_ns=mtime_ns,
        box=None if box is None else Box(*box),
        subject=subject,
        label=label,
        metadata=facts,
        phash=phash,
    )


def _exact(metadata: str) -> str:
    """Return JSON whose numbers jsonb keeps exactly: see `json_number`."""
    if "e+" not in metadata:
        return metadata
    return _LARGE.sub(_written, metadata)


def _written(found: re.Match[str]) -> str:
    text = found[0]
    return text if text[0] == '"' else json_number(json.loads(text))
