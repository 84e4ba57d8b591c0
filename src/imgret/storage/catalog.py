"""The table of items: SQLite, in memory or in a file."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgret.errors import (
    DuplicateKeyError,
    InvalidInputError,
    KeyNotFoundError,
    StoreCorruptError,
    StoreReadOnlyError,
    StoreVersionError,
)
from imgret.types import Box, Ids

__all__ = ["Catalog", "Item"]

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE items (
    id         INTEGER PRIMARY KEY,     -- row of the vectors file; never used twice
    key        TEXT NOT NULL,
    path       TEXT,                    -- file it was read from
    sha256     BLOB,                    -- of that file
    size       INTEGER,                 -- bytes
    mtime_ns   INTEGER,
    x0 INTEGER, y0 INTEGER, x1 INTEGER, y1 INTEGER,
    subject    INTEGER NOT NULL,        -- 1: the cropper found the box, 0: whole picture
    label      TEXT,
    metadata   TEXT NOT NULL,           -- a JSON object
    crc        INTEGER NOT NULL,        -- CRC-32 of the stored vector
    removed_at INTEGER                  -- number of the change that removed it; NULL: live
) STRICT;
CREATE UNIQUE INDEX items_key ON items (key) WHERE removed_at IS NULL;
CREATE INDEX items_sha256 ON items (sha256) WHERE removed_at IS NULL;
CREATE INDEX items_label ON items (label) WHERE removed_at IS NULL;
CREATE INDEX items_removed ON items (removed_at) WHERE removed_at IS NOT NULL;
-- rows: ids given out so far; live: items not removed; changes: commits so far
CREATE TABLE counts (rows INTEGER NOT NULL, live INTEGER NOT NULL, changes INTEGER NOT NULL) STRICT;
INSERT INTO counts VALUES (0, 0, 0);
"""
_COLUMNS = "key, path, sha256, size, mtime_ns, x0, y0, x1, y1, subject, label, metadata"
# Keys looked up by one statement; SQLite allows 32,766 parameters.
_CHUNK = 10_000


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a gallery, without its vector.

    Attributes
    ----------
    key : str
        Its name, unique in the gallery.
    path : str or None
        File it was read from.
    sha256 : bytes or None
        Digest of that file.
    size, mtime_ns : int or None
        Bytes and modification time of that file.
    box : Box or None
        Part of the picture that was embedded; None for a vector added without a picture.
    subject : bool
        Whether the cropper found the box; False where it is the whole picture.
    label : str or None
        Class name.
    metadata : mapping
        JSON values.
    """

    key: str
    path: str | None = None
    sha256: bytes | None = None
    size: int | None = None
    mtime_ns: int | None = None
    box: Box | None = None
    subject: bool = False
    label: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Catalog:
    """Items by id and by key; every change is one transaction.

    A reader goes on seeing as many rows as there were when it opened, whatever another
    process adds.

    Parameters
    ----------
    path : Path, optional
        The database; without one it is kept in memory.
    writable : bool
        False opens an existing file for reading only.
    """

    def __init__(self, path: Path | None = None, *, writable: bool = True) -> None:
        self._path = path
        self._lock = threading.RLock()
        mode = "rwc" if writable else "ro"
        target = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={mode}"
        self._db = sqlite3.connect(
            target,
            uri=path is not None,
            isolation_level=None,  # transactions are begun and ended here, by hand
            check_same_thread=False,  # the lock above sees to it
            timeout=30.0,
        )
        try:
            self._prepare(writable=writable)
            self._load_counts()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StoreCorruptError(f"{path}: expected a catalog, found: {error}") from error
        except BaseException:
            self._db.close()
            raise

    # -- reading -------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """Ids given out so far, those of removed items included."""
        return self._rows

    @property
    def changes(self) -> int:
        """Number of the last change."""
        return self._changes

    def __len__(self) -> int:
        return self._live

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self.ids_of([key]))

    def __iter__(self) -> Iterator[str]:
        """Keys in the order they were added."""
        last = -1
        while True:
            rows = self._query(
                "SELECT id, key FROM items WHERE id > ? AND id < ? AND removed_at IS NULL "
                "ORDER BY id LIMIT ?",
                (last, self._rows, _CHUNK),
            )
            if not rows:
                return
            last = rows[-1][0]
            yield from (key for _, key in rows)

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Ids of the keys that exist."""
        found: dict[str, int] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            found.update(
                self._query(
                    f"SELECT key, id FROM items WHERE removed_at IS NULL AND key IN ({marks})",  # noqa: S608  # marks are question marks
                    tuple(chunk),
                )
            )
        return found

    def require(self, keys: Sequence[str]) -> list[int]:
        """Ids of keys that must exist, in order.

        Raises
        ------
        KeyNotFoundError
            Naming the first that does not.
        """
        found = self.ids_of(keys)
        for key in keys:
            if key not in found:
                raise KeyNotFoundError(
                    f"key: expected one of the {len(self)} in the gallery, found {key!r}"
                )
        return [found[key] for key in keys]

    def items(self, ids: Iterable[int]) -> dict[int, Item]:
        """Items by id, removed ones too."""
        wanted = [int(id_) for id_ in ids]
        found: dict[int, Item] = {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            for row in self._query(
                f"SELECT id, {_COLUMNS} FROM items WHERE id IN ({marks})",  # noqa: S608  # the same
                tuple(chunk),
            ):
                found[row[0]] = _item(row[1:])
        return found

    def by_sha256(self, digest: bytes) -> tuple[int, Item] | None:
        """Return the oldest live item made from a file of this content."""
        rows = self._query(
            f"SELECT id, {_COLUMNS} FROM items "  # noqa: S608  # a constant
            "WHERE removed_at IS NULL AND sha256 = ? ORDER BY id LIMIT 1",
            (digest,),
        )
        return (rows[0][0], _item(rows[0][1:])) if rows else None

    def label_count(self) -> int:
        """Return how many different labels there are."""
        rows = self._query("SELECT count(DISTINCT label) FROM items WHERE removed_at IS NULL")
        return int(rows[0][0])

    def live_ids(self, start: int = 0) -> Ids:
        """Ids from ``start`` on that are not removed: int64, increasing."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id FROM items WHERE id >= ? AND id < ? AND removed_at IS NULL ORDER BY id",
                (start, self._rows),
            )
            return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def removed_since(self, change: int) -> Ids:
        """Ids removed by changes after this one: int64."""
        rows = self._query("SELECT id FROM items WHERE removed_at > ? ORDER BY id", (change,))
        return np.array([row[0] for row in rows], dtype=np.int64)

    def checksums(self, ids: Ids) -> list[int]:
        """CRC-32 of the stored vectors of increasing ids."""
        rows = self._query(
            "SELECT id, crc FROM items WHERE id BETWEEN ? AND ? ORDER BY id",
            (int(ids[0]), int(ids[-1])),
        )
        stored = dict(rows)
        return [stored[id_] for id_ in ids.tolist()]

    # -- changing ------------------------------------------------------------------------

    def add(
        self, items: Sequence[Item], checksums: Sequence[int], *, replaced: Sequence[int] = ()
    ) -> range:
        """Commit new items, and the removal of those they replace, in one transaction.

        Returns
        -------
        range
            The ids given out: the next rows, in order.
        """
        with self._change():
            change, first = self._changes + 1, self._rows
            self._mark_removed(replaced, change)
            try:
                self._db.executemany(
                    f"INSERT INTO items (id, crc, {_COLUMNS}) "  # noqa: S608  # a constant
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        (first + offset, crc, *_row(item))
                        for offset, (item, crc) in enumerate(zip(items, checksums, strict=True))
                    ),
                )
            except sqlite3.IntegrityError as error:
                raise DuplicateKeyError(f"key: expected new ones, found {error}") from error
            self._db.execute(
                "UPDATE counts SET rows = rows + ?, live = live + ?, changes = ?",
                (len(items), len(items) - len(replaced), change),
            )
        return range(first, first + len(items))

    def remove(self, ids: Sequence[int]) -> None:
        """Commit the removal of live items."""
        with self._change():
            change = self._changes + 1
            self._mark_removed(ids, change)
            self._db.execute("UPDATE counts SET live = live - ?, changes = ?", (len(ids), change))

    def replace(self, id_: int, item: Item) -> None:
        """Commit new facts about an item whose vector stays."""
        assignments = ", ".join(f"{name} = ?" for name in _COLUMNS.split(", "))
        with self._change():
            self._db.execute(
                f"UPDATE items SET {assignments} WHERE id = ?",  # noqa: S608  # a constant
                (*_row(item), id_),
            )

    def copy_to(self, path: Path) -> None:
        """Write a consistent copy into a new file."""
        with self._lock:
            target = sqlite3.connect(path)
            try:
                self._db.backup(target)
            finally:
                target.close()

    @classmethod
    def in_memory(cls, path: Path) -> Catalog:
        """Read a catalog into memory."""
        source = cls(path, writable=False)
        try:
            copy = cls()
            source._db.backup(copy._db)  # of the same class
            copy._load_counts()  # the same
        finally:
            source.close()
        return copy

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._db.close()

    # -- inside --------------------------------------------------------------------------

    def _prepare(self, *, writable: bool) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > _SCHEMA_VERSION:
            raise StoreVersionError(
                f"{self._path}: expected catalog version {_SCHEMA_VERSION} or older, found "
                f"{version}; upgrade imgret"
            )
        if version == 0:
            if not writable or self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise StoreCorruptError(f"{self._path}: expected a catalog, found another database")
            self._db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;"
            )

    def _load_counts(self) -> None:
        counts = self._db.execute("SELECT rows, live, changes FROM counts").fetchone()
        self._rows: int
        self._live: int
        self._changes: int
        self._rows, self._live, self._changes = counts

    def _query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Commit what the block does, or on an error nothing of it."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise StoreReadOnlyError(f"{self._path}: cannot be written: {error}") from error
            try:
                yield
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                self._roll_back()
                raise OSError(f"{self._path}: cannot be written: {error}") from error
            except BaseException:
                self._roll_back()
                raise
            self._load_counts()

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # a full disk makes SQLite roll back by itself
            self._db.execute("ROLLBACK")

    def _mark_removed(self, ids: Sequence[int], change: int) -> None:
        self._db.executemany(
            "UPDATE items SET removed_at = ? WHERE id = ? AND removed_at IS NULL",
            ((change, int(id_)) for id_ in ids),
        )


def _row(item: Item) -> tuple[Any, ...]:
    box = item.box or (None, None, None, None)
    try:
        metadata = json.dumps(dict(item.metadata), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"metadata of {item.key!r}: expected JSON values, found {error}"
        ) from error
    return (
        item.key,
        item.path,
        item.sha256,
        item.size,
        item.mtime_ns,
        *box,
        int(item.subject),
        item.label,
        metadata,
    )


def _item(row: tuple[Any, ...]) -> Item:
    key, path, sha256, size, mtime_ns, x0, y0, x1, y1, subject, label, metadata = row
    return Item(
        key=key,
        path=path,
        sha256=sha256,
        size=size,
        mtime_ns=mtime_ns,
        box=None if x0 is None else Box(x0, y0, x1, y1),
        subject=bool(subject),
        label=label,
        metadata={} if metadata == "{}" else json.loads(metadata),
    )
