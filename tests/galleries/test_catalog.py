"""The table of items: what is committed, what is refused, what another process sees."""

import gc
import json
import os
import re
import sqlite3
import sys
import threading
import time
import warnings
import zlib
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgret.errors import (
    DuplicateKeyError,
    ImgretError,
    InvalidInputError,
    KeyNotFoundError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreForkedError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreVersionError,
)
from imgret.galleries.local import catalog as module
from imgret.galleries.local import database, known_schema
from imgret.galleries.local.catalog import Catalog
from imgret.galleries.local.known_schema import filter_index, trust_nothing
from imgret.galleries.local.writer_lock import WriterLock
from imgret.types import Box, Item

DATA = Path(__file__).parents[1] / "data"
ITEM = Item(
    key="lake/1.jpg",
    path="/photos/lake/1.jpg",
    sha256=b"\x00\xff" * 16,
    size=2**40,
    mtime_ns=1_700_000_000_123_456_789,
    box=Box(1, 2, 30, 40),
    subject=True,
    label="lake",
    metadata={"stars": 4.5, "tags": ["a", None], "nested": {"ä": True}},
    phash=b"\x00\xff" * 4,
)


@pytest.fixture(params=["memory", "file"])
def catalog(request, tmp_path):
    with closing(Catalog(tmp_path / "c.sqlite" if request.param == "file" else None)) as made:
        yield made


def items(*keys):
    return [Item(key) for key in keys]


def plain(path, statement):
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(statement).fetchall()


# -- what goes in comes out ----------------------------------------------------------------------


def test_every_field_comes_back(catalog):
    assert catalog.add([ITEM, Item("bare")], [7, 8]) == range(2)
    assert catalog.items([0, 1]) == {0: ITEM, 1: Item("bare")}
    assert catalog.by_sha256(ITEM.sha256) == (0, ITEM)
    assert catalog.by_sha256(b"another") is None
    assert catalog.checksums(np.array([0, 1])) == [7, 8]


def test_file_is_a_plain_database(tmp_path, kit):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add([ITEM], [zlib.crc32(b"x")])
        catalog.add(items("b"), [1], replaced=[0])
    rows = plain(path, "SELECT id, key, sha256, x1, label, metadata, crc, removed_at FROM items")
    assert rows[0][:5] == (0, ITEM.key, ITEM.sha256, 30, "lake")
    assert json.loads(rows[0][5]) == ITEM.metadata
    assert rows[0][6:] == (zlib.crc32(b"x"), 2)
    assert rows[1] == (1, "b", None, None, None, "{}", 1, None)
    assert plain(path, "SELECT * FROM counts") == [(2, 1, 2)]
    assert plain(path, "PRAGMA user_version") == [(4,)]
    assert plain(path, "PRAGMA integrity_check") == [("ok",)]
    assert kit.names(tmp_path) == ["c.sqlite"]  # no journal stays behind


def test_ids_are_never_given_twice(catalog):
    catalog.add(items("a", "b", "c"), [0, 0, 0])
    catalog.remove([1])
    assert "b" not in catalog
    assert catalog.add(items("b"), [0]) == range(3, 4)
    assert list(catalog) == ["a", "c", "b"]
    assert catalog.live_ids().tolist() == [0, 2, 3]
    assert catalog.live_ids(1).tolist() == [2, 3]
    assert (len(catalog), catalog.rows, catalog.changes) == (3, 4, 3)
    assert catalog.ids_of(["b", "zz", "a"]) == {"a": 0, "b": 3}
    assert catalog.require(["b", "a"]) == [3, 0]
    assert catalog.items([1])[1].key == "b"  # a hit found earlier can still be named


def test_ids_are_of_one_commit_while_another_thread_commits(catalog):
    def change():
        for n in range(60):
            (id_,) = catalog.add(items(f"new-{n}"), [0])
            catalog.remove([id_])

    catalog.add(items(*map(str, range(50))), [0] * 50)
    writer = threading.Thread(target=change)
    writer.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        while writer.is_alive():
            assert len(catalog.live_ids()) in {50, 51}
            assert len(catalog.live_ids(49)) in {1, 2}
    finally:
        sys.setswitchinterval(interval)
        writer.join()


def test_removed_since_follows_every_change(catalog):
    catalog.add(items("a", "b", "c", "d"), [0] * 4)
    catalog.remove([2, 0])
    catalog.add(items("b"), [0], replaced=[1])
    assert catalog.removed_since(0).tolist() == [0, 1, 2]
    assert catalog.removed_since(2).tolist() == [1]
    assert catalog.removed_since(3).tolist() == []
    assert catalog.removed_since(3).dtype == catalog.live_ids(99).dtype == np.int64


def test_removing_twice_counts_once(catalog):
    catalog.add(items("a", "b"), [0, 0])
    catalog.remove([0, 0])
    catalog.remove([0])
    assert len(catalog) == len(list(catalog)) == 1
    catalog.add(items("c"), [0], replaced=[0])
    assert len(catalog) == len(list(catalog)) == 2


def test_empty_changes(catalog):
    assert catalog.add([], []) == range(0)
    catalog.remove([])
    catalog.replace_all({})
    assert (len(catalog), catalog.rows, list(catalog), catalog.ids_of([])) == (0, 0, [], {})


def test_replace_keeps_id_and_vector(catalog):
    catalog.add([ITEM, Item("b")], [7, 8])
    catalog.replace(0, replace(ITEM, label=None, metadata={}))
    assert catalog.items([0])[0] == replace(ITEM, label=None, metadata={})
    assert catalog.checksums(np.array([0])) == [7]
    with pytest.raises(DuplicateKeyError, match="'b'"):
        catalog.replace(0, replace(ITEM, key="b"))
    with pytest.raises(InvalidInputError, match="label of 'x'"):
        catalog.replace_all({1: Item("new"), 0: Item("x", label=5)})
    assert list(catalog) == [ITEM.key, "b"]  # none of them


def test_oldest_of_the_same_bytes(catalog):
    catalog.add([Item(key, sha256=b"s") for key in "abc"], [0] * 3)
    catalog.remove([0])
    assert catalog.by_sha256(b"s") == (1, Item("b", sha256=b"s"))


def test_label_count(catalog):
    catalog.add(
        [Item("a", label="x"), Item("b", label="x"), Item("c", label="y"), Item("d")], [0] * 4
    )
    assert catalog.label_count() == 2
    catalog.remove([2])
    assert catalog.label_count() == 1


@pytest.mark.slow
def test_many_keys(catalog):
    keys = [f"{n:05}" for n in range(25_000)]
    catalog.add(items(*keys), [0] * len(keys))
    assert list(catalog) == keys
    assert catalog.require(keys) == list(range(len(keys)))
    assert len(catalog.items(range(len(keys)))) == len(keys)


# -- what is refused -----------------------------------------------------------------------------


def test_unknown_key(catalog):
    catalog.add(items("a", "5"), [0, 0])
    with pytest.raises(KeyNotFoundError, match=r"one of the 2 in the gallery, found 'zz'"):
        catalog.require(["a", "zz"])
    assert 5 not in catalog  # SQLite by itself would find "5"
    with pytest.raises(KeyNotFoundError):
        catalog.require([5])


def test_an_ascii_key_is_looked_up_and_compared_with_no_other(catalog):
    asked = []
    catalog.add(items("a", "é"), [0, 0])
    catalog._db.set_trace_callback(asked.append)
    assert "zz" not in catalog
    assert len(asked) == 1
    assert "e\u0301" in catalog
    assert len(asked) > 2


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (Item("a"), DuplicateKeyError, "each once, found 'a'"),
        (Item("new-1"), DuplicateKeyError, "each once, found 'new-1'"),
        (Item(""), InvalidInputError, "non-empty text"),
        (Item("\udcff"), InvalidInputError, "Unicode"),
        (Item(5), InvalidInputError, "found 5"),
        (Item("x", path="\udcff"), InvalidInputError, "path of 'x'"),
        (Item("x", label="\udcff"), InvalidInputError, "label of 'x'"),
        (Item("x", label=5), InvalidInputError, "label of 'x'.*found 5"),
        (Item("x", metadata=[1]), InvalidInputError, "metadata of 'x': expected a mapping"),
        (Item("x", metadata={"a": float("nan")}), InvalidInputError, "metadata of 'x'"),
        (Item("x", metadata={"a": object()}), InvalidInputError, "metadata of 'x'"),
        (Item("x", metadata={"a": "\udcff"}), InvalidInputError, "metadata of 'x'"),
        (Item("x", metadata={(1, 2): 3}), InvalidInputError, "metadata of 'x'"),
    ],
)
def test_one_bad_item_and_nothing_is_added(catalog, bad, error, message):
    catalog.add(items("a", "b"), [0, 0])
    with pytest.raises(error, match=message):
        catalog.add([Item("new-1"), Item("new-2"), bad], [0] * 3, replaced=[1])
    assert list(catalog) == ["a", "b"]
    assert (len(catalog), catalog.rows, catalog.changes) == (2, 2, 1)
    assert catalog.add(items("new-1"), [0]) == range(2, 3)  # and it goes on


def test_interrupt_in_the_middle(catalog):
    def interrupted():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalog.add(items("a", "b"), interrupted())
    assert (len(catalog), catalog.rows, list(catalog)) == (0, 0, [])


def test_numbers_of_items_and_checksums_differ(catalog):
    with pytest.raises(ValueError, match="shorter"):
        catalog.add(items("a", "b"), [0])
    assert catalog.rows == 0


HOSTILE = [
    "'; DROP TABLE items; --",
    '" OR 1=1',
    "?1 :key @key $key",
    "👩‍👩‍👧‍👦",
    "é",
    "e\u0301",
    "A",
    "a",
    " ",
    "%",
    "k" * 1_000_000,
]


def test_hostile_text_is_only_text(catalog):
    many = [Item(key, label=key, path=key, metadata={key: key}) for key in HOSTILE]
    catalog.add(many, [0] * len(many))
    assert list(catalog) == HOSTILE
    assert catalog.require(HOSTILE) == list(range(len(HOSTILE)))
    assert list(catalog.items(range(len(HOSTILE))).values()) == many
    assert "\udcff" not in catalog


@pytest.mark.parametrize(
    ("item", "named"),
    [
        (Item("a\0b"), "key: expected non-empty text (Unicode, without NUL), found 'a\\x00b'"),
        (Item("k", path="\0"), "path of 'k': expected Unicode text without NUL"),
        (Item("k", label="a\0"), "label of 'k': expected Unicode text without NUL"),
        (Item("k", metadata={"t": "ab\0c"}), "without NUL characters in 't', found 'ab\\x00c'"),
        (Item("k", metadata={"a": {"b": [1, ["x\0"]]}}), "without NUL characters in 'a.b'"),
        (Item("k", metadata={"a": {"n\0": 1}}), "without NUL characters in 'a.n\\x00'"),
        (Item("k", metadata={1: "a", "1": "b"}), "names that are text, found 1 (int); write '1'"),
        (Item("k", metadata={"a": [{"b": {True: 1}}]}), "found True (bool) below a.b"),
        (Item("k", metadata={None: 1}), "found None (NoneType)"),
        (Item("k", metadata={"a": {0.5: 1}}), "found 0.5 (float) below a"),
    ],
)
def test_text_that_sqlite_would_cut_and_names_that_would_collide(catalog, item, named):
    for change in (lambda: catalog.add([item], [0]), lambda: catalog.replace(0, item)):
        with pytest.raises(InvalidInputError, match=re.escape(named)):
            change()
    assert catalog.rows == 0


def test_a_backslash_before_u0000_is_no_nul(catalog):
    item = Item("k", metadata={"t": r"\u0000", "u": "\\"})
    catalog.add([item], [0])
    assert catalog.items([0])[0] == item
    assert catalog.matching({"t": {"$contains": "u0000"}}).tolist() == [0]


def test_nul_is_looked_for_in_old_catalogs_alone(tmp_path):
    with closing(Catalog(tmp_path / "c.sqlite")) as catalog:
        catalog.add([Item("k", metadata={"t": r"\u0000"})], [0])
    with closing(Catalog(tmp_path / "c.sqlite", writable=False)) as reader:
        assert reader._db.execute("SELECT name FROM sqlite_temp_schema").fetchall() == []


def old_with_nul(path):
    """Make a catalog of version 2 as an imgret that let NUL in left it under another SQLite."""
    path.write_bytes((DATA / "galleries" / "v2.imgret" / "catalog.sqlite").read_bytes())
    with closing(sqlite3.connect(path)) as db, db:
        for name in ("t", "n"):
            db.execute(filter_index(name))
        for id_, metadata in (
            (8, r'{"t": "ab\u0001c", "l": ["x\u0001"], "n\u0001m": {"ä": 1}}'),
            (9, '{"t": "ab"}'),
        ):
            db.execute("UPDATE items SET metadata = ? WHERE id = ?", (metadata, id_))
    path.write_bytes(path.read_bytes().replace(rb"\u0001", rb"\u0000"))  # not in the indexes


@pytest.mark.parametrize("writable", [True, False])
def test_nul_that_an_older_imgret_stored_reads_as_filters_see_it(tmp_path, writable):
    path = tmp_path / "c.sqlite"
    old_with_nul(path)
    before = path.read_bytes()
    with closing(Catalog(path, writable=writable)) as catalog:
        item = catalog.items([8])[8]
        assert item.metadata == {"t": "ab", "l": ["x"], "n": {"ä": 1}}
        assert catalog.matching({"t": "ab"}).tolist() == [8, 9]
        assert catalog.matching({"t": {"$exists": True, "$ne": "ab"}}).tolist() == []
        assert catalog.matching({"t": {"$lte": "ab"}}).tolist() == [8, 9]
        assert catalog.matching({"t": {"$contains": "c"}}).tolist() == []
        assert catalog.matching({"l": {"$contains": "x"}}).tolist() == [8]
        assert catalog.matching({"n.ä": 1}).tolist() == [8]
        assert catalog.passing({"n.ä": 1}, [8, 9]) == {8}
        with pytest.raises(InvalidInputError, match="path, l, n, number, t, tags"):
            catalog.matching({"zzz": 1})
        with closing(catalog.without_removed(tmp_path / "copy.sqlite").catalog) as copy:
            assert copy.items([7])[7] == item
            assert copy.matching({"t": "ab"}).tolist() == [7, 8]
            assert copy.check_structure() == []
    if writable:
        with closing(Catalog(path)) as catalog:
            assert catalog.check_structure() == []
            catalog.replace(8, item)
    else:
        assert path.read_bytes() == before


def test_a_label_with_nul_that_an_older_imgret_stored_is_no_damage(tmp_path):
    """SQLite ends at it the text of which it makes a checksum."""
    path = tmp_path / "c.sqlite"
    path.write_bytes((DATA / "galleries" / "v2.imgret" / "catalog.sqlite").read_bytes())
    plain(path, "UPDATE items SET label = 'a' || char(0) || 'b' WHERE id = 8")
    with closing(Catalog(path)) as catalog:
        assert len(list(catalog)) == len(catalog)
        assert catalog.items([8])[8].label == "a\0b"
        plain(path, "UPDATE items SET label = 'a' || char(0) || 'c' WHERE id = 8")
    with (
        closing(Catalog(path)) as catalog,
        pytest.raises(StoreCorruptError, match="the row of item 8"),
    ):
        list(catalog)


def test_an_upgrade_writes_metadata_as_they_are_written_today(tmp_path):
    path = tmp_path / "c.sqlite"
    old_with_nul(path)
    with closing(Catalog(path)) as catalog:
        ((old,),) = plain(path, "SELECT metadata FROM items WHERE id = 8")
        catalog.replace(8, catalog.items([8])[8])
    assert plain(path, "SELECT metadata FROM items WHERE id = 8") == [(old,)]


def test_a_reader_of_an_old_catalog_with_nul_cannot_write_either(tmp_path):
    path = tmp_path / "c.sqlite"
    old_with_nul(path)
    with closing(Catalog(path, writable=False)) as catalog:
        assert catalog._db.execute("PRAGMA query_only").fetchone() == (1,)


def test_an_upgrade_that_another_process_was_quicker_with(tmp_path, monkeypatch):
    path = tmp_path / "c.sqlite"
    path.write_bytes((DATA / "galleries" / "v1.imgret" / "catalog.sqlite").read_bytes())
    looks, look = [], database.version_of

    def version_of(db):
        version = look(db)
        looks.append(version)
        if looks == [1, 1]:  # it was read, and is about to be upgraded
            Catalog(path).close()
        return version

    monkeypatch.setattr(database, "version_of", version_of)
    with closing(Catalog(path)) as catalog:
        assert catalog.check_structure() == []
        assert len(list(catalog)) == len(catalog) > 0
    assert looks[-1] == 4


def test_old_metadata_that_cannot_be_read_stay_as_they_are(tmp_path):
    path = tmp_path / "c.sqlite"
    old_with_nul(path)
    plain(path, 'DROP INDEX "filter:t"')
    plain(path, 'DROP INDEX "filter:n"')
    stored = path.read_bytes()
    path.write_bytes(stored.replace(rb'{"t": "ab\u0000c"', rb'["t", "ab\u0000c"'))
    with closing(Catalog(path)) as catalog:
        assert catalog.items([9])[9].metadata == {"t": "ab"}
        with pytest.raises(StoreCorruptError, match="the row of item 8 as it was committed"):
            catalog.items([8])


def test_an_upgrade_leaves_metadata_that_are_no_unicode(tmp_path):
    path = tmp_path / "c.sqlite"
    old_with_nul(path)
    stored = r'{"u": "\ud800\u0000"}'
    plain(path, f"UPDATE items SET metadata = '{stored}' WHERE id = 7")  # noqa: S608  # from above
    with closing(Catalog(path)) as catalog:
        assert catalog.matching({"t": "ab"}).tolist() == [8, 9]
    assert plain(path, "SELECT metadata FROM items WHERE id = 7") == [(stored,)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
        unique=True,
    )
)
def test_any_unicode_key(keys):
    with closing(Catalog()) as catalog:
        catalog.add(items(*keys), [0] * len(keys))
        assert catalog.ids_of(keys) == {key: id_ for id_, key in enumerate(keys)}
        catalog.remove(list(range(0, len(keys), 2)))
        assert list(catalog) == keys[1::2]


# -- files ---------------------------------------------------------------------------------------


def test_newer_version(tmp_path):
    path = tmp_path / "c.sqlite"
    Catalog(path).close()
    plain(path, "PRAGMA user_version = 5")
    with pytest.raises(StoreVersionError, match="version 4 or older, found 5; upgrade imgret"):
        Catalog(path)


@pytest.mark.parametrize("writable", [True, False])
def test_foreign_database(tmp_path, writable):
    path = tmp_path / "c.sqlite"
    plain(path, "CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreCorruptError, match="another database"):
        Catalog(path, writable=writable)
    plain(path, "PRAGMA user_version = 1")
    with pytest.raises(StoreCorruptError, match="the schema that imgret writes"):
        Catalog(path, writable=writable)
    assert plain(path, "SELECT name FROM sqlite_schema") == [("recipes",)]


@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 99, b"x"])
def test_no_database_at_all(tmp_path, content):
    path = tmp_path / "c.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"c\.sqlite"):
        Catalog(path, writable=False)
    assert path.read_bytes() == content


def test_the_limit_of_a_look_at_the_schema_is_none_of_queries(monkeypatch):
    monkeypatch.setattr(database, "_LOOKING_SECONDS", 0.0)
    with closing(Catalog()) as catalog:
        assert catalog._query(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
            "LIMIT 100000) SELECT max(n) FROM numbers"
        ) == [(100_000,)]


def test_the_limit_of_a_look_is_one_of_time():
    with closing(sqlite3.connect(":memory:")) as db, database._limited(db):
        assert db.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers "
            "LIMIT 100000) SELECT max(n) FROM numbers"
        ).fetchone() == (100_000,)


def test_a_schema_whose_names_are_no_text_is_malformed(tmp_path):
    path = tmp_path / "c.sqlite"
    Catalog(path).close()
    data = path.read_bytes().replace(b"items_label", b"items_l\xffbel")
    path.write_bytes(data.replace(b"ON items (label)", b"ON itemz (label)"))
    with pytest.raises(StoreCorruptError, match=r"c\.sqlite: .*malformed"):
        Catalog(path)


@pytest.mark.parametrize("writable", [True, False])
def test_a_connection_trusts_no_schema_and_keeps_what_it_commits(tmp_path, writable):
    path = tmp_path / "c.sqlite"
    Catalog(path).close()
    trusted = 1  # where SQLite refuses the indexes of filters otherwise
    with closing(sqlite3.connect(":memory:")) as db, suppress(sqlite3.OperationalError):
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("CREATE TABLE items (metadata TEXT, removed_at INTEGER)")
        db.execute(filter_index("year"))
        trusted = 0
    known_schema._json_is_safe.cache_clear()  # asked again
    with closing(Catalog(path, writable=writable)) as catalog:
        for name, value in (
            ("trusted_schema", trusted),
            ("cell_size_check", 1),
            (
                "synchronous",
                3,
            ),  # EXTRA: a commit outlives a power loss
            ("query_only", int(not writable)),
        ):
            assert catalog._db.execute(f"PRAGMA {name}").fetchone() == (value,), name


def test_a_newer_python_lets_no_trigger_and_no_view_run(monkeypatch):
    """``setconfig`` came with Python 3.12."""
    told = {}

    class Newer(sqlite3.Connection):
        def setconfig(self, name, value):
            told[name] = value

    with (
        closing(sqlite3.connect(":memory:", factory=Newer)) as db,
        monkeypatch.context() as patch,
    ):
        for name in ("DEFENSIVE", "ENABLE_TRIGGER", "ENABLE_VIEW"):
            patch.setattr(sqlite3, f"SQLITE_DBCONFIG_{name}", name, raising=False)
        trust_nothing(db)
    assert told == {"DEFENSIVE": True, "ENABLE_TRIGGER": False, "ENABLE_VIEW": False}


def test_counts_are_lost(tmp_path):
    path = tmp_path / "c.sqlite"
    Catalog(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM counts")
    with pytest.raises(StoreCorruptError, match="counts"):
        Catalog(path)


def test_damage_in_the_middle_is_an_error_of_ours(tmp_path):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add(items(*(f"{n:04}" for n in range(3000))), [0] * 3000)
    data = bytearray(path.read_bytes())
    data[4 * 4096 :] = b"\xa5" * (len(data) - 4 * 4096)
    path.write_bytes(data)
    with pytest.raises(StoreCorruptError, match="restore"), closing(Catalog(path)) as catalog:
        catalog.items(range(3000))


def test_a_reader_cannot_write(tmp_path):
    path = tmp_path / "c.sqlite"
    Catalog(path).close()
    with closing(Catalog(path, writable=False)) as reader:
        with pytest.raises(StoreReadOnlyError):
            reader.add(items("a"), [0])
        assert len(reader) == 0


def test_a_reader_keeps_its_view(tmp_path):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as writer:
        writer.add(items("a", "b", "c"), [0] * 3)
        writer.remove([2])
        with closing(Catalog(path, writable=False)) as reader:
            writer.add(items("a", "d"), [0] * 2, replaced=[0])
            assert reader.matching({"key": {"$ne": "x"}}).tolist() == [0, 1]
            writer.remove([1])
            writer.add(items("b"), [0])
            assert list(reader) == ["a", "b"]
            assert len(reader) == 2
            assert reader.ids_of(["a", "b", "c", "d"]) == {"a": 0, "b": 1}
            assert reader.live_ids().tolist() == [0, 1]
            assert reader.removed_since(0).tolist() == [2]
            with closing(reader.to_memory()) as now:  # a copy is of what is there now
                assert list(now) == list(writer) == ["a", "d", "b"]


def test_copies_are_whole_and_apart(tmp_path, catalog):
    catalog.add([ITEM, Item("b")], [7, 8])
    copied = catalog.without_removed(tmp_path / "copy.sqlite")
    assert (copied.ids.tolist(), copied.dropped) == ([0, 1], 0)
    with closing(copied.catalog) as copy, closing(copy.to_memory()) as memory:
        for each in (copy, memory):
            assert each.items([0, 1]) == catalog.items([0, 1])
            each.remove([0])
            assert len(each) == 1
    assert len(catalog) == 2


def test_a_copy_that_cannot_be_made(tmp_path):
    path = tmp_path / "c.sqlite"
    Catalog(path).close()
    with (
        closing(Catalog(path, writable=False)) as reader,
        pytest.raises(StoreError, match=r"nowhere/copy\.sqlite.*: cannot be read or written"),
    ):
        reader.without_removed(tmp_path / "nowhere" / "copy.sqlite")


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize(
    "read",
    [
        list,
        lambda catalog: list(catalog.files()),
        lambda catalog: list(catalog.origins()),
        Catalog.labelled,
        lambda catalog: catalog.require(["b", "a"]),
        lambda catalog: catalog.items([1, 0]),
        lambda catalog: (catalog.by_sha256(b"1" * 32), catalog.by_sha256(b"2" * 32)),
        lambda catalog: catalog.without_removed(None),
        lambda catalog: catalog.without_removed(catalog._path.with_name("copy.sqlite")),
        lambda catalog: catalog.to_memory(),
    ],
)
def test_a_damaged_row_is_an_error_whoever_reads_it(tmp_path, read, name):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add(
            [Item("a", "/a", b"1" * 32, label="x"), Item("b", "/b", b"2" * 32, label="y")], [0, 0]
        )
    plain(path, f"UPDATE items SET label = 'z' WHERE key = '{name}'")  # noqa: S608  # from above
    id_ = "ab".index(name)
    for writable in (False, True):
        with closing(Catalog(path, writable=writable)) as catalog:
            for _ in range(2):
                with pytest.raises(
                    StoreCorruptError,
                    match=rf"{path}: .* row of item {id_} .* \(key '{name}'\); restore .*"
                    rf"imgret check {tmp_path}`",
                ):
                    read(catalog)
    assert not (tmp_path / "c.sqlite.whole").exists()


@pytest.mark.parametrize("removed", [[], [3]])
def test_rows_in_another_order_are_not_copied(tmp_path, removed):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add([Item(f"{n}", label="x" * 900) for n in range(12)], [0] * 12)
        catalog.remove(removed)
    data = path.read_bytes()
    pages = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    a, b = [n for n, page in enumerate(pages) if page[0] == 13 and b"x" * 900 in page][:2]
    pages[a], pages[b] = pages[b], pages[a]  # each of them sound
    path.write_bytes(b"".join(pages))
    with (
        closing(Catalog(path, writable=False)) as catalog,
        pytest.raises(StoreCorruptError, match=r"in the order of their rows|out of order"),
    ):
        catalog.without_removed(tmp_path / "copy.sqlite")


def test_rows_that_are_gone_are_missed_in_a_copy(tmp_path):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add(items("a", "b", "c", "d"), [0] * 4)
        catalog.remove([0])
    plain(path, "DELETE FROM items WHERE id = 2")
    with (
        closing(Catalog(path, writable=False)) as catalog,
        pytest.raises(StoreCorruptError, match="expected 3 items in the order of their rows"),
    ):
        catalog.without_removed(tmp_path / "copy.sqlite")


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_what_is_read_in_pieces_is_all_there(catalog, monkeypatch, chunk):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    live = [n for n in range(13) if n not in (0, 3, 4, 7)]
    added = [Item(f"k{n}", f"/{n}", b"%032d" % n, label=f"l{n}") for n in range(13)]
    catalog.add(added, range(13))
    catalog.remove([0, 3, 4, 7])
    keys = [f"k{n}" for n in live]
    assert list(catalog) == keys
    assert list(catalog.files()) == [(n, f"k{n}", f"/{n}") for n in live]
    assert list(catalog.origins()) == [(n, f"/{n}", b"%032d" % n, f"l{n}") for n in live]
    assert catalog.require(keys[::-1]) == live[::-1]
    assert catalog.items(range(13)) == dict(enumerate(added))
    with closing(catalog.without_removed(None).catalog) as copy:
        assert list(copy.items(range(9)).values()) == [added[n] for n in live]
        assert copy.checksums(np.arange(9)) == live


@pytest.mark.parametrize("id_", [0, 2, 3, 8])
def test_damage_in_any_piece_is_found_also_later(tmp_path, monkeypatch, id_):
    monkeypatch.setattr(module, "_CHUNK", 3)
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add(items(*"abcdefghi"), [0] * 9)
        for _ in range(2):  # what is sound is compared once
            assert list(catalog) == list("abcdefghi")
            assert catalog.items([id_])[id_].key == "abcdefghi"[id_]
        catalog.add(items("j"), [0])
        plain(path, "UPDATE items SET label = 'x' WHERE key = 'j'")
        for read in (list, lambda catalog: catalog.items([9])):
            with pytest.raises(StoreCorruptError, match="the row of item 9"):
                read(catalog)
    plain(path, f"UPDATE items SET label = 'x' WHERE id = {id_}")  # noqa: S608  # a number
    with (
        closing(Catalog(path, writable=False)) as catalog,
        pytest.raises(StoreCorruptError, match=f"the row of item {id_}"),
    ):
        list(catalog)


def test_a_row_is_compared_once_unless_another_process_has_added_it(tmp_path, monkeypatch):
    path, compared, is_sound = tmp_path / "c.sqlite", [], module.is_sound
    monkeypatch.setattr(module, "is_sound", lambda row: compared.append(row[0]) or is_sound(row))
    with closing(Catalog(path)) as catalog:
        catalog.add(items("a", "b", "c"), [0] * 3)
        for _ in range(2):
            catalog.items([1])
            assert compared == [1]
        catalog.items([0, 1])
        assert compared == [1, 0]
        assert list(catalog) == ["a", "b", "c"]  # SQLite compares what it reads here
        catalog.add(items("d"), [0])
        for _ in range(2):
            catalog.items([0, 1, 2, 3])
            assert compared == [1, 0, 3]
        with closing(Catalog(path)) as other:
            other.add([Item("e", sha256=b"e")], [0])
        for _ in range(2):
            assert catalog.by_sha256(b"e") == (4, Item("e", sha256=b"e"))
        assert compared == [1, 0, 3, 4, 4]
    with closing(Catalog()) as catalog:  # nothing else writes to memory
        catalog.add(items("a"), [0])
        assert catalog.items(catalog.require(["a"])) == {0: Item("a")}
    assert compared == [1, 0, 3, 4, 4]


def test_two_rows_with_one_key_are_not_copied(tmp_path):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add(items("a", "b", "c"), [0] * 3)
        catalog.remove([0])
        plain(path, "DROP INDEX items_key")
        catalog.add(items("b"), [0])
        with pytest.raises(
            StoreCorruptError, match="expected rows with one key each, found UNIQUE"
        ):
            catalog.without_removed(None)


def test_in_a_forked_child_the_next_query_connects_again(tmp_path, monkeypatch):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add(items("a"), [0])
        parent, seen = catalog._connection, catalog.version
        with monkeypatch.context() as patch:
            patch.setattr(module.os, "getpid", lambda: -1)
            catalog.renew()
            catalog.renew()  # of a child of it, before it reads
            assert list(catalog) == ["a"]
            assert catalog.version != seen
            with pytest.raises(StoreForkedError, match="from which this one, -1, was forked"):
                catalog.replace(0, Item("b"))
            catalog._connection.close()
            catalog._connection = None
            path.rename(tmp_path / "aside")
            Catalog(path).close()
            with pytest.raises(StoreNotFoundError, match="another gallery has replaced"):
                list(catalog)
            if Path("/proc/self/fd").is_dir():
                assert opened_below(tmp_path) == ["aside"]  # by the parent
        assert parent.execute("SELECT key FROM items").fetchall() == [("a",)]
        parent.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells no open files")
@pytest.mark.parametrize(
    "damage", ["CREATE TABLE more (x)", "DELETE FROM counts", "UPDATE counts SET live = 9"]
)
@pytest.mark.parametrize("writable", [True, False])
def test_a_file_that_is_refused_is_closed(tmp_path, damage, writable):
    path = tmp_path / "c.sqlite"
    Catalog(path).close()
    plain(path, damage)
    with pytest.raises(StoreCorruptError) as caught:  # keeps what was local
        Catalog(path, writable=writable)
    assert opened_below(tmp_path) == []
    assert path.name in str(caught.value)


def test_who_only_reads_from_now_on_has_closed_what_was_for_writing(tmp_path, monkeypatch):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add(items("a"), [0])
        catalog.retire(catalog.reader())
        if Path("/proc/self/fd").is_dir():
            assert opened_below(tmp_path) == ["c.sqlite"]
        for process in (os.getpid(), -1):  # a child is told the same
            monkeypatch.setattr(module.os, "getpid", lambda process=process: process)
            with pytest.raises(StoreReadOnlyError):
                catalog.add(items("b"), [0])
        monkeypatch.undo()
        assert list(catalog) == ["a"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells no open files")
def test_what_is_closed_or_dropped_has_no_file_open(tmp_path):
    gc.disable()
    try:
        catalog = Catalog(tmp_path / "c.sqlite")
        assert opened_below(tmp_path) == ["c.sqlite"]
        catalog.close()
        assert opened_below(tmp_path) == []
        catalog = Catalog(tmp_path / "c.sqlite")
        del catalog
        assert opened_below(tmp_path) == []
    finally:
        gc.enable()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells no open files")
@pytest.mark.parametrize("removed", [[], [0]])
def test_a_copy_that_fails_is_closed(tmp_path, removed):
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add(items("a", "b"), [0, 0])
        catalog.remove(removed)
        plain(path, "UPDATE items SET label = 'z' WHERE key = 'b'")
        with pytest.raises(StoreCorruptError) as caught:
            catalog.without_removed(tmp_path / "copy.sqlite")
        assert opened_below(tmp_path) == ["c.sqlite"]
    assert "the row of item 1" in str(caught.value)


def opened_below(folder):
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            links.append(link.readlink())
    return sorted(link.name for link in links if link.is_relative_to(folder))


def in_child(work):
    """Run it in a forked child, which must end well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork beside threads
        process = os.fork()
    if not process:
        try:
            work()
        except BaseException:  # noqa: BLE001  # that the parent is told of
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_reads_what_its_parent_does(catalog):
    def read():
        assert list(catalog) == ["a", "b"]
        assert catalog.items([1]) == {1: Item("b")}

    catalog.add(items("a", "b"), [0, 0])
    in_child(read)
    in_child(lambda: in_child(read))
    catalog.replace(0, Item("c"))
    assert list(catalog) == ["c", "b"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_of_a_reader_cannot_write_either(tmp_path):
    def write():
        with pytest.raises(StoreReadOnlyError):
            reader.add(items("b"), [0])
        assert list(reader) == ["a"]
        assert reader.version != seen  # nothing tells whether it changed in between

    with closing(Catalog(tmp_path / "c.sqlite")) as catalog:
        catalog.add(items("a"), [0])
    with closing(Catalog(tmp_path / "c.sqlite", writable=False)) as reader:
        seen = reader.version
        in_child(write)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_leaves_a_transaction_of_its_parent_alone(tmp_path):
    """SQLite rolls back what is open on a connection that is closed, also where it was copied."""
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog:
        catalog.add([Item(f"{n}", label="x" * 200) for n in range(300)], [0] * 300)
        with catalog._change():
            catalog._db.execute("PRAGMA cache_size = 1")  # so that pages go to the file early
            catalog._db.execute("UPDATE items SET crc = 7")
            in_child(lambda: (catalog.close(), gc.collect()))
    with closing(Catalog(path, writable=False)) as catalog:
        assert catalog.checksums(np.arange(300)) == [7] * 300
        assert catalog.check_structure() == []


def test_a_closed_catalog_says_so(catalog):
    catalog.close()
    catalog.close()
    for use in (list, lambda it: it.add([], []), lambda it: it.matching({"key": "a"})):
        with pytest.raises(StoreClosedError, match="closed; open it again with"):
            use(catalog)


def test_a_file_that_another_program_keeps_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "c.sqlite"
    with closing(Catalog(path)) as catalog, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreLockedError, match="kept it locked for 0 s; try again"):
            catalog.add(items("a"), [0])
        other.execute("ROLLBACK")
        assert catalog.add(items("a"), [0]) == range(1)


def test_an_upgrade_that_fails_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "c.sqlite"
    path.write_bytes((DATA / "galleries" / "v1.imgret" / "catalog.sqlite").read_bytes())
    before = plain(path, "SELECT sql FROM sqlite_schema")

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database, "sum_rows", fail)
        with pytest.raises(KeyboardInterrupt):
            Catalog(path)
    assert plain(path, "PRAGMA user_version") == [(1,)]
    assert plain(path, "SELECT sql FROM sqlite_schema") == before
    Catalog(path).close()
    assert plain(path, "PRAGMA user_version") == [(4,)]


def test_what_is_in_memory_can_be_rolled_back_after_it_was_copied(catalog):
    catalog.add(items("a", "b"), [0, 0])
    catalog.remove([0])
    with closing(catalog.without_removed(None).catalog) as copy:
        with pytest.raises(DuplicateKeyError):
            copy.add(items("c", "b"), [0, 0])
        assert list(copy) == ["b"]
        assert copy.add(items("c"), [0]) == range(1, 2)


def test_a_key_that_is_given_again_with_what_it_replaces(catalog):
    catalog.add(items("a", "b"), [0, 0])
    catalog.add(items("b", "c"), [0, 0], replaced=[1])
    for keys, replaced, taken in ((["d", "a", "a"], [0], "a"), (["a", "b", "c"], [0, 2], "c")):
        with pytest.raises(DuplicateKeyError, match=f"found '{taken}'"):
            catalog.add(items(*keys), [0] * len(keys), replaced=replaced)
    with pytest.raises(DuplicateKeyError, match="found 'b'"):
        catalog.replace_all({0: Item("z"), 3: Item("b")})
    catalog.replace_all({0: Item("z"), 3: Item("a")})
    assert list(catalog) == ["z", "b", "a"]


def test_fields_with_an_index_are_told_and_taken_along(tmp_path):
    with closing(Catalog(tmp_path / "c.sqlite")) as catalog:
        catalog.add([Item(key, metadata={"year": 1, "who: by": 2}) for key in "abc"], [0] * 3)
        for name in ("year", "key", "label", "who: by", "INDEX of INDEX", "year"):
            catalog.create_filter_index(name)
        fields = ["year", "who: by", "INDEX of INDEX"]
        assert catalog.filter_fields() == fields
        catalog.remove([0])
        with closing(catalog.without_removed(None).catalog) as copy:
            assert copy.filter_fields() == fields


def test_a_copy_has_the_vectors_checksums_and_the_changes_of_its_items(catalog):
    catalog.add(items("a", "b", "c"), [5, 6, 7])
    catalog.remove([1])
    copied = catalog.without_removed(None)
    assert (copied.ids.tolist(), copied.dropped) == ([0, 2], 1)
    with closing(copied.catalog) as copy:
        assert copy.checksums(np.array([0, 1])) == copy.checksums_of(np.array([0, 1])) == [5, 7]
        assert (copy.rows, copy.live, copy.changes) == (2, 2, 2)
    with pytest.raises(StoreCorruptError, match="the row of item 9, and found none"):
        catalog.checksums_of(np.array([0, 9]))
    with pytest.raises(StoreCorruptError, match="the row of item 8, and found none"):
        catalog.items([9, 0, 8])


def refuse(path, *, brief):
    assert brief
    raise PermissionError(13, "Permission denied", str(path))


def test_writer_killed_in_a_commit(tmp_path, kit, monkeypatch):
    path = tmp_path / "c.sqlite"
    process = kit.python(
        "import os, signal; from pathlib import Path; "
        "from imgret.galleries.local.catalog import Catalog; from imgret.types import Item\n"
        "catalog = Catalog(Path(sys.argv[1]))\n"
        "catalog.add([Item('k' * 200 + str(n)) for n in range(500)], [0] * 500)\n"
        "catalog._db.execute('PRAGMA cache_size = 2')  # so that pages go to the file early\n"
        "catalog._db.execute('BEGIN IMMEDIATE')\n"
        "catalog._db.execute('UPDATE items SET label = key')\n"
        "os.kill(os.getpid(), signal.SIGKILL)",
        path,
    )
    process.communicate()
    assert path.with_name("c.sqlite-journal").stat().st_size > 0
    with monkeypatch.context() as patch:  # this user may be one who can write everywhere
        patch.setattr(database, "WriterLock", refuse)
        with pytest.raises(StoreReadOnlyError, match=r"killed during a commit.*write access"):
            Catalog(path, writable=False)
    with closing(Catalog(path, writable=False)) as reader:  # a reader can mend that
        assert len(reader) == 500
        assert {item.label for item in reader.items(range(500)).values()} == {None}


def filled(path):
    with closing(Catalog(path)) as catalog:
        catalog.add([Item("k" * 200 + str(n)) for n in range(300)], [0] * 300)
    return path


def leave_a_journal(path):
    """Leave a commit half done, as a writer does that is killed."""

    def change():
        catalog = Catalog(path)
        db = catalog._db
        db.execute("PRAGMA cache_size = 1")  # so that pages go to the file early
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE items SET label = 'half'")
        os._exit(0)

    in_child(change)
    journal = path.with_name(f"{path.name}-journal")
    assert journal.stat().st_size > 0
    return journal


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_reader_waits_for_who_rolls_back_already(tmp_path, monkeypatch):
    leave_a_journal(filled(tmp_path / "c.sqlite"))
    lock, waits = WriterLock(tmp_path / "lock"), []
    clock = SimpleNamespace(
        monotonic=time.monotonic, sleep=lambda seconds: waits.append(seconds) or lock.release()
    )
    monkeypatch.setattr(database, "time", clock)
    monkeypatch.setattr(database, "_BUSY_SECONDS", 3.0)
    with closing(Catalog(tmp_path / "c.sqlite", writable=False)) as reader:
        assert reader.label_count() == 0
        assert len(reader) == 300
    assert waits
    WriterLock(tmp_path / "lock").release()  # nobody holds it


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_commit_is_rolled_back_before_what_may_be_damaged_is_read(tmp_path):
    path = filled(tmp_path / "c.sqlite")
    leave_a_journal(path)
    with closing(database.at_any_rate(path)) as db:
        assert db.execute("SELECT count(label), count(*) FROM items").fetchone() == (0, 300)


def test_only_tables_that_are_described_wrongly_are_described_again(tmp_path):
    path, copy = tmp_path / "c.sqlite", tmp_path / "copy.sqlite"
    Catalog(path).close()
    assert database.legible(path, copy) == path
    path.write_bytes(path.read_bytes().replace(b"TABLE counts (rows", b"TABLE counts (rowz"))
    before = path.read_bytes()
    assert database.legible(path, copy) == copy
    assert plain(copy, "SELECT rows FROM counts") == [(0,)]
    assert path.read_bytes() == before
    path.write_bytes(b"no database" * 99)
    assert database.legible(path, copy) == path


def test_what_is_no_database_is_read_at_no_rate(tmp_path):
    (tmp_path / "c.sqlite").write_bytes(b"no database" * 99)
    with pytest.raises(sqlite3.DatabaseError, match="not a database") as caught:
        database.at_any_rate(tmp_path / "c.sqlite")
    if Path("/proc/self/fd").is_dir():
        assert opened_below(tmp_path) == []
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_NOTADB


@pytest.mark.parametrize("path", [None, Path("c.sqlite")])
def test_only_a_journal_is_a_reason_to_read_again(path):
    tried = []

    def read():
        tried.append(1)
        raise sqlite3.OperationalError("no such table")

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        database.patiently(read, path)
    assert tried == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_catalog_behind_a_link_is_not_rolled_back(tmp_path):
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "c.sqlite"
    leave_a_journal(filled(file))
    half = file.read_bytes()
    (tmp_path / "c.sqlite").symlink_to(file)
    with pytest.raises(StoreCorruptError, match="found a link to"):
        Catalog(tmp_path / "c.sqlite", writable=False)
    assert file.read_bytes() == half


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_journal_that_names_another_one_is_not_rolled_back_later_either(tmp_path):
    path, mine = filled(tmp_path / "c.sqlite"), tmp_path / "mine-journal"
    with closing(Catalog(path, writable=False)) as reader:
        journal = leave_a_journal(path)
        mine.write_text("mine")
        name = str(mine).encode()
        end = len(name).to_bytes(4, "big") + sum(name).to_bytes(4, "big")
        with journal.open("ab") as file:
            file.write(b"\0\0\0\1" + name + end + bytes.fromhex("d9d505f920a163d7"))
        with pytest.raises(StoreCorruptError, match="names another file"):
            list(reader)
    assert mine.read_text() == "mine"


def test_every_error_is_ours(catalog):
    assert issubclass(DuplicateKeyError, ImgretError)
    with pytest.raises(ValueError, match="each once"):
        catalog.add(items("a", "a"), [0, 0])


def test_origins_are_those_of_the_live_items():
    with closing(Catalog()) as catalog:
        catalog.add([Item("a", "/a", b"1" * 32, label="x"), Item("b"), Item("c")], [1, 2, 3])
        catalog.remove([2])
        assert list(catalog.origins()) == [(0, "/a", b"1" * 32, "x"), (1, None, None, None)]


@pytest.mark.skipif(sys.platform == "win32", reason="other paths")
@pytest.mark.parametrize(
    ("paths", "folder"),
    [
        ([], None),
        (["/a/b/c.jpg"], "/a/b"),
        (["/a/b/c.jpg", None, "/a/b2/c.jpg", "/a/b/d/e.jpg"], "/a"),
        (["/a/b/c.jpg", "/a/b/../../etc/d.jpg"], None),
        (["/a/b/c.jpg", "s3://bucket/c.jpg"], None),
        (["http://a/c.jpg", "/a/b/c.jpg", "x/c.jpg"], None),
        (["b/c.jpg", "/a/b/c.jpg"], None),
        (["b/c.jpg", "b/d/e.jpg"], "b"),
    ],
)
def test_the_folder_of_all_images(paths, folder):
    with closing(Catalog()) as catalog:
        catalog.add([Item(str(n), path=path) for n, path in enumerate(paths)], [0] * len(paths))
        catalog.add([Item("removed", path="/z/z.jpg")], [0])
        catalog.remove(catalog.require(["removed"]))
        assert catalog.common_folder() == folder
