"""Check that a catalog has the schema that imgret writes, and nothing else.

The file of somebody else may have triggers that change what is written, views in place of tables
that never end, columns that are computed, and a journal that makes SQLite delete a file.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from imgret.errors import InvalidInputError, StoreCorruptError
from imgret.filters import metadata_field
from imgret.filters.sqlite import column_of

__all__ = [
    "check_journal",
    "check_schema",
    "describe_tables",
    "filter_index",
    "misread_tables",
    "trust_nothing",
]

_FILTER = "filter:"
_DESCRIBED = "SELECT rowid, type, name, tbl_name, sql FROM sqlite_schema"
_STATISTICS = {"sqlite_stat1": "tbl,idx,stat", "sqlite_stat4": "tbl,idx,neq,nlt,ndlt,sample"}
_CONFIG = {"DEFENSIVE": True, "ENABLE_TRIGGER": False, "ENABLE_VIEW": False}
_COMMENT = re.compile(r"--[^\n]*")
# At the end of a journal that names another one (https://sqlite.org/fileformat.html, 3).
_JOURNAL_ENDS = bytes.fromhex("d9d505f920a163d7")


def trust_nothing(db: sqlite3.Connection) -> None:
    """Keep a schema from doing anything but describing tables, as far as SQLite can."""
    if _json_is_safe():
        db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    if hasattr(db, "setconfig"):  # since Python 3.12
        for name, value in _CONFIG.items():
            db.setconfig(getattr(sqlite3, f"SQLITE_DBCONFIG_{name}"), value)


@cache
def _json_is_safe() -> bool:
    """Whether SQLite lets an untrusted schema use the JSON functions that filters are indexed by.

    Where it does not, `check_schema` alone keeps out what is not known.
    """
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("CREATE TABLE t (x TEXT)")
        try:
            db.execute("CREATE INDEX i ON t (json_extract(x, '$.a'))")
        except sqlite3.OperationalError:
            return False
    return True


def check_journal(path: Path) -> None:
    """Raise an error if a journal beside a catalog names another one, which SQLite may delete."""
    journal = path.with_name(f"{path.name}-journal")
    try:
        with journal.open("rb") as file:
            file.seek(-len(_JOURNAL_ENDS), 2)
            names_another = file.read() == _JOURNAL_ENDS
    except OSError:  # none, or a short one
        return
    if names_another:
        raise StoreCorruptError(
            f"{journal}: expected a journal of this catalog alone, found one that names another "
            f"file, which imgret never writes; delete it, or restore the gallery from a copy"
        )


def filter_index(name: str) -> str:
    """Return the statement that makes a database index for filters on a field."""
    column = column_of(metadata_field(name))
    return f'CREATE INDEX "{_FILTER}{name}" ON items ({column}) WHERE removed_at IS NULL'


def check_schema(
    db: sqlite3.Connection, path: Path | None, schema: str, added: tuple[str, ...]
) -> None:
    """Raise an error if there is anything in a catalog that imgret does not write.

    Parameters
    ----------
    db : sqlite3.Connection
    path : Path or None
        Path to name in errors.
    schema : str
        Statements of the current version.
    added : tuple of str
        Columns that versions after that of the catalog have added, as the schema defines them.
    """
    known = _known(schema, added)
    found = db.execute("SELECT type, name, sql FROM sqlite_schema LIMIT 1000").fetchall()
    for kind, name, sql in found:
        if known.get((kind, name)) != _bare(sql) and not _is_extra(kind, name, sql):
            raise StoreCorruptError(
                f"{path}: expected the schema that imgret writes, found the {kind} {name!r} in it, "
                f"which is not known; use a copy, or no gallery from that source"
            )
    there = {(kind, name) for kind, name, _ in found}
    for name in ("items", "counts"):
        if ("table", name) not in there:
            raise StoreCorruptError(
                f"{path}: expected a table {name!r}, found none; restore it from a copy"
            )


@cache
def _known(schema: str, added: tuple[str, ...]) -> dict[tuple[str, str], str]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema)
        found = db.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
    known = {(kind, name): _bare(sql) for kind, name, sql in found}
    for column in added:
        table = known["table", "items"]
        known["table", "items"] = table.replace(f",{_bare(column)}", "")
    return known


def misread_tables(db: sqlite3.Connection, schema: str) -> list[tuple[int, str, str]]:
    """Return the tables of a catalog that are not described as in the schema.

    Descriptions are text, of which one wrong bit makes a table unreadable that is sound. They have
    the same places in every catalog.

    Parameters
    ----------
    db : sqlite3.Connection
        Catalog of the current version.
    schema : str
        Statements of this version.

    Returns
    -------
    list of (place, name, description)
        As they should be.
    """
    with closing(sqlite3.connect(":memory:")) as known:
        known.executescript(schema)
        tables = known.execute(f"{_DESCRIBED} WHERE type = 'table'").fetchall()
    found = {row[0]: row for row in db.execute(_DESCRIBED)}
    return [
        (place, name, sql)
        for place, kind, name, of, sql in tables
        if place in found
        and (kind, name, of, _bare(sql)) != (*found[place][1:4], _bare(found[place][4]))
    ]


def describe_tables(db: sqlite3.Connection, tables: list[tuple[int, str, str]]) -> None:
    """Write descriptions of tables, as `misread_tables` returns them, into a copy of a catalog."""
    for place, name, sql in tables:
        db.execute(
            "UPDATE sqlite_schema SET type = 'table', name = ?, tbl_name = ?, sql = ? "
            "WHERE rowid = ?",
            (name, name, sql, place),
        )
    db.commit()


def _is_extra(kind: str, name: str, sql: str | None) -> bool:
    """Whether it is an index of `filter_index`, or what ANALYZE writes."""
    if kind == "table" and name in _STATISTICS:
        return _bare(sql) == f"CREATETABLE{name}({_STATISTICS[name]})"
    if kind != "index" or not name.startswith(_FILTER):
        return False
    try:
        return _bare(sql) == _bare(filter_index(name.removeprefix(_FILTER)))
    except (InvalidInputError, ValueError):
        return False


def _bare(sql: str | None) -> str:
    """Return a statement without comments and white space."""
    return "".join(_COMMENT.sub("", sql or "").split())
