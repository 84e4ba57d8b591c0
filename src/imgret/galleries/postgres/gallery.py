"""A gallery in PostgreSQL: items and embeddings in one table, searched by pgvector."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar, final

from psycopg import sql
from psycopg.types.json import Jsonb

from imgret.abc import GallerySpec, Stored, VectorIndex
from imgret.errors import StoreCorruptError, StoreError
from imgret.filters import Filter, metadata_field
from imgret.filters.postgres import expression_of
from imgret.filters.tree import COLUMNS as FIELDS
from imgret.filters.tree import Field
from imgret.galleries.postgres import schema
from imgret.galleries.postgres.database import IDLE, Database, PooledConnection
from imgret.galleries.postgres.rows import COLUMNS, check_keys, copied, from_row, to_row, unwire
from imgret.galleries.postgres.view import Listed, PostgresView, Status
from imgret.galleries.server import ServerGallery, plain_fields
from imgret.search import StaleViewError
from imgret.types import Embeddings, Item

__all__ = ["PostgresGallery"]

_Answer = TypeVar("_Answer")

# Seconds after which a closed connection is surely gone from the server's list.
_CLOSING = 1.0
# Rows fetched at a time when a whole table is read.
_ROWS = 4096
# Number of columns of an answer that may be padded, so that the items need not be counted before.
_FEW = 1000
# Many items, and MB of them that the server keeps in memory until its trigger has counted them; by
# default it writes more than 4 MB to a file.
_MANY, _COUNTED = 1000, 64
# Items whose fields are listed when a filter names one that does not exist.
_LOOKED_AT = 10_000


@final
class PostgresGallery(ServerGallery):
    """A gallery in a schema of a PostgreSQL database with pgvector.

    Many processes may read and write at once. Changes are transactions of the database; `viewed`
    is a snapshot of it.

    Parameters
    ----------
    database : Database
    writable : bool
    """

    consistent_views = True
    checks_items = True  # while the server stores those before

    def __init__(self, database: Database, *, writable: bool) -> None:
        super().__init__(database, writable=writable)
        self._database = database
        self._created = -math.inf
        # Ids that pass the latest filters, for its views.
        self.listed: OrderedDict[tuple[str, str], Listed] = OrderedDict()
        self._items = 0  # as many as there were by the last answer
        self._spec, self._revision = database.read(self._read_spec)

    # -- where it is -------------------------------------------------------------------------

    @classmethod
    def create(cls, uri: str, spec: GallerySpec, prepared: VectorIndex | None = None) -> Self:
        """Create the tables of an empty gallery; see `Gallery.create`."""
        del prepared  # the server has its own
        database = Database(uri)
        try:
            schema.create(database, spec)
            gallery = cls(database, writable=True)
        except BaseException:
            database.close()
            raise
        gallery._created = time.monotonic()
        return gallery

    @classmethod
    def open(cls, uri: str, *, writable: bool) -> Self:
        """Open a gallery; see `Gallery.open`."""
        database = Database(uri)
        try:
            schema.require(database)
            gallery = cls(database, writable=writable)
            if writable:
                database.write(schema.migrate)
        except BaseException:
            database.close()
            raise
        return gallery

    @classmethod
    def is_taken(cls, uri: str) -> bool:
        """Whether there is a schema of the gallery's name."""
        database = Database(uri)
        try:
            return database.read(lambda c: schema.has_schema(c, database.schema))
        finally:
            database.close()

    def _read_spec(self, connection: PooledConnection) -> tuple[GallerySpec, int]:
        return schema.read_spec(connection, self.name)

    @property
    def version(self) -> Hashable:
        """Number of changes that any process made to the gallery."""
        self.check_open()
        return int(self._one("SELECT changes FROM state"))

    # -- items -------------------------------------------------------------------------------

    def _count(self) -> int:
        self._items = int(self._one("SELECT items FROM state"))
        return self._items

    def _is_empty(self) -> bool:
        # A search tells how many items there were, and saves this question before the next one.
        return not self._items and not self._count()

    def _keys(self) -> Iterator[str]:
        return (key for key, _ in self.files())

    def files(self) -> Iterator[tuple[str, str | None]]:
        """Yield key and path of every item, by id."""
        last = -1
        while rows := self._rows(
            "SELECT id, key, path FROM items WHERE id > %s ORDER BY id LIMIT %s", (last, _ROWS)
        ):
            yield from (row[1:] for row in rows)
            last = rows[-1][0]

    def _find(self, keys: Sequence[str]) -> dict[str, Item]:
        rows = self._rows(f"SELECT {COLUMNS} FROM items WHERE key = ANY(%s::text[])", (list(keys),))
        return {row[0]: from_row(row) for row in rows}

    def _vectors(self, keys: Sequence[str]) -> dict[str, Embeddings]:
        rows = self._rows(
            "SELECT key, embedding FROM items WHERE key = ANY(%s::text[])", (list(keys),)
        )
        vectors = unwire([row[1] for row in rows], self._spec.dim)
        return {row[0]: vector for row, vector in zip(rows, vectors, strict=True)}

    def copy_of(self, sha256: bytes) -> Stored | None:
        """Return the oldest item made from a file with this digest."""
        rows = self._rows(
            f"SELECT embedding, {COLUMNS} FROM items WHERE sha256 = %s ORDER BY id LIMIT 1",
            (sha256,),
        )
        if not rows:
            return None
        return Stored(from_row(rows[0][1:]), unwire([rows[0][0]], self._spec.dim)[0])

    def _new_names(self, count: int) -> list[str]:
        numbers = self._rows("SELECT nextval('names') FROM generate_series(1, %s)", (count,))
        return [f"image-{number:06d}" for (number,) in numbers]

    # -- changing ----------------------------------------------------------------------------

    def _add(self, items: Sequence[Item], embeddings: Embeddings, replacing: Sequence[str]) -> None:
        copy = f"COPY items ({COLUMNS}, embedding) FROM STDIN (FORMAT BINARY)"

        def work(connection: PooledConnection) -> None:
            if replacing:
                connection.execute("DELETE FROM items WHERE key = ANY(%s::text[])", (replacing,))
            if len(items) > _MANY:
                connection.execute(f"SET LOCAL work_mem = '{_COUNTED}MB'")
            with connection.cursor() as cursor, cursor.copy(copy) as lines:
                for block in copied(items, embeddings, self._spec.dtype):
                    lines.write(block)  # which the server stores while the next is made

        self._database.write(work)

    def _remove(self, keys: Sequence[str]) -> None:
        self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM items WHERE key = ANY(%s::text[])", (list(keys),)
            )
        )

    def _change(self, items: Mapping[str, Item]) -> None:
        check_keys([item.key for item in items.values()])
        names = COLUMNS.split(", ")
        update = f"UPDATE items SET {', '.join(f'{each} = %s' for each in names)} WHERE key = %s"
        # Two steps, so that items can swap their keys: each row is found by its key as it was.
        rows = [(*_written(item), key) for key, item in items.items()]

        def work(connection: PooledConnection) -> None:
            ids = dict(
                connection.execute(
                    "SELECT key, id FROM items WHERE key = ANY(%s::text[]) FOR UPDATE",
                    (list(items),),
                ).fetchall()
            )
            connection.execute("SET CONSTRAINTS items_key DEFERRED")
            with connection.cursor() as cursor:
                cursor.executemany(
                    update.replace("WHERE key", "WHERE id"),
                    [(*row[:-1], ids[row[-1]]) for row in rows if row[-1] in ids],
                )
            connection.execute("SET CONSTRAINTS items_key IMMEDIATE")

        self._database.write(work)

    def _change_spec(self, changes: Mapping[str, Any]) -> None:
        plain = plain_fields(changes)

        def work(connection: PooledConnection) -> tuple[GallerySpec, int]:
            schema.write_spec(connection, plain)
            return self._read_spec(connection)

        self._spec, self._revision = self._database.write(work)

    def _create_filter_index(self, field: str) -> None:
        expression = expression_of(Field(field) if field in FIELDS else metadata_field(field))
        statement = f"CREATE INDEX IF NOT EXISTS {_index_name(field)} ON items (({expression}))"
        statement = statement.replace("%%", "%")  # nothing is bound
        self._database.write(lambda connection: connection.execute(statement))

    def discard_if_unused(self) -> bool:
        """Delete the tables if no other process is connected; see `Gallery.discard_if_unused`.

        Whoever opened the gallery has had a connection since, unless that was too long ago.
        """
        until = time.monotonic() + _CLOSING
        self._database.renew()  # the server soon forgets connections of ours
        while time.monotonic() - self._created < IDLE / 2:
            try:
                if (is_deleted := self._database.read(self._drop)) or time.monotonic() > until:
                    return is_deleted
            except StoreError:  # in use at this moment, or not reached
                return False
            time.sleep(0.05)
        return False

    def _drop(self, connection: PooledConnection) -> bool:
        with connection.transaction():
            connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE NOWAIT")
            ((is_used,),) = rows_of(
                connection,
                "SELECT EXISTS (SELECT 1 FROM items) OR EXISTS (SELECT 1 FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid())",
            )
            if not is_used:
                name = sql.Identifier(self._database.schema)
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))
            return not is_used

    def _how_to_check(self) -> str:
        return (
            f"`pg_amcheck --install-missing --schema={self._database.schema} DATABASE` checks the "
            f"table and its indexes, except for a graph; REINDEX makes indexes again"
        )

    def _how_to_compact(self) -> str:
        table = sql.Identifier(self._database.schema, "items").as_string(None)
        return (
            f"Autovacuum frees the room of removed items for new ones; `VACUUM FULL {table}` "
            f"writes table and indexes again without them, while nobody else can read"
        )

    # -- searching -----------------------------------------------------------------------------

    def _has_field(self, field: Field) -> bool:
        return bool(self._one(f"SELECT EXISTS (SELECT 1 FROM items WHERE {_has(field)})"))

    def _field_names(self) -> Iterable[str]:
        rows = self._rows(
            "SELECT DISTINCT name FROM (SELECT metadata FROM items LIMIT %s) AS looked_at, "
            "jsonb_object_keys(metadata) AS name",
            (_LOOKED_AT,),
        )
        return [name for (name,) in rows]

    def view(self, where: Filter | None = None) -> PostgresView:
        """Return a view whose statements each see the gallery as it is then."""
        self.check_open()
        return PostgresView(self, self._database.read, self._spec, where)

    @contextmanager
    def _viewed(self) -> Iterator[PostgresView]:
        with self._database.snapshot() as connection:
            self._spec, self._revision = self._read_spec(connection)

            def read(work: Callable[[PooledConnection], _Answer]) -> _Answer:
                with self._database.named():
                    return work(connection)

            yield PostgresView(self, read, self._spec, None)

    def most(self) -> int:
        """Return a number of items that is not exceeded, as far as is known."""
        return max(self._items, _FEW)

    def check_most(self, k: int) -> None:
        """Raise `StaleViewError` if there are more items now."""
        known = self.most()
        if k >= known and self._count() > known:
            raise StaleViewError("view: items were added to the gallery")

    def note(self, found: Status | None) -> None:
        """Take note of what an answer says of the gallery; None if nothing was found."""
        self._items = 0 if found is None else found.items
        if found is not None and found.revision != self._revision:
            self._spec, self._revision = self._database.read(self._read_spec)

    # -- statements ----------------------------------------------------------------------------

    def _rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._database.read(lambda connection: rows_of(connection, statement, parameters))

    def _one(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        rows = self._rows(statement, parameters)
        if not rows:
            raise StoreCorruptError(f"{self.name}: expected one row in the table state, found none")
        return rows[0][0]


def rows_of(
    connection: PooledConnection, statement: str, parameters: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows, which the server sends in binary form."""
    return connection.execute(statement, parameters, binary=True).fetchall()


def _written(item: Item) -> tuple[Any, ...]:
    row = to_row(item)
    return (*row[:8], Jsonb(row[8], dumps=str), row[9])


def _has(field: Field) -> str:
    return f"{expression_of(field)} IS NOT NULL"


def _index_name(field: str) -> str:
    """Return the quoted name of the index on a field, of at most 63 bytes."""
    name = f"items_by_{field}".encode()[:63].decode(errors="ignore")
    return '"' + name.replace('"', '""') + '"'
