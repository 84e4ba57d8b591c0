"""What is left of removed items goes: from the gallery when it is compacted, from every copy."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import StoreCorruptError, StoreLockedError, StoreReadOnlyError
from imgret.galleries.local import gallery as gallery_module
from imgret.galleries.local.check import check_directory
from imgret.galleries.local.store import Store, discard_if_empty
from imgret.indexes import HNSWIndex
from imgret.search import StaleViewError
from imgret.testing.data import Given
from imgret.types import Item

N, DIM = 40, 4


def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float16).astype(np.float32)


def fill(retriever: Retriever) -> Retriever:
    retriever.add_vectors(
        vectors(),
        keys=[f"{'secret' if n % 4 else 'kept'}-{n}" for n in range(N)],
        labels=[f"{'secret' if n % 4 else 'kept'} label" for n in range(N)],
        metadata=[{"note": f"{'secret' * 900 if n % 4 else 'kept'}"} for n in range(N)],
    )
    retriever.create_filter_index("note")
    retriever.project("pca", dim=3)
    retriever.calibrate()
    retriever.remove([key for key in retriever if key.startswith("secret")])
    return retriever


def content(retriever: Retriever) -> dict[str, tuple]:
    return {key: (retriever[key], retriever.embeddings([key]).tolist()) for key in retriever}


def left_in(path: Path) -> list[str]:
    """Return the files of a gallery in which something of a removed item can be read."""
    secret = [row.astype(np.float16).tobytes() for n, row in enumerate(vectors()) if n % 4]
    return [
        file.name
        for file in path.rglob("*")
        if file.is_file()
        and (b"secret" in (data := file.read_bytes()) or any(row in data for row in secret))
    ]


@pytest.fixture
def gallery(tmp_path):
    path = tmp_path / "g.imgret"
    fill(Retriever.open(path, "a", embedder=Given(DIM), index="hnsw")).close()
    return path


def test_nothing_of_removed_items_is_left(gallery):
    assert left_in(gallery)
    with Retriever.open(gallery, embedder=Given(DIM)) as reader:
        with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
            before, hits = content(retriever), retriever.search_vectors(vectors()[:1], k=3)[0]
            earlier = [(hit.key, hit.score) for hit in hits]
            assert retriever.compact() == N - N // 4
            assert retriever.compact() == 0
            assert content(retriever) == before
            again = retriever.search_vectors(vectors()[:1], k=3)[0]
            assert [(hit.key, hit.score) for hit in again] == earlier
            assert retriever.calibration is not None
            retriever.add_vectors(vectors()[:1] + 1, keys=["new"])
            assert len(retriever.view({"note": "kept"})) == N // 4
            with pytest.raises(StoreLockedError):  # it is still the writer, and the only one
                Retriever.open(gallery, "r+", embedder=Given(DIM))
        assert content(reader) == before  # the files it has open stay
    assert left_in(gallery) == []
    assert (gallery / "index").exists()
    assert (gallery / "vectors.f16").stat().st_size == (N // 4 + 1) * DIM * 2
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db:
        assert db.execute("SELECT * FROM counts").fetchone()[:2] == (N // 4 + 1, N // 4 + 1)
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
        assert "filter:note" in names


@pytest.mark.parametrize("opened", ["r", "loaded"])
def test_nothing_of_removed_items_is_copied(gallery, tmp_path, opened):
    copy = tmp_path / "copy.imgret"
    how = {"r": Retriever.open, "loaded": Retriever.load}[opened]
    with how(gallery, embedder=Given(DIM)) as retriever:
        before = content(retriever)
        retriever.save(copy)
    assert left_in(copy) == []
    with Retriever.open(copy, "r+", embedder=Given(DIM)) as retriever:
        assert content(retriever) == before
        assert retriever.check().ok
        retriever.add_vectors(vectors()[1:2], keys=["removed"])


def test_in_memory():
    retriever = fill(Retriever(embedder=Given(DIM), index="hnsw"))
    before = content(retriever)
    assert retriever.compact() == N - N // 4
    assert content(retriever) == before
    assert retriever.projection.dim_out == 3
    assert len(retriever.search_vectors(vectors()[:1], k=99)[0]) == N // 4


def test_who_may_not(gallery, tmp_path):
    with (
        Retriever.open(gallery, embedder=Given(DIM)) as reader,
        pytest.raises(StoreReadOnlyError, match=r"mode='r\+'"),
    ):
        reader.compact()
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute("UPDATE items SET label = 'x' WHERE id = 0")
    before = Path(shutil.copytree(gallery, tmp_path / "before"))
    with (
        Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever,
        pytest.raises(
            StoreCorruptError, match="the row of item 0 as it was committed.*imgret check"
        ),
    ):
        retriever.compact()
    for name in ("catalog.sqlite", "vectors.f16"):
        assert (gallery / name).read_bytes() == (before / name).read_bytes()


# -- by itself -------------------------------------------------------------------------------------


def many(n, seed=1):
    return np.random.default_rng(seed).standard_normal((n, 8)).astype(np.float16).astype(np.float32)


def best(vectors_, keys, query):
    """Return the three items of the highest cosine."""
    rows = vectors_ / np.linalg.norm(vectors_, axis=1, keepdims=True)
    return [keys[n] for n in np.argsort(-(rows @ query), kind="stable")[:3]]


INDEXES = {"flat": {}, "hnsw": {}, "ivf": {"nlist": 4, "nprobe": 4}, "hnsw-sq8": {}}


@pytest.mark.parametrize("index", INDEXES)
def test_rows_of_removed_items_go_by_themselves(tmp_path, monkeypatch, index):
    monkeypatch.setattr(gallery_module, "_FEW", 100)
    path, rows, keys = tmp_path / "g.imgret", many(210), [f"k{n}" for n in range(210)]
    with Retriever.open(path, "a", embedder=Given(8)) as retriever:
        retriever.add_vectors(rows, keys=keys)
        retriever.reindex(index, **INDEXES[index])
        with Retriever.open(path, embedder=Given(8)) as reader:
            seen = reader.search_vectors(rows[:1], k=3)[0]
            retriever.remove(keys[:105])  # half of them
            assert retriever._gallery.store.catalog.rows == 210
            held = retriever.index
            view = retriever.view()
            hits = retriever.search_vectors(rows[150:151], k=3)[0]
            retriever.remove(keys[105])
            catalog = retriever._gallery.store.catalog
            assert (catalog.rows, len(retriever)) == (104, 104)
            assert retriever.index is held  # nothing was built again
            assert (path / "index").exists() == (index != "flat")
            query = rows[150] / np.linalg.norm(rows[150])
            expected = best(rows[106:], keys[106:], query)
            assert [hit.key for hit in hits] == expected
            assert [h.key for h in retriever.search_vectors(rows[150:151], k=3)[0]] == expected
            (filtered,) = retriever.search_vectors(rows[150:151], k=3, where={"key": keys[106]})
            assert [hit.key for hit in filtered] == [keys[106]]
            # What was taken before can still be looked at, though not searched.
            assert next(view.items(np.array([106]))).key == keys[106]
            with pytest.raises(StaleViewError):
                view.search(view.project(rows[:1]), 1)
            retriever.add_vectors(rows[:5] + 1, keys=[f"new{n}" for n in range(5)])
            assert reader.search_vectors(rows[:1], k=3)[0].to_dict() == seen.to_dict()
            assert len(reader) == len(list(reader)) == 210
        assert retriever.check().ok
    assert (path / "vectors.f16").stat().st_size == 109 * 8 * 2
    with warnings.catch_warnings(), Retriever.open(path, embedder=Given(8)) as reader:
        warnings.simplefilter("error")  # the stored index is read
        assert [h.key for h in reader.search_vectors(rows[150:151], k=3)[0]] == expected
    assert Retriever.open(path, embedder=Given(8)).check().ok


@pytest.mark.parametrize("how", ["save", "reindex", "close", "no"])
def test_what_is_due_is_done_by_the_next_change(tmp_path, monkeypatch, how):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(8)) as retriever:
        retriever.add_vectors(many(9), keys=[f"k{n}" for n in range(9)])
        retriever.remove([f"k{n}" for n in range(5)])
        monkeypatch.setattr(gallery_module, "_FEW", 6 if how == "no" else 5)
        {
            "save": lambda: retriever.save(path),
            "reindex": lambda: retriever.reindex("hnsw"),
        }.get(how, lambda: None)()
        rows = retriever._gallery.store.catalog.rows
        assert rows == (9 if how in {"close", "no"} else 4)
    with Retriever.open(path, embedder=Given(8)) as retriever:
        assert retriever._gallery.store.catalog.rows == (9 if how == "no" else 4)


def test_removing_one_by_one_writes_few_times(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery_module, "_FEW", 10)
    times, without_removed = [], Store.without_removed
    monkeypatch.setattr(
        Store, "without_removed", lambda *given: times.append(1) or without_removed(*given)
    )
    retriever = Retriever(embedder=Given(8))
    keys = [f"k{n}" for n in range(320)]
    retriever.add_vectors(many(320), keys=keys)
    for n in range(310):
        retriever.remove(keys[n])
    assert len(times) == 4  # with 159, 79, 39 and 19 left
    for n in range(100):  # of 10 live items, each is replaced ten times
        retriever.remove(next(iter(retriever)))
        retriever.add_vectors(many(1, n), keys=[f"n{n}"])
    assert len(times) <= 4 + 10
    assert retriever._gallery.store.catalog.rows <= 2 * 10 + 2


def test_rows_of_replaced_items_go_by_themselves(monkeypatch):
    monkeypatch.setattr(gallery_module, "_FEW", 5)
    gallery = Retriever(embedder=Given(8))._gallery
    gallery.add([Item("a")], many(1))
    for n in range(30):
        gallery.add([Item("a")], many(1, n), replacing=["a"])
    assert gallery.store.catalog.rows <= 6
    assert np.array_equal(gallery.embeddings(["a"]), many(1, 29))


@pytest.mark.parametrize("searched", [True, False])
def test_the_stored_index_is_taken_along(tmp_path, monkeypatch, searched):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(8), index="hnsw") as retriever:
        retriever.add_vectors(many(30), keys=[f"k{n}" for n in range(30)])
        retriever.remove("k3")
    monkeypatch.setattr(HNSWIndex, "_add", None)  # none is built
    with Retriever.open(path, "r+", embedder=Given(8)) as retriever:
        if searched:
            retriever.search_vectors(many(1), k=1)
        assert retriever.compact() == 1
        assert retriever.search_vectors(many(30)[9:10], k=1)[0][0].key == "k9"


def test_a_failed_try_leaves_the_change(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(gallery_module, "_FEW", 5)
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(8)) as retriever:
        keys = [f"k{n}" for n in range(30)]
        retriever.add_vectors(many(30), keys=keys, labels=["x"] * 30)
        retriever.remove(keys[:15])
        with closing(sqlite3.connect(path / "catalog.sqlite")) as db, db:
            db.execute("UPDATE items SET label = 'y' WHERE id = 20")
        assert retriever.remove(keys[15]) == 1
        assert "what is left of 16 removed items stays" in caplog.text
        assert len(retriever) == 14
        with Retriever.open(path, embedder=Given(8)) as reader, pytest.raises(StoreCorruptError):
            list(reader)
    assert check_directory(path, repair=True).ok is False
    assert len(Retriever.load(path, embedder=Given(8))) == 13


def test_after_a_failed_try_the_next_one_waits_for_twice_as_many(monkeypatch):
    monkeypatch.setattr(gallery_module, "_FEW", 5)
    tries, keys = [], [f"k{n}" for n in range(40)]
    retriever = Retriever(embedder=Given(8))
    retriever.add_vectors(many(40), keys=keys)
    gallery = retriever._gallery

    def fail():
        tries.append(gallery.store.catalog.rows - len(gallery))
        raise StoreCorruptError("damaged")

    monkeypatch.setattr(gallery, "_drop_removed", fail)
    for n in range(39):
        retriever.remove(keys[n])
    retriever.add_vectors(many(3), keys=list("abc"))
    for key in "abc":
        assert tries == [21]
        retriever.remove(key)
    assert tries == [21, 42]


def test_searches_of_other_threads_go_on(monkeypatch):
    monkeypatch.setattr(gallery_module, "_FEW", 5)
    rows, stop, faults = many(250), threading.Event(), []
    keys = [f"k{n}" for n in range(250)]
    retriever = Retriever(embedder=Given(8), index="hnsw")
    retriever.add_vectors(rows, keys=keys, metadata=[{"n": n} for n in range(250)])

    def search(seed):
        chance = np.random.default_rng(seed)
        while not stop.is_set():
            n = int(chance.integers(150, 250))
            where = {"n": {"$gte": 150}} if n % 2 else None
            try:
                (hits,) = retriever.search_vectors(rows[n : n + 1], k=1, where=where)
                if hits[0].key != keys[n]:
                    faults.append((n, hits[0].key))
            except Exception as error:  # noqa: BLE001  # a fault like the others
                faults.append(repr(error))

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for n in range(150):
        retriever.remove(keys[n])
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults, faults[:3]


@pytest.mark.parametrize("how", ["compact", "repair", "save", "emptied"])
def test_keys_made_from_numbers_are_never_used_again(tmp_path, monkeypatch, how):
    monkeypatch.setattr(gallery_module, "_FEW", 2)
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(8)) as retriever:
        retriever.add_vectors(many(6), keys=retriever._gallery.unused_keys(6))
        given = list(retriever)
        retriever.remove(given[3:] if how != "emptied" else given)
        if how == "compact":
            assert retriever.compact() == 3
    if how == "repair":
        with closing(sqlite3.connect(path / "catalog.sqlite")) as db, db:
            db.execute("UPDATE items SET label = 'y' WHERE id = 0")
        assert check_directory(path, repair=True).repaired
    if how == "save":
        Retriever.load(path, embedder=Given(8)).save(tmp_path / "copy.imgret")
        path = tmp_path / "copy.imgret"
    with Retriever.open(path, "r+", embedder=Given(8)) as retriever:
        if how == "emptied":
            assert retriever._gallery.store.catalog.rows == 0
        assert retriever._gallery.unused_keys(2) == ["image-000007", "image-000008"]
    assert not discard_if_empty(path)


def test_thumbnails_of_removed_items_go(gallery, tmp_path):
    folder = tmp_path / ".g.imgret.thumbnails" / "ab"
    folder.mkdir(parents=True)
    for name in ("0" * 38 + ".jpg", ".abc.part", "mine.jpg"):
        (folder / name).write_bytes(b"x")
    with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
        retriever.compact()
    assert [each.name for each in folder.iterdir()] == ["mine.jpg"]


def test_a_repair_leaves_nothing_of_removed_items(gallery):
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute("UPDATE items SET label = 'x' WHERE key = 'kept-0'")
    assert check_directory(gallery, repair=True).repaired
    assert left_in(gallery) == []


def test_a_reader_of_the_old_files_never_writes(gallery, tmp_path):
    """SQLite takes the journal of the gallery in their place for one of theirs."""
    with Retriever.open(gallery, embedder=Given(DIM)) as reader:
        before = content(reader)
        with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
            retriever.compact()
            db = retriever._gallery.store.catalog._db
            db.execute("PRAGMA cache_size = 2")  # so that pages go to the file early
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE items SET label = hex(zeroblob(100000))")
            journal = gallery / "catalog.sqlite-journal"
            assert journal.read_bytes()[:8] == bytes.fromhex("d9d505f920a163d7")
            undo = threading.Timer(0.3, lambda: db.execute("ROLLBACK"))
            undo.start()
            assert content(reader) == before  # waits
            undo.join()
            assert retriever.check().ok
        assert content(reader) == before


def test_a_copy_of_the_index_is_numbered_again(tmp_path):
    path, rows, keys = tmp_path / "g.imgret", many(300), [f"k{n}" for n in range(300)]
    retriever = Retriever(embedder=Given(8))
    retriever.add_vectors(rows, keys=keys)
    retriever.reindex("ivf", nlist=4, nprobe=4)
    retriever.remove(keys[50:60])
    expected = [hit.key for hit in retriever.search_vectors(rows[70:71], k=5)[0]]
    retriever.save(path)
    assert np.array_equal(np.load(path / "index" / "state" / "ids.npy"), np.arange(290))
    with Retriever.open(path, "r+", embedder=Given(8)) as copy:
        assert [hit.key for hit in copy.search_vectors(rows[70:71], k=5)[0]] == expected
        assert copy.check().ok
        copy.remove(keys[70])
        assert [hit.key for hit in copy.search_vectors(rows[70:71], k=4)[0]] == expected[1:]
