"""The SQLite file of a catalog: its schema, its connections and its errors."""

from __future__ import annotations

import ctypes
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from imgret.errors import (
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreReadOnlyError,
    StoreVersionError,
)
from imgret.galleries.local.known_schema import (
    check_journal,
    check_schema,
    describe_tables,
    misread_tables,
    trust_nothing,
)
from imgret.galleries.local.own import check_no_link, remedy
from imgret.galleries.local.rows import COLUMNS, HASHED, SUMMED, row_checksum, without_nul
from imgret.galleries.local.writer_lock import LOCK, WriterLock
from imgret.support.locks import RLock

__all__ = [
    "CONNECTING",
    "at_any_rate",
    "connect",
    "explained",
    "leave",
    "legible",
    "patiently",
    "sum_rows",
    "upgrade",
    "version_of",
]

# Held while a connection that has no lock yet is made or closed: a fork waits for it, as SQLite has
# locks of its own.
CONNECTING = RLock(brief=True)

_SCHEMA_VERSION = SUMMED
_SCHEMA = """
CREATE TABLE items (
    id         INTEGER PRIMARY KEY,     -- row of the vectors file; never used twice
    key        TEXT NOT NULL,
    path       TEXT,                    -- file it was read from
    sha256     BLOB,                    -- of that file
    size       INTEGER,                 -- bytes
    mtime_ns   INTEGER,
    x0 INTEGER, y0 INTEGER, x1 INTEGER, y1 INTEGER,
    subject    INTEGER NOT NULL,        -- 1: the cropper found the box, 0: whole image
    label      TEXT,
    metadata   TEXT NOT NULL,           -- a JSON object
    crc        INTEGER NOT NULL,        -- CRC-32 of the stored vector
    removed_at INTEGER,                 -- number of the change that removed it; NULL: live
    phash      BLOB,                    -- perceptual hash of the image, 8 bytes; since version 2
    row_crc    INTEGER                  -- checksum of the other columns; since version 4
) STRICT;
CREATE UNIQUE INDEX items_key ON items (key) WHERE removed_at IS NULL;
CREATE INDEX items_sha256 ON items (sha256) WHERE removed_at IS NULL;
CREATE INDEX items_label ON items (label) WHERE removed_at IS NULL;
CREATE INDEX items_removed ON items (removed_at) WHERE removed_at IS NOT NULL;
-- rows: ids given out so far; live: items not removed; changes: commits so far
CREATE TABLE counts (rows INTEGER NOT NULL, live INTEGER NOT NULL, changes INTEGER NOT NULL) STRICT;
INSERT INTO counts VALUES (0, 0, 0);
"""
# Columns that a version added, to the end of the table.
_ADDED = {HASHED: ("phash BLOB",), SUMMED: ("row_crc INTEGER",)}
_WITH_NUL = r"instr(metadata, '\u0000')"
_BUSY_SECONDS = 30.0
_WAIT_SECONDS = 0.005
_T = TypeVar("_T")
# A schema that is not the known one could make a look at it last for ever.
_LOOKING_SECONDS, _STEPS = 10.0, 100_000


def connect(path: Path | None, *, writable: bool) -> sqlite3.Connection:
    """Open a catalog, or make an empty one; without a path, in memory.

    The caller begins and ends transactions, and lets one thread in at a time.

    Raises
    ------
    StoreCorruptError, StoreVersionError
        The file is not a catalog, is damaged, or was written by a newer imgret.
    """
    # A reader's connection must not be able to write. Its file may be replaced by another one
    # (`replacement`), and a journal beside that one looks to SQLite as if a commit to the old file
    # had been cut short: it would write those pages into the old file, and delete the journal,
    # without which the writer's commit cannot be undone.
    mode = "rwc" if writable else "ro"
    if path is not None:
        check_journal(path)
    with explained(path):
        db = sqlite3.connect(
            ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={mode}",
            uri=path is not None,
            isolation_level=None,
            check_same_thread=False,
            timeout=_BUSY_SECONDS,
        )
        try:
            with _limited(db):
                patiently(lambda: _prepare(db, path, writable=writable), path)
            if writable:
                upgrade(db)
            elif version_of(db) < SUMMED:
                patiently(lambda: _hide_nul(db), path)
        except BaseException:
            db.close()
            raise
    return db


def _prepare(db: sqlite3.Connection, path: Path | None, *, writable: bool) -> None:
    trust_nothing(db)
    db.execute(f"PRAGMA query_only = {int(not writable)}")
    try:
        db.execute("PRAGMA synchronous = EXTRA")  # a commit survives a power loss
    except UnicodeDecodeError as error:  # Python cannot decode what SQLite says of the damage
        raise sqlite3.DatabaseError("the schema is malformed") from error
    version = version_of(db)
    if version > _SCHEMA_VERSION:
        raise StoreVersionError(
            f"{path}: expected catalog version {_SCHEMA_VERSION} or older, found {version}; "
            f"upgrade imgret"
        )
    if version == 0:
        if not writable or db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise StoreCorruptError(
                f"{path}: expected a catalog, found another database; restore it from a copy"
            )
        db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
        version = _SCHEMA_VERSION
    later = [columns for since, columns in _ADDED.items() if since > version]
    check_schema(db, path, _SCHEMA, tuple(column for columns in later for column in columns))


@contextmanager
def _limited(db: sqlite3.Connection) -> Iterator[None]:
    """Interrupt what takes far longer than a look at the schema."""
    end = time.monotonic() + _LOOKING_SECONDS
    db.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        yield
    finally:
        db.set_progress_handler(None, 0)


def upgrade(db: sqlite3.Connection) -> None:
    """Bring a catalog of an earlier version to the current one, without NUL in metadata.

    After an error, the caller closes the connection, which rolls back what was done.
    """
    if version_of(db) == _SCHEMA_VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    version = version_of(db)  # again, now that no other process can change it
    if version < HASHED:
        db.execute("ALTER TABLE items ADD COLUMN phash BLOB")
    if version < SUMMED:
        if _has_nul(db):
            # An index for filters may hold what another version of SQLite makes of a NUL.
            db.execute("REINDEX")
            db.execute(f"UPDATE items SET metadata = without_nul(metadata) WHERE {_WITH_NUL}")  # noqa: S608  # a constant
        db.execute("ALTER TABLE items ADD COLUMN row_crc INTEGER")
        sum_rows(db, "TRUE")
        db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    db.execute("COMMIT")


def _hide_nul(db: sqlite3.Connection) -> None:
    """Let a reader, which changes no row, find metadata as `upgrade` leaves them."""
    if _has_nul(db):
        names = ", ".join(row[1] for row in db.execute("PRAGMA table_info(items)"))
        shown = names.replace("metadata", "without_nul(metadata) AS metadata")
        db.execute("PRAGMA query_only = OFF")
        db.execute(f"CREATE TEMP VIEW items AS SELECT {shown} FROM main.items")  # noqa: S608  # of a known schema
        db.execute("PRAGMA query_only = ON")


def _has_nul(db: sqlite3.Connection) -> bool:
    """Whether metadata may hold a NUL, at which some versions of SQLite end a text."""
    db.create_function("without_nul", 1, without_nul)
    return bool(db.execute(f"SELECT 1 FROM items WHERE {_WITH_NUL} LIMIT 1").fetchone())  # noqa: S608  # a constant


def sum_rows(db: sqlite3.Connection, condition: str) -> None:
    """Store the checksums of rows as they are, in a transaction of the caller."""
    db.create_function("row_checksum", 14, _row_checksum)
    db.execute(
        f"UPDATE items SET row_crc = row_checksum(id, {COLUMNS}) + ifnull(removed_at + 1, 0) "  # noqa: S608  # constants
        f"WHERE {condition}"
    )


def _row_checksum(*row: Any) -> int:
    return row_checksum(row)


def version_of(db: sqlite3.Connection) -> int:
    """Return the version of a catalog."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def legible(path: Path, copy: Path) -> Path:
    """Return a catalog whose tables can be read, if that is a matter of their descriptions.

    Parameters
    ----------
    path : Path
    copy : Path
        Where to put a copy with other descriptions, if that is needed.

    Returns
    -------
    Path
        The catalog, or the copy.
    """
    with suppress(sqlite3.Error):
        with closing(at_any_rate(path)) as db:
            wrong = misread_tables(db, _SCHEMA) if version_of(db) == _SCHEMA_VERSION else []
        if wrong:
            shutil.copyfile(path, copy)
            with closing(at_any_rate(copy, mode="rw")) as db:
                describe_tables(db, wrong)
            return copy
    return path


def at_any_rate(path: Path, mode: str = "ro") -> sqlite3.Connection:
    """Connect to a catalog that may be damaged."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)
    db.execute("PRAGMA writable_schema = ON")  # reads the table though an index is malformed
    db.text_factory = lambda data: data.decode("utf-8", "replace")
    try:
        patiently(lambda: db.execute("SELECT 1 FROM sqlite_schema").fetchone(), path)
    except BaseException:
        db.close()
        raise
    return db


def leave(db: sqlite3.Connection) -> None:
    """In a forked child, keep a connection to a file from ever being closed.

    It belongs to the parent. Closing it would roll back what the parent was about to commit
    (https://sqlite.org/howtocorrupt.html, 2.6), and Python closes what nobody refers to.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))


def patiently(read: Callable[[], _T], path: Path | None) -> _T:
    """Return what a function reads, where a reader may meet a journal that it may not roll back.

    It is one that the last writer left when it was killed, or one of the writer of another gallery,
    which has taken the place of this one.
    """
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return read()
        except sqlite3.OperationalError as error:
            if path is None or not _is_cut_short(error) or time.monotonic() > end:
                raise
        _roll_back(path)
        time.sleep(_WAIT_SECONDS)


def _is_cut_short(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_ROLLBACK


def _roll_back(path: Path) -> None:
    """Undo a commit that was cut short because the writer was killed.

    It does nothing while another process writes, which has a journal of its own.

    Raises
    ------
    StoreReadOnlyError
        The gallery cannot be written.
    """
    try:
        lock = WriterLock(path.parent / LOCK, brief=True)
    except StoreLockedError:
        return
    except OSError:
        raise StoreReadOnlyError(
            f"{path}: the last writer was killed during a commit, which must be rolled back "
            f"before anyone can read; open the gallery once with write access to its directory"
        ) from None
    try:
        check_journal(path)
        check_no_link(path)
        with explained(path), closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as db:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    finally:
        lock.release()


@contextmanager
def explained(path: Path | None) -> Iterator[None]:
    """Turn an SQLite error into one that names the file and says what to do."""
    name = "gallery" if path is None else path
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise  # of the statement, not of the file
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if _is_cut_short(error):
            code = sqlite3.SQLITE_BUSY
        match code & 0xFF:  # the upper bits hold details
            case sqlite3.SQLITE_ERROR | sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                raise StoreCorruptError(
                    f"{name}: expected a catalog, found: {error}; "
                    f"{remedy(Path('GALLERY') if path is None else path.parent)}"
                ) from error
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
                raise StoreReadOnlyError(f"{name}: cannot be written: {error}") from error
            case sqlite3.SQLITE_BUSY:
                raise StoreLockedError(
                    f"{name}: another process kept it locked for {_BUSY_SECONDS:.0f} s; try again"
                ) from error
            case _:
                raise StoreError(f"{name}: cannot be read or written: {error}") from error
