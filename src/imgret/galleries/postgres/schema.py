"""The tables of a gallery in PostgreSQL, and their versions.

=========== ======================================================================
table       contents
=========== ======================================================================
``spec``    one row: version of the tables, and what the gallery is made of, as JSON
``state``   one row: number of items, and of changes so far; kept by a trigger
``items``   one row an item: what is known of it, and its embedding
``commits`` tokens of the latest changes; see `Database.write`
=========== ======================================================================
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

from psycopg import errors, sql
from psycopg.types.json import Jsonb

from imgret.abc import GallerySpec
from imgret.errors import (
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StoreVersionError,
    UnsupportedError,
)
from imgret.galleries.postgres.database import Database, PooledConnection
from imgret.galleries.postgres.rows import TYPES
from imgret.galleries.server import spec_of
from imgret.support.metric import DistanceMetric
from imgret.types import Dtype, Json

__all__ = [
    "PostgresLayout",
    "create",
    "has_schema",
    "migrate",
    "read_spec",
    "require",
    "write_spec",
]

VERSION = 1
# Statements that turn tables of version n + 1 into the next; none so far.
_MIGRATIONS: tuple[str, ...] = ()
_EXTENSION, _PGVECTOR = "vector", (0, 8)
# Dimensions that the types of pgvector can index, and can hold.
_INDEXED = {"vector": 2000, "halfvec": 4000}
_HELD = 16000
# Bytes of an embedding up to which it is kept in the row, where an exact search reads it faster.
_IN_PLACE = 4096
_BYTES = {"vector": 4, "halfvec": 2}
# Ranges of pgvector's options.
_RANGES = {"M": (2, 100), "ef_construction": (4, 1000), "ef_search": (1, 1000)}
_OPERATORS = {"cosine": ("<=>", "cosine"), "ip": ("<#>", "ip"), "l2": ("<->", "l2")}


class PostgresLayout(NamedTuple):
    """How vectors of a gallery are stored, compared and indexed, as SQL.

    Attributes
    ----------
    dtype : {"float16", "float32"}
    stored : str
        Type of the embedding in the table.
    searched : str
        Expression of a vector as it is indexed, or compared first.
    given : str
        Type to which a query is converted for that comparison.
    operator : str
        Distance operator of the metric.
    make_index : str or None
        Statement that creates the index; None without one.
    value : int
        Number of candidates for which the graph is searched, ``ef_search``.
    """

    dtype: Dtype
    stored: str
    searched: str
    given: str
    operator: str
    make_index: str | None
    value: int

    @classmethod
    def of(cls, spec: GallerySpec) -> PostgresLayout:
        """Return the layout for a spec.

        Raises
        ------
        InvalidInputError
            pgvector cannot hold or index such vectors, or has no such index.
        """
        kind, dim = TYPES[spec.dtype], spec.dim
        if dim > _HELD:
            raise InvalidInputError(f"dim: expected at most {_HELD:,} in PostgreSQL, found {dim:,}")
        operator, family = _OPERATORS[str(DistanceMetric(spec.metric))]
        searched, given = "embedding", f"{kind}({dim})"
        index, value = None, 0
        if spec.index.name == "hnsw":
            if dim > _INDEXED[kind]:
                kind = "halfvec"
                given = f"halfvec({dim})"
                searched = f"(embedding::{given})"
            if dim > _INDEXED[kind]:
                raise InvalidInputError(
                    f"index: expected at most {_INDEXED[kind]:,} dimensions for 'hnsw' in "
                    f"PostgreSQL, found {dim:,}; use 'flat', which compares all items"
                )
            options, tuned = _hnsw(spec.index.config), spec.tuned
            value = options["ef_search"]
            if tuned is not None and tuned.get("index") == "hnsw":
                value = int(tuned["settings"]["ef_search"])
            index = (
                f"CREATE INDEX items_embedding ON items USING hnsw "
                f"({searched} {kind}_{family}_ops) WITH (m = {options['M']}, "
                f"ef_construction = {options['ef_construction']})"
            )
        elif spec.index.name not in {"flat", "exact"}:
            raise UnsupportedError(
                f"index: expected 'hnsw', or 'flat', which is exact, for a gallery in PostgreSQL, "
                f"found {spec.index.name!r}"
            )
        return cls(spec.dtype, TYPES[spec.dtype], searched, given, operator, index, value)

    @property
    def name(self) -> str:
        """Name of the index."""
        return "flat" if self.make_index is None else "hnsw"

    @property
    def option(self) -> str | None:
        """Option of a search that trades recall for speed."""
        return None if self.make_index is None else "ef_search"

    @property
    def sweep(self) -> list[int]:
        """Values of the option to try, fastest first."""
        return [10, 16, 24, 40, 64, 96, 128, 192, 256, 384, 512, 768, 1000]


def _hnsw(config: Json) -> dict[str, int]:
    options = {"M": 16, "ef_construction": 64, "ef_search": 40, **config}
    if unknown := set(options) - set(_RANGES):
        raise InvalidInputError(
            f"index: 'hnsw' in PostgreSQL takes {', '.join(_RANGES)}, found {min(unknown)!r}"
        )
    for name, (least, most) in _RANGES.items():
        if not isinstance(options[name], int) or not least <= options[name] <= most:
            raise InvalidInputError(
                f"{name}: expected {least} to {most} in PostgreSQL, found {options[name]!r}"
            )
    if options["ef_construction"] < 2 * options["M"]:
        raise InvalidInputError(
            f"ef_construction: expected at least twice M ({2 * options['M']}) in PostgreSQL, "
            f"found {options['ef_construction']}"
        )
    return options


def has_schema(connection: PooledConnection, schema: str) -> bool:
    """Whether there is a schema of this name, whatever is in it."""
    found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
    return found.fetchone() is not None


def require(database: Database) -> None:
    """Raise `StoreNotFoundError` if there is no schema of the gallery's name."""
    if not database.read(lambda connection: has_schema(connection, database.schema)):
        raise StoreNotFoundError(
            f"{database.name}: expected a gallery, found no schema {database.schema!r}; `imgret "
            f"index FOLDER -o {database.name}` makes one"
        )


def create(database: Database, spec: GallerySpec) -> None:
    """Create the tables of an empty gallery, all or nothing.

    Raises
    ------
    StoreExistsError
        There is a schema of this name.
    StoreError
        The database has no pgvector, an older one, or is not in UTF-8.
    """
    layout = PostgresLayout.of(spec)
    name = database.name

    def work(connection: PooledConnection) -> None:
        (encoding,) = connection.execute("SHOW server_encoding").fetchone() or ("",)
        if encoding != "UTF8":
            raise StoreError(
                f"{name}: expected a database in UTF-8, which holds every key and label, found "
                f"{encoding}; create another with ENCODING 'UTF8'"
            )
        _need_pgvector(connection, name)
        if has_schema(connection, database.schema):
            raise _taken(database)
        try:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(database.schema)))
        except (errors.DuplicateSchema, errors.UniqueViolation) as error:
            raise _taken(database) from error
        connection.execute(_TABLES.replace("{type}", f"{layout.stored}({spec.dim})"))
        if spec.dim * _BYTES[layout.stored] <= _IN_PLACE:
            connection.execute("ALTER TABLE items ALTER COLUMN embedding SET STORAGE PLAIN")
        if layout.make_index is not None:
            connection.execute(layout.make_index)
        connection.execute(
            "INSERT INTO spec (version, content) VALUES (%s, %s)", (VERSION, Jsonb(asdict(spec)))
        )

    database.write(work, marked=False)
    database.renew()  # the types of pgvector may be new


def read_spec(connection: PooledConnection, name: str) -> tuple[GallerySpec, int]:
    """Return the spec of a gallery and its revision.

    Raises
    ------
    StoreNotFoundError, StoreVersionError, StoreCorruptError
        There is no gallery, a newer imgret made it, or its spec is damaged.
    """
    try:
        row = connection.execute("SELECT version, content, revision FROM spec").fetchone()
    except (errors.UndefinedTable, errors.UndefinedColumn) as error:
        raise StoreNotFoundError(
            f"{name}: expected a gallery, found a schema with something else in it; choose "
            f"another with ?schema=NAME"
        ) from error
    if row is None:
        raise StoreCorruptError(f"{name}: expected one row in the table spec, found none")
    version, content, revision = row
    if version > VERSION:
        raise StoreVersionError(
            f"{name}: expected tables of version {VERSION} or older, found {version}; upgrade "
            f"imgret"
        )
    try:
        spec = spec_of(content)
        PostgresLayout.of(spec)
    except (KeyError, TypeError, AttributeError, InvalidInputError) as error:
        raise StoreCorruptError(
            f"{name}: expected the description of a gallery in the table spec, found {error!r}"
        ) from error
    return spec, revision


def migrate(connection: PooledConnection) -> None:
    """Bring the tables of an older imgret up to date; in one transaction of the caller."""
    row = connection.execute("SELECT version FROM spec FOR UPDATE").fetchone()
    version = VERSION if row is None else row[0]
    for statement in _MIGRATIONS[version - 1 :]:
        connection.execute(statement)
    if version < VERSION:
        connection.execute("UPDATE spec SET version = %s", (VERSION,))
    connection.execute("DELETE FROM commits WHERE made < now() - interval '1 day'")


def write_spec(connection: PooledConnection, changes: dict[str, Any]) -> None:
    """Change fields of the spec."""
    connection.execute(
        "UPDATE spec SET content = content || %s, revision = revision + 1", (Jsonb(changes),)
    )
    connection.execute("UPDATE state SET changes = changes + 1")


def _need_pgvector(connection: PooledConnection, name: str) -> None:
    advice = (
        f"pgvector {_PGVECTOR[0]}.{_PGVECTOR[1]} or newer; install it on the server, and let an "
        f"administrator run CREATE EXTENSION vector in this database"
    )
    try:
        with connection.transaction():
            connection.execute(f"CREATE EXTENSION IF NOT EXISTS {_EXTENSION} SCHEMA public")
    except (
        errors.UndefinedFile,
        errors.FeatureNotSupported,
        errors.InsufficientPrivilege,
    ) as error:
        raise StoreError(f"{name}: expected {advice}") from error
    except (errors.UniqueViolation, errors.DuplicateObject):
        pass  # another process has created it meanwhile
    row = connection.execute(
        "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    ).fetchone()
    found = "none" if row is None else row[0]
    if row is None or tuple(map(int, found.split(".")[:2])) < _PGVECTOR:
        raise StoreError(f"{name}: expected {advice}; found {found}")
    connection.execute(
        "SELECT set_config('search_path', current_setting('search_path') || ', ' || "
        "quote_ident(nspname), true) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace "
        "WHERE extname = 'vector'"
    )


def _taken(database: Database) -> StoreExistsError:
    return StoreExistsError(
        f"{database.name}: expected no schema {database.schema!r}, found one; open it with mode "
        f"'r+', or choose another with ?schema=NAME"
    )


# Keys, labels and paths are in the order of code points, as in every gallery. That keys are unique
# is checked at the end of a statement, or of a transaction that asks for it, so that items can swap
# their keys.
_TABLES = """
CREATE TABLE spec (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    content jsonb NOT NULL
);
CREATE TABLE state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    items bigint NOT NULL,
    changes bigint NOT NULL
);
INSERT INTO state (items, changes) VALUES (0, 0);
CREATE TABLE commits (
    token uuid PRIMARY KEY,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE SEQUENCE names;
CREATE TABLE items (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text COLLATE "C" NOT NULL,
    path text COLLATE "C",
    sha256 bytea,
    size bigint,
    mtime_ns bigint,
    box integer[],
    subject boolean NOT NULL,
    label text COLLATE "C",
    metadata jsonb NOT NULL,
    phash bytea,
    embedding {type} NOT NULL,
    CONSTRAINT items_key UNIQUE (key) DEFERRABLE INITIALLY IMMEDIATE
);
CREATE INDEX items_sha256 ON items USING hash (sha256);
CREATE INDEX items_label ON items USING hash (label);
CREATE FUNCTION items_added() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE state SET items = items + (SELECT count(*) FROM added), changes = changes + 1;
    RETURN NULL;
END $$;
CREATE FUNCTION items_removed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE state SET items = items - (SELECT count(*) FROM removed), changes = changes + 1;
    RETURN NULL;
END $$;
CREATE FUNCTION items_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE state SET changes = changes + 1;
    RETURN NULL;
END $$;
CREATE FUNCTION items_emptied() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE state SET items = 0, changes = changes + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER added AFTER INSERT ON items REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION items_added();
CREATE TRIGGER removed AFTER DELETE ON items REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION items_removed();
CREATE TRIGGER changed AFTER UPDATE ON items FOR EACH STATEMENT EXECUTE FUNCTION items_changed();
CREATE TRIGGER emptied AFTER TRUNCATE ON items FOR EACH STATEMENT EXECUTE FUNCTION items_emptied();
"""
