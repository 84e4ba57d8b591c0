"""A gallery in Milvus: a collection with a row for each item."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, final

import numpy as np

from imgret.abc import GallerySpec, Stored, VectorIndex
from imgret.errors import (
    DuplicateKeyError,
    StoreError,
    UnsupportedError,
)
from imgret.filters import Filter, passes
from imgret.filters.milvus import ALL, Expression, compile_filter, in_list
from imgret.filters.tree import COLUMNS, Exists, Field
from imgret.galleries.milvus import schema
from imgret.galleries.milvus.address import Address
from imgret.galleries.milvus.connection import MilvusConnection
from imgret.galleries.milvus.rows import FIELDS, from_row, new_ids, size_of, to_row, vectors_of
from imgret.galleries.milvus.schema import MilvusLayout
from imgret.galleries.milvus.view import MilvusView
from imgret.galleries.server import ServerGallery, plain_fields
from imgret.types import Embeddings, Ids, Item

__all__ = ["MilvusGallery"]

# Rows that Milvus returns at once, and keys or ids that are listed in one expression.
PAGE, _LISTED = 16_384, 2048
# Bytes of a request, well below the limit of a server (64 MB), and of an answer.
_REQUEST, _ANSWER = 2**24, 2**25
# Seconds for which spec and numbers of items, which others may change, are taken for true.
_FRESH = 1.0
# Expressions whose items are counted only once between changes.
_COUNTED = 256
# Items whose fields are listed when a filter names one that does not exist.
_LOOKED_AT = 1000


@final
class MilvusGallery(ServerGallery):
    """A gallery in a collection of Milvus, or of Milvus Lite.

    Many processes may read and write at once on a server; a file of Milvus Lite is for one process.
    Milvus has no transactions: a batch of up to 16 MB is one request, which is kept as a whole or
    not at all. Larger batches are several requests. If one of them fails, those before it are
    undone. If this process is killed meanwhile, some items may be there; adding the same items
    again with ``replacing`` completes them.

    What decides about a change, what lists items and what counts them reads with consistency level
    ``Strong``. Searches, and copies by their digest, read with level ``Session``, or ``Strong`` in
    the two seconds after a removal: they see all changes of this process, and those of others with
    the delay of the server, usually below a second.

    Parameters
    ----------
    connection : MilvusConnection
    writable : bool
    """

    def __init__(self, connection: MilvusConnection, *, writable: bool) -> None:
        super().__init__(connection, writable=writable)
        self.connection = connection
        self._is_mine = False  # created by this object
        self._spec, self._layout = schema.read_spec(connection)
        self._at = -math.inf  # when it was looked at
        self._state = ""
        self._counts: dict[str, int] = {}  # of items in this state, by expression

    # -- where it is -------------------------------------------------------------------------

    @classmethod
    def create(cls, uri: str, spec: GallerySpec, prepared: VectorIndex | None = None) -> Self:
        """Create the collections of an empty gallery; see `Gallery.create`."""
        del prepared  # the server has its own
        MilvusLayout.of(spec)
        connection = MilvusConnection(Address.parse(uri))
        try:
            schema.create(connection, spec)
            gallery = cls(connection, writable=True)
        except BaseException:
            connection.close()
            raise
        gallery._is_mine = True
        return gallery

    @classmethod
    def open(cls, uri: str, *, writable: bool) -> Self:
        """Open a gallery; see `Gallery.open`."""
        address = Address.parse(uri)
        if address.file is not None and not address.file.exists():
            raise schema.nothing(address)
        connection = MilvusConnection(address)
        try:
            with connection.writing():  # Milvus Lite opens a collection twice if two ask at once
                schema.need(connection)
                gallery = cls(connection, writable=writable)
                schema.prepare(connection, gallery._layout)
        except BaseException:
            connection.close()
            raise
        return gallery

    @classmethod
    def is_taken(cls, uri: str) -> bool:
        """Whether there is a collection of the gallery's name."""
        address = Address.parse(uri)
        if address.file is not None and not address.file.exists():
            return False
        connection = MilvusConnection(address)
        try:
            return schema.exists(connection)
        finally:
            connection.close()

    @property
    def layout(self) -> MilvusLayout:
        """How vectors are stored, compared and indexed."""
        return self._layout

    @property
    def version(self) -> Hashable:
        """A text that every change by any process replaces."""
        self.check_open()
        return schema.read_state(self.connection)

    # -- items -------------------------------------------------------------------------------

    def _count(self) -> int:
        return self.count("")

    def _is_empty(self) -> bool:
        # Every search asks; what was counted before saves it a request.
        return not self.passing("") and not self._count()

    def _keys(self) -> Iterator[str]:
        return (row["key"] for row in self.ordered(["key", "id"]))

    def files(self) -> Iterator[tuple[str, str | None]]:
        """Yield key and path of every item, by id."""
        for row in self.ordered(["key", "id", "path", "has_path"]):
            yield row["key"], row["path"] if row["has_path"] else None

    def _find(self, keys: Sequence[str]) -> dict[str, Item]:
        return {row["key"]: from_row(row) for row in self.listed("key", keys, FIELDS)}

    def _vectors(self, keys: Sequence[str]) -> dict[str, Embeddings]:
        rows = list(self.listed("key", keys, ["key", "embedding"]))
        vectors = vectors_of(rows, self._spec.dim)
        return {row["key"]: vector for row, vector in zip(rows, vectors, strict=True)}

    def copy_of(self, sha256: bytes) -> Stored | None:
        """Return the oldest item made from a file with this digest."""
        where = f'sha256 == "{sha256.hex()}"'
        found = self.query(where, ["key", "id"], level=self.connection.level)
        if not found:
            return None
        oldest = min(found, key=lambda row: row["id"])
        rows = self.query(
            in_list("key", [oldest["key"]]), [*FIELDS, "embedding"], level=self.connection.level
        )
        if not rows:
            return None  # removed meanwhile
        return Stored(from_row(rows[0]), vectors_of(rows, self._spec.dim)[0])

    def _new_names(self, count: int) -> list[str]:
        return [f"image-{_short(id_)}" for id_ in new_ids(count)]

    # -- changing ----------------------------------------------------------------------------

    def _add(self, items: Sequence[Item], embeddings: Embeddings, replacing: Sequence[str]) -> None:
        ids = new_ids(len(items))
        rows = [to_row(item, id_) for item, id_ in zip(items, ids, strict=True)]
        given = [item.key for item in items]
        with self._changing():
            fresh = set(given) - set(replacing)
            self._need_unused([key for key in given if key in fresh])
            if self._spec.dtype == "float16":  # the same values whatever the server keeps
                embeddings = embeddings.astype(np.float16).astype(np.float32)
            wired = self._layout.wire(embeddings)
            for row, vector in zip(rows, wired, strict=True):
                row["embedding"] = vector
            self._write(rows, [key for key in replacing if key not in set(given)], set(replacing))

    def _remove(self, keys: Sequence[str]) -> None:
        with self._changing():
            self._delete(keys)

    def _change(self, items: Mapping[str, Item]) -> None:
        named = [item.key for item in items.values()]
        if len(set(named)) < len(named):
            raise DuplicateKeyError("key: expected new keys, each once, found one twice")
        for item in items.values():
            to_row(item, 0)  # its errors, before anything is read
        with self._changing():
            self._need_unused([key for key in named if key not in items])
            old = list(self.listed("key", list(items), ["key", "id", "embedding"]))
            wired = self._layout.wire(vectors_of(old, self._spec.dim))
            rows = [
                {**to_row(items[row["key"]], row["id"]), "embedding": vector}
                for row, vector in zip(old, wired, strict=True)
            ]
            self._write(rows, [key for key in items if key not in set(named)], set(items))

    def _change_spec(self, changes: Mapping[str, Any]) -> None:
        with self.connection.writing():
            schema.write_spec(self.connection, plain_fields(changes))
        self._spec, self._layout = schema.read_spec(self.connection)

    def _create_filter_index(self, field: str) -> None:
        if field in COLUMNS:
            return  # key, label and path are fields of their own
        raise UnsupportedError(
            f"{self.name}: expected key, label or path, found {field!r}; Milvus has no index on "
            f"metadata that answers every filter. Filters on it work without"
        )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep this process's other writers away from Milvus Lite, and tell readers of a change."""
        with self.connection.writing():
            try:
                yield
            finally:
                self._at = -math.inf
                schema.change_state(self.connection)

    def _need_unused(self, keys: Sequence[str]) -> None:
        taken = {row["key"] for row in self.listed("key", keys, ["key"])}
        if taken:
            first = next(key for key in keys if key in taken)
            raise DuplicateKeyError(f"key: expected new keys, each once, found {first!r}")

    def _write(self, rows: list[dict[str, Any]], going: Sequence[str], held: set[str]) -> None:
        """Write rows and remove keys; undo what was written if that fails.

        ``held`` are the keys that had a row before.
        """
        requests = list(_requests(rows, self._spec.dim))
        several = len(requests) + bool(going) > 1
        mine = [row["key"] for row in rows if row["key"] in held]
        fields = [*FIELDS, "nulls", "embedding"]
        before = list(self.listed("key", mine, fields)) if several else []
        written: list[str] = []
        try:
            for request in requests:
                written += [row["key"] for row in request]
                self._send(request)
            if mine:
                self.connection.removed()
            self._delete(going)
        except StoreError as error:
            if not several:
                raise
            try:
                self._undo(written, before, held)
            except StoreError:
                raise StoreError(
                    f"{error}. {len(written)} of {len(rows)} items were written before; repeat "
                    f"the call with replacing, or add the folder again, to complete them"
                ) from error
            raise

    def _send(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows in one request."""
        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
        vectors = columns["embedding"]
        columns["embedding"] = [
            vector.tobytes() if self._layout.half else vector.tolist() for vector in vectors
        ]
        self.connection.upsert(columns)

    def _undo(self, written: list[str], before: list[dict[str, Any]], held: set[str]) -> None:
        wired = self._layout.wire(vectors_of(before, self._spec.dim))
        rows = [
            {
                **{name: row[name] for name in [*FIELDS, "nulls"]},
                "embedding": vector,
            }
            for row, vector in zip(before, wired, strict=True)
        ]
        for request in _requests(rows, self._spec.dim):
            self._send(request)
        self._delete([key for key in written if key not in held])

    def _delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _LISTED):
            self.connection.ask(
                "delete",
                self.connection.address.collection,
                filter=in_list("key", keys[start : start + _LISTED]),
            )
            self.connection.removed()

    def _how_to_check(self) -> str:
        return "`imgret copy` reads every item, and fails if the server cannot return one"

    def _how_to_compact(self) -> str:
        return (
            f"Milvus deletes removed items by itself after a while; `compact("
            f"{self.connection.address.collection!r})` of pymilvus' MilvusClient asks for it"
        )

    def discard_if_unused(self) -> bool:
        """Delete a gallery of Milvus Lite; a server does not say who uses a collection."""
        if not (self._is_mine and self.connection.is_alone):
            return False
        with self.connection.writing():
            if self.count(""):
                return False
            schema.drop(self.connection)
        return True

    # -- searching -----------------------------------------------------------------------------

    def _has_field(self, field: Field) -> bool:
        return next(self.matching(Exists(field)), None) is not None

    def _field_names(self) -> Iterable[str]:
        rows = self.query("", ["metadata"], limit=_LOOKED_AT)
        return {name for row in rows for name in row["metadata"]}

    def view(self, where: Filter | None = None) -> MilvusView:
        """Return a view whose requests each see the gallery as it is then."""
        self.check_open()
        self._look()
        return MilvusView(self, self._spec, self._layout, where)

    def compiled(self, where: Filter | None) -> Expression:
        """Return the expression of a filter."""
        if where is None:
            return ALL
        connection = self.connection
        return compile_filter(where, substrings=connection.is_lite or connection.version >= (2, 4))

    def most(self) -> int:
        """Return an upper bound of the number of items.

        What others added in the last second, or were killed while adding, may be missing, but only
        beyond what one request finds.
        """
        return max(self.passing(""), PAGE)

    def passing(self, expression: str) -> int:
        """Return how many items match an expression, as of the last second.

        They are counted again only after a change, as that may take as long as a search.
        """
        self._look()
        counts = self._counts
        found = counts.get(expression)
        if found is None:
            if len(counts) >= _COUNTED:
                counts.clear()
            found = counts[expression] = self.count(expression, level=self.connection.level)
        return found

    def _look(self) -> None:
        """Read the spec again after a while, or after a change of ours; see what has changed."""
        if time.monotonic() - self._at > _FRESH:
            state = schema.read_state(self.connection, level=self.connection.level)
            if state != self._state:
                self._state, self._counts = state, {}
            self._spec, self._layout = schema.read_spec(self.connection, self._layout)
            self._at = time.monotonic()

    # -- requests ------------------------------------------------------------------------------

    def query(
        self,
        expression: str,
        fields: Sequence[str],
        *,
        limit: int | None = None,
        level: str = "Strong",
    ) -> list[dict[str, Any]]:
        """Return rows that match an expression, in no order."""
        found = self.connection.ask(
            "query",
            self.connection.address.collection,
            filter=expression,
            output_fields=list(fields),
            consistency_level=level,
            **({} if limit is None else {"limit": limit}),
        )
        return list(found)

    def count(self, expression: str, *, level: str = "Strong") -> int:
        """Return the number of rows that match an expression."""
        return int(self.query(expression, ["count(*)"], level=level)[0]["count(*)"])

    def listed(
        self, field: str, values: Sequence[Any], fields: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows whose key or id is one of some values, in no order."""
        step = self.page(fields, _LISTED)
        for start in range(0, len(values), step):
            yield from self.query(in_list(field, values[start : start + step]), fields)

    def scan(
        self, expression: str, fields: Sequence[str], *, level: str = "Strong"
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows that match an expression, in the order of their keys."""
        page = self.page(fields)
        first = self.query(expression or "id >= 0", fields, limit=page, level=level)
        if len(first) < page:
            yield from first
            return
        iterator = self.connection.ask(
            "query_iterator",
            self.connection.address.collection,
            batch_size=page,
            filter=expression or "id >= 0",
            output_fields=list(fields),
        )
        try:
            while rows := self.connection.guarded(iterator.next):
                yield from rows
        finally:
            iterator.close()

    def matching(
        self, where: Filter | None, fields: Sequence[str] = ("id",), *, level: str = "Strong"
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of items that pass a filter, in no order."""
        expression = self.compiled(where)
        if where is None or expression.exact:
            yield from self.scan(expression.text, fields, level=level)
            return
        for row in self.scan(expression.text, [*dict.fromkeys([*FIELDS, *fields])], level=level):
            if passes(from_row(row), where):
                yield row

    def ordered(self, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield all rows by id; only their ids are held in memory if there are many."""
        first = self.query("id >= 0", fields, limit=PAGE)
        if len(first) < PAGE:
            yield from sorted(first, key=lambda row: row["id"])
            return
        ids = np.sort(np.fromiter((row["id"] for row in self.scan("", ["id"])), np.int64))
        yield from self.by_id(ids, fields)

    def by_id(self, ids: Ids, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of increasing ids, by id; those that are gone are left out."""
        step = self.page(fields, _LISTED)
        for start in range(0, len(ids), step):
            rows = self.query(in_list("id", ids[start : start + step].tolist()), fields)
            yield from sorted(rows, key=lambda row: row["id"])

    def page(self, fields: Iterable[str], most: int = PAGE) -> int:
        """Return how many rows with these fields are asked for at once."""
        size = 4 * self._spec.dim if "embedding" in fields else 0
        size += 2048 if "metadata" in fields else 0
        return max(1, min(most, _ANSWER // max(size, 1)))


def _requests(rows: Sequence[dict[str, Any]], dim: int) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in parts that fit a request."""
    part: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        size += (bytes_ := size_of(row, dim))
        if part and size > _REQUEST:
            yield part
            part, size = [], bytes_
        part.append(row)
    if part:
        yield part


def _short(id_: int) -> str:
    """Return a number as 13 letters and digits."""
    return base64.b32hexencode(id_.to_bytes(8, "big")).decode().rstrip("=").lower()
