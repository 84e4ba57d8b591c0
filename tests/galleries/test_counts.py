"""The counts of a catalog are believed only where the items say the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from imgret.errors import ImgretError, StoreCorruptError
from imgret.galleries.local.store import Store
from imgret.types import Item

N, REMOVED = 300, 3


@pytest.fixture
def path(tmp_path, manifest, kit):
    path = tmp_path / "g.imgret"
    with closing(Store.create(path, manifest)) as store:
        store.add(kit.vectors_of(*range(N)), [Item(f"k{n}") for n in range(N)])
        store.remove(range(REMOVED))
    return path


def where_the_counts_are(file):
    """Page of the table: where it begins, and where its only record does."""
    with closing(sqlite3.connect(file)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'counts'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    start = (page - 1) * size
    return start, start + int.from_bytes(file.read_bytes()[start + 8 :][:2], "big"), start + size


@pytest.mark.slow
def test_no_flipped_bit_of_the_counts_costs_a_vector(path, kit):
    file, vectors = path / "catalog.sqlite", (path / "vectors.f16").read_bytes()
    whole = file.read_bytes()
    page, record, end = where_the_counts_are(file)
    assert 8 < end - record < 20
    refused = 0
    for place in (*range(page, page + 10), *range(record, end)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            file.write_bytes(damaged)
            for writable in (False, True):
                try:
                    with closing(Store.open(path, writable=writable)) as store:
                        assert len(store.catalog) == N - REMOVED, (place, bit)
                        assert store.catalog.rows == N
                except ImgretError:  # and nothing else
                    refused += 1
            assert (path / "vectors.f16").read_bytes() == vectors, (place, bit)
    assert refused > 100
    file.write_bytes(whole)
    with closing(Store.open(path, writable=True)) as store:
        assert kit.content_of(store) == kit.expected_of(*range(REMOVED, N))


@pytest.mark.parametrize(
    "change",
    [
        *("rows = 44", "rows = 556", "rows = 0", "live = 44", "live = 300", "live = -1"),
        *("changes = 1", f"changes = {2**62}"),
    ],
)
def test_counts_that_do_not_agree_with_the_items(path, change):
    with closing(sqlite3.connect(path / "catalog.sqlite")) as db:
        db.execute(f"UPDATE counts SET {change}")  # noqa: S608  # from above
        db.commit()
    for use in (lambda: Store.open(path, writable=True), lambda: Store.load(path)):
        with pytest.raises(StoreCorruptError, match="300 rows, 3 of them removed up to change 2"):
            use()
    assert (path / "vectors.f16").stat().st_size == N * 12


def test_counts_that_are_damaged_while_it_is_open(path, kit):
    """The next change would cut the vectors to what they say."""
    with closing(Store.open(path, writable=True)) as store:
        with closing(sqlite3.connect(path / "catalog.sqlite")) as db:
            db.execute("UPDATE counts SET rows = 44")
            db.commit()
        with pytest.raises(StoreCorruptError, match="counts that agree with the items"):
            kit.add(store, 1000)
    assert (path / "vectors.f16").stat().st_size == N * 12


def test_any_number_of_changes_that_can_be_is_believed(path):
    with closing(sqlite3.connect(path / "catalog.sqlite")) as db:
        db.execute(f"UPDATE counts SET changes = {2**62 - 1}")  # noqa: S608  # a number
        db.commit()
    with closing(Store.open(path, writable=False)) as store:
        assert store.catalog.changes == 2**62 - 1


def test_a_table_of_counts_has_one_row(path):
    for statement, found in (
        ("INSERT INTO counts VALUES (300, 297, 2)", 2),
        ("DELETE FROM counts", 0),
    ):
        with closing(sqlite3.connect(path / "catalog.sqlite")) as db:
            db.execute(statement)
            db.commit()
        with pytest.raises(StoreCorruptError, match=f"one row of counts, found {found}"):
            Store.open(path, writable=False)
