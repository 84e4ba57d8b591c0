"""A gallery in memory and on disk: items, damage, and what it is made of."""

import os
import shutil
import sys
import zlib
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from imgret.errors import (
    DimensionError,
    DuplicateKeyError,
    InvalidInputError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreExistsError,
    StoreForkedError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreVersionError,
)
from imgret.galleries.local import row_checks
from imgret.galleries.local import store as module
from imgret.galleries.local.checkpoint import Checkpoint, read_checksums
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.store import Store
from imgret.projections import IdentityProjection, LinearProjection
from imgret.types import Item, Part


@pytest.fixture
def path(tmp_path):
    return tmp_path / "g.imgret"


@pytest.fixture(params=["memory", "disk"])
def store(request, path, manifest):
    made = Store.in_memory(manifest) if request.param == "memory" else Store.create(path, manifest)
    with closing(made):
        yield made


@pytest.fixture
def saved(path, manifest, kit):
    """A gallery on disk of k0 to k4, of which k3 was removed."""
    with closing(Store.create(path, manifest)) as store:
        kit.add(store, 0, 1, 2, 3)
        store.remove([3])
        kit.add(store, 4)
    return path


def test_add_remove_read(store, kit):
    assert kit.add(store, 1, 2) == range(2)
    assert kit.add(store, 3) == range(2, 3)
    store.remove([0])
    assert kit.content_of(store) == kit.expected_of(2, 3)
    assert np.array_equal(store.read(np.array([2, 1])), kit.vectors_of(3, 2))


def test_replacing_is_one_step(store, kit):
    kit.add(store, 1, 2)
    store.add(kit.vectors_of(9), [Item("k1", label="new")], replaced=[0])
    assert kit.content_of(store)["k1"] == ("new", *kit.vectors_of(9)[0].tolist())
    assert len(store.catalog) == 2


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda v, i: (v[:, :-1], i), DimensionError),
        (lambda v, i: (v[:1], i), InvalidInputError),
        (lambda v, i: (v * 1e6, i), InvalidInputError),
        (lambda v, i: (v, [i[0], i[0]]), DuplicateKeyError),
        (lambda v, i: (v, [i[0], Item("k1")]), DuplicateKeyError),
        (lambda v, i: (v, [i[0], Item("x", metadata={"a": float("inf")})]), InvalidInputError),
    ],
)
def test_adding_fails_whole(store, kit, change, error):
    kit.add(store, 1, 2)
    vectors, items = change(kit.vectors_of(8, 9), [Item("k8"), Item("k9")])
    with pytest.raises(error):
        store.add(vectors, items, replaced=[1])
    assert kit.content_of(store) == kit.expected_of(1, 2)
    kit.add(store, 7)  # and the rows of vectors and catalog are still in step
    assert kit.content_of(store) == kit.expected_of(1, 2, 7)


@pytest.mark.parametrize("after_commit", [False, True])
def test_interrupt_around_the_commit(store, kit, monkeypatch, after_commit):
    kit.add(store, 1)
    commit = store.catalog.add

    def interrupted(*args, **options):
        if after_commit:  # Ctrl-C while the commit waits for the disk is raised just after it
            commit(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(store.catalog, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kit.add(store, 2, 3)
    monkeypatch.undo()
    kit.add(store, 4)
    assert kit.content_of(store) == kit.expected_of(1, *((2, 3) if after_commit else ()), 4)
    if store.path is not None:
        store.close()
        with closing(Store.open(store.path, writable=False)) as again:
            assert len(kit.content_of(again)) == (4 if after_commit else 2)


def test_two_interrupts_around_a_commit(store, kit, monkeypatch):
    """Vectors that the second one keeps from being dropped are dropped by the next `add`."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    kit.add(store, 1)
    with monkeypatch.context() as patch:
        patch.setattr(store.catalog, "add", interrupted)
        patch.setattr(
            store.catalog,
            "reload_counts",
            lambda: patch.setattr(store.catalog, "reload_counts", interrupted),
        )
        with pytest.raises(KeyboardInterrupt):
            kit.add(store, 2, 3)
    kit.add(store, 4)
    assert kit.content_of(store) == kit.expected_of(1, 4)


def test_vectors_are_on_the_disk_before_their_items_are_committed(store, kit, monkeypatch):
    steps = []
    for owner, name in (
        (store._vectors, "append"),
        (store._vectors, "sync"),
        (store.catalog, "add"),
    ):
        step = getattr(owner, name)

        def noted(*args, name=name, step=step, **options):
            steps.append(name)
            return step(*args, **options)

        monkeypatch.setattr(owner, name, noted)
    kit.add(store, 1)
    assert steps == ["append", "sync", "add"]


def test_closed(store, kit):
    kit.add(store, 1)
    store.close()
    store.close()
    assert store.closed
    for use in (
        lambda: kit.add(store, 2),
        lambda: store.remove([0]),
        lambda: store.change_manifest(projection=None),
        lambda: kit.save(store, "x"),
        store.check_open,
    ):
        with pytest.raises(StoreClosedError, match=r"closed; open it again"):
            use()


# -- on disk -------------------------------------------------------------------------------------


def test_files_say_it_too(saved, kit):
    assert kit.names(saved) == [
        "catalog.sqlite",
        "lock",
        "manifest.copy.json",
        "manifest.json",
        "vectors.f16",
    ]
    rows = np.fromfile(saved / "vectors.f16", "<f2").reshape(-1, 6)
    assert np.array_equal(rows, kit.vectors_of(0, 1, 2, 3, 4))
    with closing(Store.open(saved, writable=False)) as store:
        assert store.catalog.checksums(np.arange(5)) == [zlib.crc32(row) for row in rows]


def test_open_and_load_agree(saved, manifest, kit):
    for make in (lambda p: Store.open(p, writable=False), Store.load):
        with closing(make(saved)) as store:
            assert kit.content_of(store) == kit.expected_of(0, 1, 2, 4)
            assert replace(store.manifest, created="", created_with="") == manifest
            assert (store.catalog.rows, store.catalog.changes) == (5, 3)


def test_a_loaded_gallery_lets_the_files_go(saved, kit):
    with closing(Store.load(saved)) as store:
        assert store.path is None
        shutil.rmtree(saved)
        kit.add(store, 3)
        assert kit.content_of(store) == kit.expected_of(0, 1, 2, 3, 4)


def test_open_for_reading_changes_nothing(saved, kit):
    before = {name: (saved / name).stat() for name in kit.names(saved)}
    with closing(Store.open(saved, writable=False)) as store:
        kit.content_of(store)
        for use in (
            lambda: kit.add(store, 9),
            lambda: store.remove([0]),
            lambda: store.change_manifest(metric="l2"),
            lambda: store.set_projection(IdentityProjection(store.dim)),
            lambda: store.set_projection(
                LinearProjection(np.ones((store.dim, 1)), np.zeros(store.dim), kind="pca")
            ),
            lambda: store.write_index(Checkpoint(0, 0, Part("x"), None, 0), lambda _: None),
            store.drop_index,
        ):
            with pytest.raises(StoreReadOnlyError, match=r"mode='r\+'"):
                use()
    assert {name: (saved / name).stat() for name in kit.names(saved)}.keys() == before.keys()
    for name, status in before.items():
        assert (saved / name).stat().st_mtime_ns == status.st_mtime_ns


def test_an_empty_journal_is_for_a_writer_to_delete(saved, kit):
    journal = saved / "catalog.sqlite-journal"
    journal.write_bytes(bytes(512))
    for writable in (False, True):
        with closing(Store.open(saved, writable=writable)) as store:
            assert journal.exists() is not writable
            assert kit.content_of(store) == kit.expected_of(0, 1, 2, 4)


def test_a_writer_in_a_forked_child_is_for_reading(saved, kit, monkeypatch):
    with closing(Store.open(saved, writable=True)) as store:
        parent = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: parent + 1)
        assert kit.content_of(store) == kit.expected_of(0, 1, 2, 4)
        assert not store.writable
        with pytest.raises(StoreForkedError, match=f"opened for writing by process {parent}"):
            kit.add(store, 9)
        monkeypatch.undo()
        kit.add(store, 9)
        assert kit.content_of(store) == kit.expected_of(0, 1, 2, 4, 9)


def test_paths_need_not_be_absolute(path, manifest, kit, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path  # only here

    with closing(Store.create(Path(path.name), manifest)) as store:
        kit.add(store, 1)
        monkeypatch.chdir("/")
        store.change_manifest(index=Part("flat"))
        assert store.path == path
    with closing(Store.open(path, writable=False)) as store:
        assert store.manifest.index == Part("flat")


@pytest.mark.parametrize("name", ["g#1?.imgret", "mit Raum %20", "ü", "-g", "[a]*"])
def test_names_of_directories(tmp_path, manifest, kit, name):
    path = tmp_path / "deep" / name
    with closing(Store.create(path, manifest)) as store:
        kit.add(store, 1)
        kit.save(store, path.with_name(f"{name} copy"))
    assert kit.names(path.parent) == sorted([name, f"{name} copy"])
    with closing(Store.open(path.with_name(f"{name} copy"), writable=True)) as store:
        assert kit.content_of(store) == kit.expected_of(1)


def test_create_only_where_nothing_is(tmp_path, saved, manifest, kit):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").touch()
    (tmp_path / "empty").mkdir()
    for taken, found in ((saved, "a gallery"), ("file", "something"), ("full", "something")):
        with pytest.raises(StoreExistsError, match=f"found {found}"):
            Store.create(tmp_path / taken, manifest)
    assert (tmp_path / "full" / "letter").exists()
    Store.create(tmp_path / "empty", manifest).close()
    assert kit.names(tmp_path) == ["empty", "file", "full", "g.imgret"]


def test_two_create_at_once(path, manifest, kit, monkeypatch):
    """The one that comes second must not take the first one's place."""
    from imgret.galleries.local import files  # to step in between

    put, first = files._put_in_place, []

    def late(new, target, **options):
        monkeypatch.undo()
        first.append(Store.create(path, manifest))
        kit.add(first[0], 1)
        put(new, target, **options)

    monkeypatch.setattr(files, "_put_in_place", late)
    with pytest.raises(StoreExistsError, match="another process"):
        Store.create(path, manifest)
    first[0].close()
    with closing(Store.open(path, writable=False)) as store:
        assert kit.content_of(store) == kit.expected_of(1)
    assert kit.names(path.parent) == [path.name]


def test_nothing_there(tmp_path):
    empty = tmp_path / "empty"  # with no neighbour whose name is like it
    empty.mkdir()
    for path in (empty, empty / "no", empty / "no" / "no"):
        for make in (lambda p: Store.open(p, writable=True), Store.load):
            with pytest.raises(StoreNotFoundError, match="imgret index"):
                make(path)
    assert not list(empty.iterdir())


def test_newer_manifest(saved):
    text = (saved / "manifest.json").read_text()
    (saved / "manifest.json").write_text(text.replace('"version": 2', '"version": 3'))
    for writable in (True, False):
        with pytest.raises(StoreVersionError):
            Store.open(saved, writable=writable)


# -- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["catalog.sqlite", "vectors.f16"])
def test_missing_file(saved, name):
    (saved / name).unlink()
    for make in (
        lambda p: Store.open(p, writable=True),
        lambda p: Store.open(p, writable=False),
        Store.load,
    ):
        with pytest.raises(StoreCorruptError, match=f"{name}: missing; restore"):
            make(saved)
    assert not (saved / name).exists()


def test_opening_that_fails_lets_the_lock_go(saved):
    aside = (saved / "vectors.f16").rename(saved / "aside")
    with pytest.raises(StoreCorruptError) as caught:  # whose traceback refers to the lock
        Store.open(saved, writable=True)
    aside.rename(saved / "vectors.f16")
    Store.open(saved, writable=True).close()
    assert "missing" in str(caught.value)


@pytest.mark.parametrize("bit", range(16))
def test_a_flipped_bit_names_the_item(saved, kit, bit):
    data = bytearray((saved / "vectors.f16").read_bytes())
    data[(2 * 6 + 3) * 2 + bit // 8] ^= 1 << (bit % 8)  # in the row of k2; also infinity and NaN
    (saved / "vectors.f16").write_bytes(data)
    with pytest.raises(StoreCorruptError, match=r"1 stored vectors are damaged.*'k2'; restore"):
        Store.load(saved)
    with closing(Store.open(saved, writable=False)) as store:
        assert [ids.tolist() for ids, _ in store.blocks(np.array([0, 1, 4]))] == [[0, 1, 4]]
        with pytest.raises(StoreCorruptError, match=r"g\.imgret.*'k2'"):
            list(store.blocks(store.catalog.live_ids()))


def test_the_first_three_of_many_damaged_vectors_are_named(saved):
    (saved / "vectors.f16").write_bytes(b"\1" * 60)
    where = {Store.load: f"{saved}: "}
    for make in (Store.load, lambda path: Store.open(path, writable=False)):
        with pytest.raises(StoreCorruptError) as caught, closing(make(saved)) as store:
            list(store.blocks(store.catalog.live_ids()))
        assert str(caught.value) == (
            f"{where.get(make, f'{saved}/vectors.f16: ')}4 stored vectors are damaged, the first "
            f"of 'k0', 'k1', 'k2'; restore the file from a copy, or see what `imgret check "
            f"{saved}` can save"
        )


def test_what_was_read_is_compared_once(saved, monkeypatch):
    def fail(*_):
        raise AssertionError("the catalog was asked for checksums")

    ids = np.array([0, 1, 2, 4])
    for first in (
        lambda store: list(store.blocks(ids)),
        lambda store: store.read(np.array([4, 0, 2, 1, 0])),
        lambda store: [store.read(ids[n : n + 1]) for n in range(4)],
    ):
        with closing(Store.open(saved, writable=True)) as store:
            first(store)
            with monkeypatch.context() as patch:
                patch.setattr(type(store.catalog), "checksums_of", fail)
                store.read(ids)
                with pytest.raises(AssertionError):
                    store.read(np.array([3]))
            (new,) = store.add(store.read(ids[:1]) + 1, [Item(f"new {store.catalog.rows}")])
            store.remove([new])
            with monkeypatch.context() as patch:
                patch.setattr(type(store.catalog), "checksums_of", fail)
                store.read(ids)
                with pytest.raises(AssertionError):
                    store.read(np.array([new]))


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_vectors_are_compared_in_pieces(saved, path, kit, monkeypatch, at_once):
    monkeypatch.setattr(row_checks, "_AT_ONCE", at_once)
    checkpoint = Checkpoint(5, 3, Part("hnsw"), None, 4)
    with closing(Store.open(saved, writable=True)) as store:
        store.write_index(checkpoint, lambda _: None)
        sums = np.fromfile(saved / "index" / "checksums.u32", "<u4").tolist()
        assert sums == store.catalog.checksums(np.arange(5))
        assert not store.row_checks.differ(read_checksums(saved, 5))
        assert read_checksums(saved, 4) is None  # there are none of so many
    stored = (saved / "vectors.f16").read_bytes()
    for damaged in range(5):
        data = bytearray(stored)
        data[12 * damaged] ^= 1
        (saved / "vectors.f16").write_bytes(data)
        for copied in (False, True):
            with closing(Store.open(saved, writable=False)) as store:
                if copied:
                    store.row_checks.use_copy(read_checksums(saved, 5))
                with pytest.raises(StoreCorruptError, match=f"1 stored vectors.*'k{damaged}'"):
                    store.read(np.array([4, 2, 0, 1, 3]))
                store.read(np.array([n for n in range(5) if n != damaged]))
    (saved / "index" / "checksums.u32").write_bytes(bytes(20))
    with closing(Store.open(saved, writable=False)) as store:
        assert store.row_checks.differ(read_checksums(saved, 5))


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
@pytest.mark.parametrize(("full", "limit"), [("vectors", 20_000), ("catalog", 100_000)])
def test_a_full_disk_adds_nothing(path, manifest, kit, full, limit):
    import resource  # not on Windows

    count, text = (3000, "") if full == "vectors" else (20, "x" * 20_000)
    rows = np.repeat(kit.vectors_of(5), count, axis=0)
    many = [Item(f"{n}", metadata={"text": text}) for n in range(count)]
    with closing(Store.create(path, manifest)) as store:
        kit.add(store, 1)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(StoreError) as caught:
                store.add(rows, many)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if full == "vectors":
            assert str(caught.value) == (
                f"{path}: cannot be written: [Errno 27] File too large; none of these 3000 items "
                f"was added"
            )
        assert kit.content_of(store) == kit.expected_of(1)
        kit.add(store, 2)
        assert kit.content_of(store) == kit.expected_of(1, 2)
    assert (path / "vectors.f16").stat().st_size == 24


def test_damage_of_removed_items_does_not_matter(saved, kit):
    data = bytearray((saved / "vectors.f16").read_bytes())
    data[3 * 12 : 4 * 12] = b"\xff" * 12
    (saved / "vectors.f16").write_bytes(data)
    with closing(Store.load(saved)) as store:
        assert kit.content_of(store) == kit.expected_of(0, 1, 2, 4)


def test_short_vectors(saved):
    os.truncate(saved / "vectors.f16", 59)
    for make in (
        lambda p: Store.open(p, writable=True),
        lambda p: Store.open(p, writable=False),
        Store.load,
    ):
        with pytest.raises(StoreCorruptError, match="5 rows of 6 float16"):
            make(saved)
    assert (saved / "vectors.f16").stat().st_size == 59


def test_no_database(saved):
    (saved / "catalog.sqlite").write_bytes(b"")
    with pytest.raises(StoreCorruptError, match=r"catalog\.sqlite"):
        Store.load(saved)


# -- what it is made of --------------------------------------------------------------------------


def test_manifest_changes_last(saved):
    with closing(Store.open(saved, writable=True)) as store:
        store.change_manifest(index=Part("flat"), metric="l2")
        with pytest.raises(TypeError):
            store.change_manifest(index=Part("flat", {"bad": object()}))
        assert store.manifest.index == Part("flat")
    with closing(Store.load(saved)) as store:
        assert (store.manifest.index, store.manifest.metric) == (Part("flat"), "l2")


def test_projection_in_and_out(saved, monkeypatch):
    current, waiting = Store.projection_files(saved)

    def fail(_, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with closing(Store.open(saved, writable=True)) as store:
        one, two = (
            LinearProjection(np.full((store.dim, 1), value), np.zeros(store.dim), kind="pca")
            for value in (1.0, 2.0)
        )
        store.set_projection(one)
        stored = current.read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(LinearProjection, "save", fail)
            with pytest.raises(OSError, match="No space left on device"):
                store.set_projection(two)
        assert (current.read_bytes(), waiting.exists()) == (stored, False)
        assert store.manifest.projection == one.fingerprint
        store.set_projection(IdentityProjection(store.dim))
        assert not current.exists()
    with closing(Store.load(saved)) as store:
        assert store.manifest.projection is None
        store.set_projection(two)
        assert store.manifest.projection == two.fingerprint


def test_a_projection_is_on_the_disk_before_the_manifest_names_it(saved, monkeypatch):
    current, waiting = Store.projection_files(saved)
    steps, sync, write = [], module.sync, Manifest.write
    monkeypatch.setattr(
        module, "sync", lambda path: steps.append((path, current.exists())) or sync(path)
    )
    monkeypatch.setattr(
        Manifest,
        "write",
        lambda self, path: steps.append((path, waiting.exists())) or write(self, path),
    )
    with closing(Store.open(saved, writable=True)) as store:
        one = LinearProjection(np.ones((store.dim, 1)), np.zeros(store.dim), kind="pca")
        store.set_projection(one)
    assert steps == [(waiting, False), (saved, True)]
    assert (current.exists(), waiting.exists()) == (True, False)


def test_a_catalog_that_was_replaced_is_only_read_from_then_on(saved, kit):
    """A journal of it would be taken for one of the catalog that is in its place."""
    with closing(Store.open(saved, writable=True)) as before:
        after, ids = before.without_removed(None)
        with closing(after):
            assert ids.tolist() == [0, 1, 2, 4]
            assert before.catalog._db.execute("PRAGMA query_only").fetchone() == (1,)
            with pytest.raises(StoreReadOnlyError):
                before.catalog.replace(0, Item("x"))
            kit.add(after, 9)
            assert kit.content_of(before) == kit.expected_of(0, 1, 2, 4)
            assert kit.content_of(after) == kit.expected_of(0, 1, 2, 4, 9)


def test_what_is_of_no_use_is_counted(saved, path, manifest, kit):
    catalog = (saved / "catalog.sqlite").stat().st_size
    with closing(Store.open(saved, writable=False)) as store:
        assert store.waste() == (1, 12 + catalog // 5, [], 0)
        with (saved / "vectors.f16").open("ab") as file:
            file.write(bytes(7))
        (saved / "index.tmp" / "state").mkdir(parents=True)
        (saved / "index.tmp" / "state" / "graph").write_bytes(bytes(100))
        (saved / "index.tmp" / "link").symlink_to(saved / "catalog.sqlite")
        assert store.waste() == (1, 12 + catalog // 5, [saved / "index.tmp"], 107)
        (saved / "vectors.f16").write_bytes(b"")  # of another gallery, which replaced this one
        assert store.waste().left_over_bytes == 100
    empty = path.with_name("empty.imgret")
    with closing(Store.create(empty, manifest)) as store:
        assert store.waste() == (0, 0, [], 0)


def test_a_gallery_in_memory_has_no_index_beside_it(manifest):
    with closing(Store.in_memory(manifest)) as store:
        store.write_index(Checkpoint(0, 0, Part("x"), None, 0), None)
        store.drop_index()


def test_index_beside_it(saved):
    checkpoint = Checkpoint(5, 3, Part("hnsw", {"M": 32}), None, 4)
    with closing(Store.open(saved, writable=True)) as store:
        store.write_index(checkpoint, lambda state: (state / "graph").write_bytes(b"g"))
        found, state = Store.read_checkpoint(saved)
        assert (found, (state / "graph").read_bytes()) == (checkpoint, b"g")
        store.drop_index()
        assert Store.read_checkpoint(saved) is None
