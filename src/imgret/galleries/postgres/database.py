"""Connections to a database: opened, pooled, repeated after a loss, and errors in words."""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import unquote
from uuid import UUID, uuid4

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout

from imgret.errors import (
    DuplicateKeyError,
    ImgretError,
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
)
from imgret.galleries.postgres.rows import JsonLoader, register
from imgret.support.locks import RLock
from imgret.support.uris import without_secrets

__all__ = ["Database", "PooledConnection"]

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

_SCHEMA = "imgret"
# Connections of one process, and seconds after which an unused one is closed.
_CONNECTIONS, IDLE = 16, 300.0
# Seconds to wait for a server: at first, and for one that was there and is starting again.
_FIRST, _AGAIN = 10, 20.0
_TRIES = 8
_PAUSE = 0.02
# A token of each change is stored with it, so that a second try sees that the first was committed.
# Numbers of transactions do not show that: after a crash, the server gives some out a second time.
_MARK = (
    "WITH known AS (DELETE FROM commits WHERE token = ANY(%s::uuid[])) "
    "INSERT INTO commits (token) VALUES (%s) ON CONFLICT DO NOTHING RETURNING token"
)
_KEY = re.compile(r"^Key \(key\)=\((?P<key>.*)\) (?:already exists|conflicts)", re.DOTALL)
# Pools of the process from which this one was forked; collecting one would close its connections.
_inherited: list[ConnectionPool[Any]] = []


class PooledConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that knows how it searches graphs at present: ef_search and iterative_scan."""

    graph_options: tuple[int | None, str] | None = None


class Database:
    """The database of a gallery, with a pool of connections.

    Parameters
    ----------
    uri : str
        URI as libpq takes it, such as ``postgresql://user@host:5432/photos?sslmode=require``. The
        parameter ``schema`` is imgret's own: the schema of the gallery, by default ``imgret``.

    Raises
    ------
    InvalidInputError
        The URI is not valid.
    StoreError
        The server cannot be reached, or does not let us in.
    """

    def __init__(self, uri: str) -> None:
        self._conninfo, self.schema, self.name = _parsed(uri)
        self._lock = RLock(brief=True)
        self._pool: ConnectionPool[PooledConnection] | None = None
        self._pid = os.getpid()
        self._known: list[UUID] = []  # tokens of changes that are known to be committed
        self.closed = False
        self._connect().close()  # its errors say more than those of a pool

    def close(self) -> None:
        """Close all connections; may be called twice."""
        self.closed = True
        self.renew()

    def renew(self) -> None:
        """Close all connections, so that new ones are opened when they are needed."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            if self._pid == os.getpid():
                pool.close()
            else:
                _inherited.append(pool)

    # -- reading and writing -----------------------------------------------------------------

    def read(self, work: Callable[[PooledConnection], _Answer]) -> _Answer:
        """Run statements that change nothing, and repeat them on a new connection after a loss."""
        for attempt in range(_TRIES):
            with self.named(), self._taken() as connection:
                try:
                    return work(connection)
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    if not _is_lost(connection) or attempt == _TRIES - 1:
                        raise
                    _log.info("%s: connection lost (%s); asking again", self.name, _first(error))
            self._opened().check()  # the others may be lost as well
        raise AssertionError  # the last attempt raised

    def write(self, work: Callable[[PooledConnection], _Answer], *, marked: bool = True) -> _Answer:
        """Run statements in one transaction, and repeat it where that is safe.

        It is safe after a deadlock, and after the connection was lost before the transaction was
        committed. If it was lost while it was being committed, the next try finds its token, or
        waits until that transaction has ended.

        Parameters
        ----------
        work : callable
        marked : bool, default True
            Whether a token is stored. Without one, where there are no tables yet, a connection that
            is lost while the transaction is being committed is an error.
        """
        token, known = uuid4(), self._known[:]
        answers: list[_Answer] = []  # of transactions that may have been committed
        for attempt in range(_TRIES):
            with self.named(), self._taken() as connection:
                try:
                    with connection.transaction():
                        again = bool(answers)
                        if not marked or self._marks(connection, token, known, again=again):
                            answers.append(work(connection))
                    _check_open(connection)
                except (errors.DeadlockDetected, errors.SerializationFailure) as error:
                    if attempt == _TRIES - 1:
                        raise
                    _log.info("%s: %s; trying again", self.name, _first(error))
                    time.sleep(_PAUSE * 2**attempt * random.random())  # noqa: S311  # not to meet again
                    continue
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    in_doubt = bool(answers) and not marked
                    if not _is_lost(connection) or in_doubt or attempt == _TRIES - 1:
                        raise
                    _log.info("%s: connection lost (%s)", self.name, _first(error))
                else:
                    if marked:
                        with self._lock:
                            self._known = [t for t in self._known if t not in known] + [token]
                    return answers[-1]
            self._opened().check()  # the others may be lost as well
        raise AssertionError  # the last attempt raised

    def _marks(
        self, connection: PooledConnection, token: UUID, known: Sequence[UUID], *, again: bool
    ) -> bool:
        """Store the token of a change, and drop those nobody asks for; False if it is there.

        Raises
        ------
        StoreError
            A transaction with this token has not ended.
        """
        if again:
            connection.execute(f"SET LOCAL lock_timeout = '{_AGAIN:.0f}s'")
        try:
            is_new = _one(connection, _MARK, (known, token)) is not None
        except errors.LockNotAvailable as error:
            raise StoreError(
                f"{self.name}: the connection was lost during a commit, which has not ended yet; "
                f"look whether the change was made, or make it again later"
            ) from error
        if again:
            connection.execute("SET LOCAL lock_timeout TO DEFAULT")
        return is_new

    @contextmanager
    def snapshot(self) -> Iterator[PooledConnection]:
        """Provide a connection that sees the database as of now for the duration of a block."""
        with self.named(), self._taken() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                connection.execute("SELECT 1")  # the snapshot is of the first statement
                yield connection
            finally:
                if not _is_lost(connection):
                    connection.execute("ROLLBACK")
                connection.graph_options = None  # what was set in the block is undone

    # -- connections -------------------------------------------------------------------------

    @contextmanager
    def _taken(self) -> Iterator[PooledConnection]:
        """Take a connection out of the pool for the duration of a block."""
        pool = self._opened()
        try:
            connection = pool.getconn(timeout=_AGAIN)
        except PoolTimeout:
            self._connect().close()  # raises the reason, if there is one
            raise
        try:
            yield connection
        finally:
            pool.putconn(connection)

    def _opened(self) -> ConnectionPool[PooledConnection]:
        with self._lock:
            if self._pool is not None and self._pid != os.getpid():
                _inherited.append(self._pool)
                self._pool = None
            if self._pool is None:
                self._pid = os.getpid()
                self._pool = ConnectionPool(
                    self._conninfo,
                    connection_class=PooledConnection,
                    kwargs={"autocommit": True},
                    configure=self._configure,
                    min_size=0,
                    max_size=_CONNECTIONS,
                    max_idle=IDLE,
                    num_workers=2,
                    open=True,
                )
            return self._pool

    def _connect(self) -> PooledConnection:
        with self.named():
            return PooledConnection.connect(self._conninfo, autocommit=True)

    def _configure(self, connection: PooledConnection) -> None:
        """Set what each new connection needs: where names are looked up, and types."""
        connection.execute(
            sql.SQL(
                "SELECT set_config('search_path', {schema} || coalesce((SELECT ', ' || "
                "quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = "
                "extnamespace WHERE extname = 'vector'), ''), false)"
            ).format(schema=sql.Literal(sql.Identifier(self.schema).as_string(connection)))
        )
        register(connection)
        connection.adapters.register_loader("jsonb", JsonLoader)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Raise errors of the database as errors of imgret that name the gallery."""
        try:
            yield
        except psycopg.Error as error:
            raise _explained(self.name, error) from error
        except PoolTimeout as error:
            raise StoreError(
                f"{self.name}: no connection within {_AGAIN:.0f} seconds; the {_CONNECTIONS} of "
                f"this process are in use, or the server takes no more"
            ) from error


def _parsed(uri: str) -> tuple[str, str, str]:
    """Return what libpq needs, the schema, and the URI without what is secret."""
    # The URI is not shown in an error, as it may have a password in it.
    expected = (
        "gallery: expected a URI such as postgresql://user@host:5432/database, with parameters of "
        "libpq or schema=NAME"
    )
    start, _, query = uri.partition("?")
    pieces = query.split("&") if query else []
    own = [piece for piece in pieces if piece.startswith("schema=")]
    rest = "&".join(piece for piece in pieces if piece not in own)
    schema = unquote(own[-1].removeprefix("schema=")) if own else _SCHEMA
    try:
        known = conninfo_to_dict(f"{start}?{rest}" if rest else start)
    except psycopg.Error as error:
        reason = _first(error)
        shown = f": {reason}" if reason.startswith("invalid URI query parameter") else ""
        raise InvalidInputError(f"{expected}, found another{shown}") from None
    if not schema or len(schema.encode()) > 63 or "\0" in schema:
        raise InvalidInputError(
            f"schema: expected the name of a schema, of at most 63 bytes, found {schema!r}"
        )
    known.setdefault("connect_timeout", _FIRST)
    known.setdefault("application_name", "imgret")
    return psycopg.conninfo.make_conninfo("", **known), schema, without_secrets(uri)


def _explained(name: str, error: psycopg.Error) -> ImgretError:  # noqa: PLR0911  # one a kind
    """Return an error in words that name the gallery."""
    reason = _first(error)
    match error:
        case errors.UniqueViolation() if error.diag.constraint_name == "items_key":
            found = _KEY.match(error.diag.message_detail or "")
            key = repr(found["key"]) if found else "one that is taken"
            return DuplicateKeyError(f"key: expected new keys, each once, found {key}")
        case errors.DiskFull() | errors.OutOfMemory() | errors.InsufficientResources():
            return StoreError(
                f"{name}: the server has no room: {reason}. Nothing was changed; make room there, "
                f"and try again"
            )
        case errors.ReadOnlySqlTransaction():
            return StoreReadOnlyError(f"{name}: the server takes no changes: {reason}")
        case errors.InsufficientPrivilege():
            return StoreReadOnlyError(f"{name}: not allowed: {reason}")
        case errors.QueryCanceled():
            return StoreError(
                f"{name}: the server stopped a statement: {reason}; a longer time is set in the "
                f"URI with options=-c%20statement_timeout=60s"
            )
        case errors.UndefinedTable() | errors.UndefinedColumn() | errors.InvalidSchemaName():
            return StoreCorruptError(
                f"{name}: expected the tables of a gallery, found others: {reason}"
            )
        case psycopg.OperationalError():
            return StoreError(f"{name}: cannot be reached, or stopped answering: {reason}")
    return StoreError(f"{name}: {reason}")


def _is_lost(connection: PooledConnection) -> bool:
    return connection.closed or connection.broken


def _check_open(connection: PooledConnection) -> None:
    """Raise if a connection is closed, which psycopg passes over at the end of a transaction."""
    if _is_lost(connection):
        raise psycopg.OperationalError("the connection was closed")


def _one(connection: PooledConnection, statement: str, parameters: tuple[Any, ...] = ()) -> Any:
    row = connection.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


def _first(error: BaseException) -> str:
    """Return the first line of a message, which names the reason and no password."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    return (str(error).strip() or type(error).__name__).splitlines()[0]
