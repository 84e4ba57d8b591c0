"""The table of items: SQLite, in memory or in a file."""

from __future__ import annotations

import json
import os
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from imgret.errors import (
    DuplicateKeyError,
    KeyNotFoundError,
    StoreClosedError,
    StoreCorruptError,
    StoreNotFoundError,
)
from imgret.filters import parse_filter
from imgret.filters.sqlite import SqliteCondition, compile_filter
from imgret.filters.tree import Filter
from imgret.galleries.local.database import (
    CONNECTING,
    connect,
    explained,
    leave,
    patiently,
    upgrade,
    version_of,
)
from imgret.galleries.local.files import file_id
from imgret.galleries.local.known_schema import filter_index
from imgret.galleries.local.matching import Matcher
from imgret.galleries.local.rows import (
    COLUMNS,
    SUMMED,
    SUMMED_TEXT,
    is_sound,
    item_of,
    row_checksum,
    selected,
    to_row,
)
from imgret.galleries.local.writer_lock import forked
from imgret.support.locks import RLock, renew_in_child
from imgret.support.spelling import alike, respelled, shown
from imgret.types import Ids, Item, is_text

__all__ = ["Catalog", "Renumbered"]

# Keys looked up by one statement; SQLite allows 32,766 parameters.
_CHUNK = 10_000
# Far above any number of changes, and far below SQLite's largest integer.
_MOST_CHANGES = 2**62

_MARKS = ", ".join("?" * len(COLUMNS.split(", ")))
_INSERT = f"INSERT INTO items (crc, id, {COLUMNS}, row_crc) VALUES (?, ?, {_MARKS}, ?)"  # noqa: S608  # constants


class Renumbered(NamedTuple):
    """A catalog without the rows of removed items.

    Attributes
    ----------
    catalog : Catalog
        New and open; its item ``i`` had the id ``ids[i]``.
    ids : int64 array of shape (n,)
        Increasing.
    dropped : int
        Number of rows that were left out.
    """

    catalog: Catalog
    ids: Ids
    dropped: int


class Catalog:
    """Items by id and by key; every change is one transaction.

    A reader keeps seeing the items that existed when it opened, whatever another process adds or
    removes. Only new labels or metadata of these items are visible at once.

    Parameters
    ----------
    path : Path, optional
        Database file; without one, the items are kept in memory.
    writable : bool
        If false, an existing file is opened for reading only.

    Attributes
    ----------
    rows : int
        Number of ids given out so far, including those of removed items.
    live : int
        Number of items that are not removed.
    changes : int
        Number of the last change.

    Raises
    ------
    StoreCorruptError, StoreVersionError
        The file is not a catalog, is damaged, or was written by a newer imgret.
    """

    rows: int
    live: int
    changes: int

    def __init__(self, path: Path | None = None, *, writable: bool = True) -> None:
        self._path = None if path is None else path.absolute()
        self._named = self._path  # in messages
        self._lock = RLock(brief=True)
        query = weakref.WeakMethod(self._query)  # a cycle would keep the file open
        self._matcher = Matcher(lambda *given: query()(*given))  # type: ignore[misc]  # noqa: PLW0108  # called while the catalog lives
        self._closed = False
        self._process = os.getpid()
        self._for_writing = writable
        self._reopened = 0  # times, by this process and those it was forked from
        with CONNECTING:
            self._connection: sqlite3.Connection | None = connect(path, writable=writable)
            try:
                version = version_of(self._connection)
                # Without a file, what was read or made here is in memory, and stays as it is.
                self._checked = path is not None and version >= SUMMED
                self._selected = selected(version)
                # Rows that were compared with their checksums since the file was opened: those
                # below a bound, and some others.
                self._sound_below, self._sound = 0, bytearray()
                self._source = None if path is None else file_id(path)
                self._take(self._counts("count(*)"))
                if path is not None:
                    renew_in_child(self)
            except BaseException:
                self._connection.close()
                raise

    def renew(self) -> None:
        """In a forked child, leave the connection to the parent; the next query makes a new one."""
        if self._connection is not None:
            leave(self._connection)
            self._connection = None

    # -- reading -------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.live

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self._spelled([key]))

    def __iter__(self) -> Iterator[str]:
        """Yield keys in the order they were added."""
        self.check_rows()
        start = 0
        while rows := self._query(
            "SELECT id, key FROM items WHERE id >= ? AND id < ? "
            "AND (removed_at IS NULL OR removed_at > ?) ORDER BY id LIMIT ?",
            (start, self.rows, self.changes, _CHUNK),
        ):
            yield from (key for _, key in rows)
            start = rows[-1][0] + 1

    def ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the ids of the keys that exist."""
        found: dict[str, int] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = [key for key in keys[start : start + _CHUNK] if is_text(key)]
            marks = ",".join("?" * len(chunk))
            of_keys = f"SELECT key, id FROM items WHERE id < ? AND key IN ({marks}) AND"  # noqa: S608  # marks are question marks
            found.update(
                # Two statements, as each has its index; the second finds items that were removed
                # since a reader opened.
                self._query(
                    f"{of_keys} removed_at IS NULL UNION ALL {of_keys} removed_at > ?",
                    (self.rows, *chunk, self.rows, *chunk, self.changes),
                )
            )
        return found

    def require(self, keys: Sequence[str]) -> list[int]:
        """Return the ids of keys that must exist, in their order.

        A key may have another Unicode form than in the gallery if it is clear which key is meant:
        see ``imgret.support.spelling``.

        Raises
        ------
        KeyNotFoundError
            A key does not exist; the message names the first one.
        """
        found = self._spelled(keys)
        for key in keys:
            if key not in found:
                raise KeyNotFoundError(
                    f"key: expected one of the {len(self)} in the gallery, found {shown(key)}"
                    f"{alike(key, self)}"
                )
        ids = [found[key] for key in keys]
        if self._checked:
            self.items(ids)
        return ids

    def _spelled(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the ids of the keys that exist, in this or another spelling."""
        found = self.ids_of(keys)
        missing = [key for key in keys if key not in found]
        if any(is_text(key) and not key.isascii() for key in missing):
            names = respelled([key for key in keys if is_text(key)], set(self))
            ids = self.ids_of(list(names.values()))
            found.update({key: ids[name] for key, name in names.items()})
        return found

    def items(self, ids: Iterable[int]) -> dict[int, Item]:
        """Return items by id, including removed ones.

        Raises
        ------
        StoreCorruptError
            A row is missing, or is not what was committed.
        """
        wanted = [int(id_) for id_ in ids]
        found: dict[int, Item] = {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            rows = self._query(
                f"SELECT {self._selected} FROM items WHERE id IN ({marks})",  # noqa: S608  # the same
                tuple(chunk),
            )
            found.update(zip([row[0] for row in rows], self._items_of(rows), strict=True))
        if lost := set(wanted) - found.keys():
            raise self._damaged(f"the row of item {min(lost)}, and found none")
        return found

    def by_sha256(self, digest: bytes) -> tuple[int, Item] | None:
        """Return the oldest live item that was made from a file with this digest."""
        rows = self._query(
            f"SELECT {self._selected} FROM items "  # noqa: S608  # a constant
            "WHERE removed_at IS NULL AND sha256 = ? ORDER BY id LIMIT 1",
            (digest,),
        )
        return (rows[0][0], self._items_of(rows)[0]) if rows else None

    def files(self) -> Iterator[tuple[int, str, str | None]]:
        """Yield id, key and path of every live item, by id."""
        self.check_rows()
        start = 0
        while rows := self._query(
            "SELECT id, key, path FROM items WHERE id >= ? AND removed_at IS NULL "
            "ORDER BY id LIMIT ?",
            (start, _CHUNK),
        ):
            yield from rows
            start = rows[-1][0] + 1

    def common_folder(self) -> str | None:
        """Return the folder that all paths are in; None without any, or if they share none."""
        # The first and the last in order have in common what all of them do.
        ((first, last, turns),) = self._query(
            "SELECT min(path), max(path), max(path LIKE '%/../%') FROM items "
            "WHERE removed_at IS NULL"
        )
        if first is None or "://" in first + last or turns:
            return None
        try:
            found: str = os.path.commonpath([first, last])
        except ValueError:  # on two drives
            return None
        return str(Path(found).parent) if found == first else found

    def label_count(self) -> int:
        """Return the number of distinct labels."""
        rows = self._query("SELECT count(DISTINCT label) FROM items WHERE removed_at IS NULL")
        return int(rows[0][0])

    def labelled(self) -> tuple[Ids, Ids, list[str]]:
        """Return the live items that have a label.

        Returns
        -------
        ids : int64 array of shape (n,)
            Ids of the items, increasing.
        codes : int64 array of shape (n,)
            Label of each item, as its position in ``names``.
        names : list of str
            Distinct labels, in the order in which they first occur.
        """
        self.check_rows()
        places: dict[str, int] = {}
        with self._lock, explained(self._named):
            rows = self._execute(
                "SELECT id, label FROM items WHERE id < ? AND label IS NOT NULL "
                "AND (removed_at IS NULL OR removed_at > ?) ORDER BY id",
                (self.rows, self.changes),
            )
            pairs = np.fromiter(
                ((id_, places.setdefault(label, len(places))) for id_, label in rows),
                dtype=np.dtype((np.int64, 2)),
            )
        ids, codes = np.ascontiguousarray(pairs.T)
        return ids, codes, list(places)

    @property
    def version(self) -> tuple[int, int, int]:
        """A value that changes with every commit, also of labels and by other processes."""
        with self._lock, explained(self._named):
            (seen,) = self._execute("PRAGMA data_version").fetchone()
            return self._reopened, self._db.total_changes, int(seen)

    def live_ids(self, start: int = 0) -> Ids:
        """Return the ids from ``start`` on that are not removed: int64, increasing."""
        with self._lock, explained(self._named):
            rows, changes, counted = self.rows, self.changes, self.live  # of one commit
            (live,) = self._execute(
                "SELECT count(*) FROM items WHERE id >= ? AND id < ? "
                "AND (removed_at IS NULL OR removed_at > ?)",
                (start, rows, changes),
            ).fetchone()
            # The removed items of a whole table are found by their index; with a bare `id`, SQLite
            # would rather read the table again, 10 ms for 100,000 items.
            id_ = "id" if start else "+id"
            removed = self._execute(
                f"SELECT id FROM items WHERE {id_} >= ? AND {id_} < ? AND removed_at <= ?",  # noqa: S608
                (start, rows, changes),
            ).fetchall()
        # Far quicker than to fetch the ids one by one.
        left = np.ones(max(0, rows - start), dtype=np.bool_)
        left[[id_ - start for (id_,) in removed]] = False
        ids = np.flatnonzero(left) + start
        for expected in [len(ids)] if start else [counted, len(ids)]:
            if live != expected:
                raise self._out_of_order(expected, live)
        return ids

    def _check_order(self, ids: Ids, count: int) -> None:
        if len(ids) != count or not (ids[1:] > ids[:-1]).all():
            raise self._out_of_order(count, len(ids))

    def _out_of_order(self, expected: int, found: int) -> StoreCorruptError:
        return self._damaged(f"{expected} items in the order of their rows, found {found}")

    def origins(self) -> Iterator[tuple[int, str | None, bytes | None, str | None]]:
        """Yield id, path, sha256 and label of every live item, by id."""
        self.check_rows()
        start = 0
        while rows := self._query(
            "SELECT id, path, sha256, label FROM items WHERE id >= ? AND id < ? "
            "AND (removed_at IS NULL OR removed_at > ?) ORDER BY id LIMIT ?",
            (start, self.rows, self.changes, _CHUNK),
        ):
            yield from rows
            start = rows[-1][0] + 1

    def compile(self, where: Filter) -> SqliteCondition:
        """Compile a filter; methods that take a filter also take the result."""
        return self._condition(where)

    def check_where(self, where: Any) -> None:
        """Raise the errors of `matching`, before work is spent on the rest of a search."""
        condition = self._condition(where)
        with self._lock:
            self._matcher.check(condition, self.rows, self.changes)

    def matching(self, where: Any) -> Ids:
        """Return the ids of the items that pass a filter: int64, increasing, read-only.

        They are cached until something changes, here or in another process.

        Raises
        ------
        InvalidInputError
            The filter is not valid (see `parse_filter`), or no item has a field that it names.
        """
        condition = self._condition(where)
        with self._lock:
            return self._matcher.ids(condition, self.rows, self.changes, self.version)

    def share_matching(self, where: Any, sample: Ids) -> float:
        """Return the share of items that pass a filter, estimated from a sample of their ids.

        It is cached like the result of `matching`, and raises the same errors.
        """
        condition = self._condition(where)
        with self._lock:
            return self._matcher.share(condition, sample, self.rows, self.changes, self.version)

    def passing(self, where: Any, ids: list[int]) -> set[int]:
        """Return those of the ids whose items pass a filter."""
        with self._lock:
            return self._matcher.passing(self._condition(where), ids, self.rows, self.changes)

    def is_listed(self, where: Any, *, asked: int) -> bool:
        """Whether to call `matching` for a filter: its result is cached, or worth computing by now.

        Parameters
        ----------
        where : mapping
        asked : int
            Number of queries with this filter now. Listing the ids is worthwhile once there was one
            query for every few hundred items, counting earlier ones too.
        """
        condition = self._condition(where)
        with self._lock:
            return self._matcher.is_listed(condition, asked, len(self), self.version)

    @staticmethod
    def _condition(where: SqliteCondition | Filter | Mapping[str, Any]) -> SqliteCondition:
        """Compile a filter, unless it is compiled already."""
        if isinstance(where, SqliteCondition):
            return where
        return compile_filter(where if isinstance(where, Filter) else parse_filter(where))

    def create_filter_index(self, name: str) -> None:
        """Create a database index for filters on a field; does nothing if there is one."""
        if name in {"key", "label"}:  # always have one
            return
        statement = filter_index(name).replace("INDEX", "INDEX IF NOT EXISTS", 1)
        with self._change():
            self._db.execute(statement)

    def removed_since(self, change: int) -> Ids:
        """Return the ids removed by changes after this one: int64, increasing."""
        rows = self._query(
            "SELECT id FROM items WHERE removed_at > ? AND removed_at <= ? ORDER BY id",
            (change, self.changes),
        )
        return np.array([row[0] for row in rows], dtype=np.int64)

    def removed_by_others(self) -> Ids:
        """Return the ids removed since a reader opened, which it still sees: int64, increasing."""
        rows = self._query(
            "SELECT id FROM items WHERE removed_at > ? AND id < ? ORDER BY id",
            (self.changes, self.rows),
        )
        return np.array([row[0] for row in rows], dtype=np.int64)

    def checksums(self, ids: Ids) -> list[int]:
        """Return the CRC-32 of the stored vectors of increasing ids."""
        ends = int(ids[0]), int(ids[-1])
        if ends[1] - ends[0] + 1 == len(ids):
            # As one text, which takes half as long as a tuple for each row.
            [(joined,)] = self._query(
                "SELECT json_group_array(crc) FROM "
                "(SELECT crc FROM items WHERE id BETWEEN ? AND ? ORDER BY id)",
                ends,
            )
            found: list[int] = json.loads(joined)
            if len(found) == len(ids):
                return found
        rows = self._query("SELECT id, crc FROM items WHERE id BETWEEN ? AND ? ORDER BY id", ends)
        return self._of_each(ids, dict(rows))

    def checksums_of(self, ids: Ids) -> list[int]:
        """Return the CRC-32 of the stored vectors of a few ids."""
        rows = self._query(
            "SELECT id, crc FROM items WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(ids.tolist()),),
        )
        return self._of_each(ids, dict(rows))

    def _of_each(self, ids: Ids, stored: dict[int, int]) -> list[int]:
        try:
            return [stored[id_] for id_ in ids.tolist()]
        except KeyError as error:
            raise self._damaged(f"the row of item {error}, and found none") from None

    # -- checking ------------------------------------------------------------------------

    def check_rows(self) -> None:
        """Compare every live row with its checksum, unless that was done since opening.

        Raises
        ------
        StoreCorruptError
            A row is missing, or is not what was committed.
        """
        if not self._checked:
            return
        rows = self.rows
        if not self._sound_below:
            self.live_ids()  # are all there?
        self._check_from(self._sound_below)
        self._sound_below = rows

    def _check_from(self, first: int) -> None:
        """Raise for a row from this id on that is not what was committed."""
        while rows := self._query(
            f"SELECT id, {SUMMED_TEXT}, row_crc - ifnull(removed_at + 1, 0) FROM items "  # noqa: S608  # constants
            "WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (first, self.rows, _CHUNK),
        ):
            for id_ in [id_ for id_, text, stored in rows if crc32(text) != stored]:
                (row,) = self._query(
                    f"SELECT {self._selected} FROM items WHERE id = ?",  # noqa: S608  # the same
                    (id_,),
                ) or [(id_, "unknown")]
                if not is_sound(row):
                    raise self._row_damaged(row)
            last = rows[-1][0]
            if last < first:
                raise self._damaged(f"increasing ids of rows, found {last} after {first - 1}")
            first = last + 1

    def verify(self, source: Catalog) -> None:
        """Check this copy of a catalog, so that damage is not copied on; errors name the source.

        Raises
        ------
        StoreCorruptError
            A row is not what was committed, or the structure of the file is damaged.
        """
        self._named = source._named
        if source._checked:  # else these are checksums of what was read from it
            self._check_from(0)
        for problem in self.check_structure():
            raise self._damaged(f"a sound database, found: {problem}")

    def check_structure(self) -> list[str]:
        """Return what SQLite finds wrong with the file: rows out of order, indexes that differ."""
        rows = self._query("PRAGMA integrity_check(20)")
        return [text for (text,) in rows if text != "ok"]

    def _items_of(self, rows: list[tuple[Any, ...]]) -> list[Item]:
        """Return the items of rows as selected, if the rows are what was committed."""
        if self._checked:
            self._check_new(rows)
        try:
            return [item_of(row) for row in rows]
        except (TypeError, ValueError, RecursionError) as error:  # of a version without checksums
            raise self._row_damaged(rows[0]) from error

    def _check_new(self, rows: list[tuple[Any, ...]]) -> None:
        """Compare rows with their checksums, except those for which that was done before."""
        below, sound = self._sound_below, self._sound
        if len(sound) < self.rows:
            sound.extend(bytes(self.rows - len(sound)))
        known = len(sound)
        for row in [r for r in rows if r[0] >= below and not (r[0] < known and sound[r[0]])]:
            if not is_sound(row):
                raise self._row_damaged(row)
            if row[0] < known:  # else another process has added it since
                sound[row[0]] = True

    def _row_damaged(self, row: tuple[Any, ...]) -> StoreCorruptError:
        return self._damaged(
            f"the row of item {row[0]} as it was committed, found another (key {row[1]!r})"
        )

    def _damaged(self, what: str) -> StoreCorruptError:
        gallery = "GALLERY" if self._named is None else self._named.parent
        return StoreCorruptError(
            f"{self._name}: expected {what}; restore the file from a copy, or see what "
            f"`imgret check {gallery}` can save"
        )

    @property
    def _name(self) -> str:
        return "gallery" if self._named is None else str(self._named)

    # -- changing ------------------------------------------------------------------------

    def add(
        self, items: Sequence[Item], checksums: Sequence[int], *, replaced: Sequence[int] = ()
    ) -> range:
        """Commit new items, and the removal of those they replace, in one transaction.

        Returns
        -------
        range
            Ids of the new items: the next rows, in order.

        Raises
        ------
        DuplicateKeyError, InvalidInputError
            A key exists or is given twice, or `check_item` refuses an item.
        StoreError
            The file cannot be written, for example because the disk is full.
        """
        try:
            with self._change():
                change, first = self.changes + 1, self.rows
                removed = self._mark_removed(replaced, change)
                self._db.executemany(
                    _INSERT,
                    (
                        (crc, *to_row(first + offset, item))
                        for offset, (item, crc) in enumerate(zip(items, checksums, strict=True))
                    ),
                )
                self._db.execute(
                    "UPDATE counts SET rows = rows + ?, live = live + ?, changes = ?",
                    (len(items), len(items) - removed, change),
                )
        except sqlite3.IntegrityError as error:
            raise self._taken(items, replaced, error) from None
        return range(first, first + len(items))

    def remove(self, ids: Sequence[int]) -> None:
        """Commit the removal of items; those removed before stay unchanged."""
        with self._change():
            change = self.changes + 1
            removed = self._mark_removed(ids, change)
            self._db.execute("UPDATE counts SET live = live - ?, changes = ?", (removed, change))

    def replace(self, id_: int, item: Item) -> None:
        """Commit new values of an item, whose vector stays unchanged."""
        self.replace_all({id_: item})

    def replace_all(self, items: Mapping[int, Item]) -> None:
        """Commit new values of some items, in one transaction."""
        assignments = ", ".join(f"{name} = ?" for name in COLUMNS.split(", "))
        try:
            with self._change():
                self._db.executemany(
                    f"UPDATE items SET {assignments}, row_crc = ? + ifnull(removed_at + 1, 0) "  # noqa: S608  # a constant
                    "WHERE id = ?",
                    (
                        (*values, id_)
                        for id_, *values in (to_row(int(id_), item) for id_, item in items.items())
                    ),
                )
        except sqlite3.IntegrityError as error:
            raise self._taken(list(items.values()), list(items), error) from None

    def filter_fields(self) -> list[str]:
        """Return the fields for which `create_filter_index` was called."""
        rows = self._query("SELECT name FROM sqlite_schema WHERE name LIKE 'filter:%'")
        return [name.partition(":")[2] for (name,) in rows]

    def without_removed(self, path: Path | None) -> Renumbered:
        """Make a catalog of the live items, in a new file or in memory.

        Items are numbered again, without a gap. It holds everything committed so far, and nothing
        of removed items.

        Raises
        ------
        StoreCorruptError
            A row is missing, or is not what was committed.
        """
        if path is None or self._for_writing:
            return self._renumbered(path)
        # A writer in another process waits while this reads, so copy first: that is quick.
        whole = path.with_name(f"{path.name}.whole")
        try:
            with self._lock, explained(whole), closing(sqlite3.connect(whole)) as target:
                self._db.backup(target)
            copy = Catalog(whole, writable=False)
            with closing(copy):
                copy._named = self._named
                return copy._renumbered(path)
        finally:
            whole.unlink(missing_ok=True)

    def _renumbered(self, path: Path | None) -> Renumbered:
        with self._lock:  # no other process writes to what is in memory, ours, or a private copy
            ((total, live, changes),) = self._query("SELECT rows, live, changes FROM counts")
            if total == live and path is not None:
                return Renumbered(self._copied(path), np.arange(live), 0)
            copy = Catalog(path)
            copy._named = self._named
            try:
                with copy._filling():
                    ids = np.concatenate([np.empty(0, dtype=np.int64), *self._copy_rows(copy)])
                    self._check_order(ids, live)
                    copy._db.execute(
                        "UPDATE counts SET rows = ?, live = ?, changes = ?", (live, live, changes)
                    )
                for field in self.filter_fields():
                    copy.create_filter_index(field)
            except BaseException:
                copy.close()
                raise
        return Renumbered(copy, ids, total - live)

    def _copied(self, path: Path) -> Catalog:
        """Return a copy, page by page, in a new file."""
        with explained(path), closing(sqlite3.connect(path)) as target:
            self._db.backup(target)
        copy = Catalog(path)
        try:
            copy.verify(self)
        except BaseException:
            copy.close()
            raise
        return copy

    def _copy_rows(self, copy: Catalog) -> Iterator[Ids]:
        """Add the live rows to a new catalog, in a transaction of it; yield their ids here."""
        first, start = 0, 0
        while rows := self._query(
            f"SELECT crc, {self._selected} FROM items "  # noqa: S608  # a constant
            "WHERE id >= ? AND removed_at IS NULL ORDER BY id LIMIT ?",
            (start, _CHUNK),
        ):
            copy._insert(self._sound_rows(rows), first)
            ids: Ids = np.array([row[1] for row in rows], dtype=np.int64)
            first, start = first + len(ids), rows[-1][1] + 1
            yield ids

    @contextmanager
    def _filling(self) -> Iterator[None]:
        """Fill a new catalog in the block; what is in it after an error must be deleted."""
        if self._path is not None:
            for pragma in ("synchronous = OFF", "journal_mode = OFF", "cache_size = -65536"):
                self._db.execute(f"PRAGMA {pragma}")
        with self._change():
            yield

    def _sound_rows(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return rows that start with the checksum of the vector, if they are as committed."""
        for _, *row in rows if self._checked else ():
            if not is_sound(tuple(row)):
                raise self._row_damaged(tuple(row))
        return rows

    def _insert(self, rows: list[tuple[Any, ...]], first: int) -> None:
        """Add rows of another catalog under new ids, in a transaction of the caller."""
        try:
            self._db.executemany(
                _INSERT,
                (
                    (crc, *(new := (number, *row[:13])), row_checksum(new))
                    for number, (crc, _, *row) in enumerate(rows, first)
                ),
            )
        except sqlite3.IntegrityError as error:
            raise self._damaged(f"rows with one key each, found {error}") from None

    def reader(self) -> sqlite3.Connection:
        """Return another connection to the file, for `retire`."""
        return connect(self._path, writable=False)

    def retire(self, reader: sqlite3.Connection) -> None:
        """Only read from now on, as another file is at the path now.

        Parameters
        ----------
        reader : Connection
            Connection for reading that was made while this file was there.
        """
        with self._lock:
            assert self._connection is not None  # noqa: S101  # of a catalog that is open
            self._connection.close()
            self._connection, self._for_writing = reader, False

    def to_memory(self) -> Catalog:
        """Return a consistent copy in memory, with everything committed so far."""
        copy = Catalog()
        copy._named = self._named
        try:
            with self._lock, explained(self._named):
                self._db.backup(copy._db)
                upgrade(copy._db)
            copy._take(copy._counts("count(*)"))
            copy.verify(self)
        except BaseException:
            copy.close()
            raise
        return copy

    def reload_counts(self) -> None:
        """Read `rows`, `live` and `changes` from the database.

        Raises
        ------
        StoreCorruptError
            The counts do not agree with the items.
        """
        self._take(self._counts("NULL"))

    def close(self) -> None:
        """Close the file; doing so twice is fine."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        """Close the file of a catalog that was dropped: a connection is a cycle by itself."""
        if getattr(self, "_process", None) == os.getpid() and hasattr(self, "_connection"):
            self.close()

    # -- inside --------------------------------------------------------------------------

    def _counts(self, removed: str) -> tuple[Any, ...]:
        """Return the counts, and the same figures computed from the items at the same moment.

        Parameters
        ----------
        removed : str
            SQL expression over removed items: their number, which reads each of them, or ``NULL``.
        """
        counts = self._query(
            "SELECT rows, live, changes, "  # noqa: S608  # a constant
            "(SELECT ifnull(max(id), -1) + 1 FROM items), "
            f"(SELECT {removed} FROM items WHERE removed_at IS NOT NULL), "
            "(SELECT ifnull(max(removed_at), 0) FROM items WHERE removed_at IS NOT NULL) "
            "FROM counts LIMIT 2"
        )
        if len(counts) != 1:
            raise StoreCorruptError(
                f"{self._name}: expected a catalog with one row of counts, found {len(counts)}; "
                f"restore it from a copy"
            )
        return counts[0]

    def _take(self, counts: tuple[Any, ...]) -> None:
        """Accept the counts if the items agree with them.

        Vectors beyond the counts are deleted as not committed. One wrong bit in the counts must not
        delete all vectors.
        """
        rows, live, changes, ids, removed, last = counts
        if not (
            all(isinstance(count, int) for count in (rows, live, changes))
            and rows == ids
            and (rows - removed == live if removed is not None else 0 <= live <= rows)
            and last <= changes < _MOST_CHANGES
        ):
            gone = "" if removed is None else f", {removed} of them removed"
            raise StoreCorruptError(
                f"{self._name}: expected counts that agree with the items, {ids} rows{gone} up to "
                f"change {last}, found rows={rows!r}, live={live!r}, changes={changes!r} in the "
                f"table counts; nothing was changed. Restore the file from a copy; if there is "
                f"none, correct that table with the sqlite3 program"
            )
        self.rows = rows
        self.live = live
        self.changes = changes

    @property
    def _db(self) -> sqlite3.Connection:
        """The connection; the caller holds the lock."""
        if self._closed:
            raise StoreClosedError(f"{self._name}: closed; open it again with Retriever.open()")
        if self._connection is None:
            self._connection = self._connect_again()
        return self._connection

    def _connect_again(self) -> sqlite3.Connection:
        """Open the file for reading in a forked child: no connection crosses a fork."""
        assert self._path is not None  # noqa: S101  # what is in memory goes with the process
        db = connect(self._path, writable=False)
        if file_id(self._path) != self._source:  # the parent's is still open and keeps its number
            db.close()
            raise StoreNotFoundError(
                f"{self._path}: another gallery has replaced the one that was open when this "
                f"process, {os.getpid()}, was forked; open it again in this process"
            )
        self._reopened += 1
        return db

    def _query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, explained(self._named):
            return self._execute(statement, values).fetchall()

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Return the rows of a statement that reads; the caller holds the lock."""
        return patiently(lambda: self._db.execute(statement, values), self._path)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Commit what the block does; on an error, roll it back."""
        if self._path is not None and self._for_writing and self._process != os.getpid():
            raise forked(self._path, self._process)
        with self._lock, explained(self._named):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk makes SQLite roll back by itself
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self.reload_counts()  # an interrupt may come after the commit, too

    def _mark_removed(self, ids: Sequence[int], change: int) -> int:
        """Mark items as removed, and return how many of them were live."""
        return self._db.executemany(
            "UPDATE items SET removed_at = ?, row_crc = row_crc + ? + 1 "
            "WHERE id = ? AND removed_at IS NULL",
            ((change, change, int(id_)) for id_ in ids),
        ).rowcount

    def _taken(
        self, items: Sequence[Item], replaced: Sequence[int], error: sqlite3.IntegrityError
    ) -> Exception:
        """Return the error that names a key which exists or is given twice."""
        going = set(replaced)
        live = self.ids_of([item.key for item in items])
        seen = {key for key, id_ in live.items() if id_ not in going}
        for item in items:
            if item.key in seen:
                return DuplicateKeyError(f"key: expected new keys, each once, found {item.key!r}")
            seen.add(item.key)
        return self._damaged(f"rows and indexes that agree, found {error}")
