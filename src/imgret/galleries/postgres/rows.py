"""Items and embeddings on their way into the table of items, and out of it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from psycopg import Connection
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo

from imgret.filters.postgres import json_number
from imgret.types import Box, Dtype, Embeddings, Ids, Item

__all__ = [
    "COLUMNS",
    "COLUMN_TYPES",
    "TYPES",
    "Halfvec",
    "IdArray",
    "JsonLoader",
    "Vector",
    "from_row",
    "register",
    "to_row",
    "wire",
    "wire_ids",
]

COLUMNS = "key, path, sha256, size, mtime_ns, box, subject, label, metadata, phash"
COLUMN_TYPES = (
    *("text", "text", "bytea", "int8", "int8", "int4[]", "bool", "text", "jsonb", "bytea"),
)
# Numbers of the types int8 and int8[].
_INT8, _INT8_ARRAY = 20, 1016
_DECODE = json.JSONDecoder().raw_decode
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
    """Return embeddings in pgvector's binary form: their dimension, a zero, big-endian values."""
    head = np.full((len(rows), 1), rows.shape[1] << 16, dtype=">u4").view(np.uint8)
    half = dtype == "float16"
    body = np.ascontiguousarray(rows, dtype=">f2" if half else ">f4").view(np.uint8)
    lines = np.hstack([head, body.reshape(len(rows), -1)])
    kind: type = Halfvec if half else Vector
    return [kind(line.tobytes()) for line in lines]


def register(connection: Connection[Any]) -> None:
    """Tell a connection the types of pgvector, if the database has them."""
    for name, kind, value in (("vector", Vector, ">f4"), ("halfvec", Halfvec, ">f2")):
        info = TypeInfo.fetch(connection, name)
        if info is None:
            return
        info.register(connection)
        connection.adapters.register_dumper(kind, _dumper(info.oid))
        connection.adapters.register_loader(info.oid, _loader(value))
    connection.adapters.register_dumper(IdArray, _dumper(_INT8_ARRAY))


def _dumper(oid_: int) -> type[Dumper]:
    class Binary(Dumper):
        format = Format.BINARY
        oid = oid_

        def dump(self, obj: bytes) -> Buffer:
            return bytes(obj)

    return Binary


def _loader(value: str) -> type[Loader]:
    class Binary(Loader):
        format = Format.BINARY

        def load(self, data: Buffer) -> Embeddings:
            return np.frombuffer(data, dtype=value, offset=4).astype(np.float32)

    return Binary


class JsonLoader(Loader):
    """Parses what `jsonb` sends, which is a version and JSON without space around it."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Any:
        return _DECODE(str(data[1:], "utf-8"))[0]


def to_row(item: Item) -> tuple[Any, ...]:
    """Return the values of `COLUMNS` for an item that was checked."""
    metadata = json.dumps(dict(item.metadata), ensure_ascii=False) if item.metadata else "{}"
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
