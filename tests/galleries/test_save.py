"""Saving takes the place of what was there at once, or not at all."""

import os
import shutil
import sys
from contextlib import closing, suppress

import pytest

from imgret.errors import StoreError, StoreExistsError, StoreLockedError, StoreNotFoundError
from imgret.galleries.local import LocalGallery, files
from imgret.galleries.local import store as store_module
from imgret.galleries.local.checkpoint import Checkpoint
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.store import Store
from imgret.types import Part


@pytest.fixture
def path(tmp_path, manifest, kit):
    """A gallery of k1 at ``g.imgret``."""
    with closing(Store.create(tmp_path / "g.imgret", manifest)) as store:
        kit.add(store, 1)
    return tmp_path / "g.imgret"


@pytest.fixture
def other(manifest, kit):
    """A gallery of k2 and k3 in memory."""
    with closing(Store.in_memory(manifest)) as store:
        kit.add(store, 2, 0, 3)
        store.remove([1])
        yield store


def loaded(path, kit):
    with closing(Store.load(path)) as store:
        return kit.content_of(store)


def test_save_and_load(tmp_path, other, kit):
    kit.save(other, tmp_path / "deep" / "new.imgret")
    assert loaded(tmp_path / "deep" / "new.imgret", kit) == kit.expected_of(2, 3)
    assert kit.names(tmp_path / "deep") == ["new.imgret"]


def test_open_waits_for_what_is_about_to_take_its_place(path, kit, monkeypatch):
    """Also where the old gallery steps aside just after it was looked for."""
    looks, settle = [], store_module.settle

    def late(*place, **options):
        looks.append(place)
        if len(looks) > 1:
            settle(*place, **options)

    path.rename(path.with_name(f".{path.name}.old"))
    monkeypatch.setattr(store_module, "settle", late)
    assert loaded(path, kit) == kit.expected_of(1)


def test_nothing_is_waited_for_where_there_is_nothing(tmp_path):
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(StoreNotFoundError):
            Store.open(place, writable=False)


def test_save_takes_all_along(path, other):
    checkpoint = Checkpoint(3, 2, Part("hnsw"), "p", 2)
    other.change_manifest(projection="p")
    other.save(
        path,
        projection=lambda p: p.write_bytes(b"matrix"),
        index=lambda _: (checkpoint, lambda state: (state / "graph").write_bytes(b"g")),
    )
    found, state = Store.read_checkpoint(path)
    assert (found, (state / "graph").read_bytes()) == (checkpoint, b"g")
    assert Store.projection_files(path)[0].read_bytes() == b"matrix"
    with closing(Store.load(path)) as store:
        assert store.manifest.projection == "p"


def test_save_replaces_a_gallery(path, other, kit):
    with closing(Store.open(path, writable=False)) as reader:
        kit.save(other, path)
        assert kit.content_of(reader) == kit.expected_of(1)  # goes on with what it opened
    assert loaded(path, kit) == kit.expected_of(2, 3)
    assert kit.names(path.parent) == ["g.imgret"]
    with closing(Store.open(path, writable=True)) as store:  # and nobody holds its lock
        kit.add(store, 5)


def test_save_into_an_empty_directory(tmp_path, other, kit):
    (tmp_path / "empty").mkdir()
    kit.save(other, tmp_path / "empty")
    assert loaded(tmp_path / "empty", kit) == kit.expected_of(2, 3)


def test_save_through_a_link(path, other, kit, tmp_path):
    link = tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to(path)
    kit.save(other, link)
    assert link.is_symlink()
    assert loaded(path, kit) == kit.expected_of(2, 3)
    assert kit.names(link.parent) == ["link"]


@pytest.mark.parametrize("name", ["letter.txt", "manifest.json"])
def test_something_else_is_left_alone(tmp_path, other, kit, name):
    target = tmp_path / "things"
    target.mkdir()
    (target / name).write_text('{"name": "a browser extension has such a file, too"}')
    for path in (target, target / name):
        with pytest.raises(StoreExistsError, match="found something else; choose another path"):
            kit.save(other, path)
    assert kit.names(tmp_path) == ["things"]
    assert kit.names(target) == [name]


def test_a_copy_of_a_gallery_on_disk(path, tmp_path, kit):
    with closing(Store.open(path, writable=True)) as writer:
        with closing(Store.open(path, writable=False)) as reader:
            kit.add(writer, 7)
            kit.save(reader, tmp_path / "copy")  # of what is committed by now
        kit.save(writer, tmp_path / "copy2")
    assert loaded(tmp_path / "copy", kit) == kit.expected_of(1, 7)
    assert loaded(tmp_path / "copy2", kit) == kit.expected_of(1, 7)


def test_target_open_for_writing(path, other, kit):
    with closing(Store.open(path, writable=True)) as writer:
        with pytest.raises(StoreLockedError, match=rf"process {os.getpid()}"):
            kit.save(other, path)
        kit.add(writer, 4)
    assert loaded(path, kit) == kit.expected_of(1, 4)
    assert kit.names(path.parent) == ["g.imgret"]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["projection", "index", "sync", "rename"])
def test_failure_at_any_step(path, other, kit, monkeypatch, step, error):
    def fail(*_args, **_options):
        raise error

    def nothing(_path):
        pass

    checkpoint = Checkpoint(3, 2, Part("hnsw"), None, 2)
    if step == "sync":
        monkeypatch.setattr(files, "sync", fail)
    if step == "rename":  # the second of them: the old gallery has stepped aside
        rename, calls = type(path).rename, []

        def second_fails(source, target):
            calls.append(target)
            if len(calls) == 3:  # the first is that of the index directory
                raise error
            return rename(source, target)

        monkeypatch.setattr(type(path), "rename", second_fails)
    with pytest.raises(type(error)) as caught:
        other.save(
            path,
            projection=fail if step == "projection" else nothing,
            index=lambda _: (checkpoint, fail if step == "index" else nothing),
        )
    if isinstance(error, OSError):
        assert isinstance(caught.value, StoreError)
        assert "untouched" in str(caught.value)
    monkeypatch.undo()
    assert kit.names(path.parent) == ["g.imgret"]
    assert loaded(path, kit) == kit.expected_of(1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
@pytest.mark.parametrize("limit", [5_000, 60_000, 400_000])
def test_disk_full(path, kit, limit):
    """The limits stop the catalog early, the catalog late, and the vectors."""
    process = kit.python(
        """
import dataclasses, resource, signal
import numpy as np
from pathlib import Path
from imgret.errors import StoreError
from imgret.types import Item; from imgret.galleries.local.store import Store
store = Store.in_memory(dataclasses.replace(kit.MANIFEST, dim=300))
store.add(np.ones((1000, 300), np.float32), [Item(str(n)) for n in range(1000)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    kit.save(store, Path(sys.argv[1]))
except StoreError as error:
    print(type(error).__name__)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
kit.save(store, Path(sys.argv[1]).with_name("second.imgret"))
store.close()
""",
        path,
        limit,
    )
    assert kit.output_of(process) == ["StoreError"]
    assert kit.names(path.parent) == ["g.imgret", "second.imgret"]
    assert loaded(path, kit) == kit.expected_of(1)
    assert len(loaded(path.with_name("second.imgret"), kit)) == 1000


# -- killed half way -----------------------------------------------------------------------------


def test_killed_between_the_renames(path, other, kit):
    aside = path.with_name(".g.imgret.old")
    for use in (
        lambda: Store.open(path, writable=True).close(),
        lambda: Store.open(path, writable=False).close(),
        lambda: Store.load(path).close(),
    ):
        path.rename(aside)
        use()
        assert loaded(path, kit) == kit.expected_of(1)
        assert kit.names(path.parent) == ["g.imgret"]
    path.rename(aside)
    assert LocalGallery.is_taken(str(path))  # nobody may take it for a free path
    kit.save(other, path)
    assert loaded(path, kit) == kit.expected_of(2, 3)
    assert kit.names(path.parent) == ["g.imgret"]
    assert not LocalGallery.is_taken(str(path.with_name("another.imgret")))


def test_killed_after_the_renames(path, other, kit):
    shutil.copytree(path, path.with_name(".g.imgret.old"))
    assert loaded(path, kit) == kit.expected_of(1)
    kit.save(other, path)
    assert kit.names(path.parent) == ["g.imgret"]
    (path.parent / ".g.imgret.old").mkdir()  # was being deleted: its manifest went first
    shutil.rmtree(path)
    with pytest.raises(StoreNotFoundError):
        Store.open(path, writable=True)


def test_killed_while_writing_is_cleared_away(path, other, kit, tmp_path):
    process = kit.python(
        """
import os, signal
from pathlib import Path
from imgret.galleries.local.store import Store
store = Store.in_memory(kit.MANIFEST)
kit.add(store, 9)
store.save(Path(sys.argv[1]), index=None, projection=lambda _: os.kill(os.getpid(), signal.SIGKILL))
""",
        path,
    )
    process.communicate()
    assert len(kit.names(tmp_path)) == 2
    assert loaded(path, kit) == kit.expected_of(1)
    kit.save(other, tmp_path / "imgret")  # another name: not its business
    assert len(kit.names(tmp_path)) == 3

    def meanwhile(_):  # one that is not dead is left alone
        kit.save(other, path)

    other.save(tmp_path / "another", projection=meanwhile, index=None)
    assert kit.names(tmp_path) == ["another", "g.imgret", "imgret"]


def test_killed_while_the_old_one_is_deleted(path, other, kit, monkeypatch):
    """What is left of it must not come back when the new one is deleted."""
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_args, **_options: None)
    kit.save(other, path)
    monkeypatch.undo()
    assert kit.names(path.parent) == [".g.imgret.old", "g.imgret"]
    shutil.rmtree(path)
    with pytest.raises(StoreNotFoundError):
        Store.open(path, writable=True)


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("calls_before", [1, 2])
def test_replaced_while_it_is_opened(path, other, kit, monkeypatch, writable, calls_before):
    """Not the manifest of one gallery and the items of another, nor an error of such a mixture."""
    read, calls = Manifest.read, []
    other.change_manifest(metric="l2")

    def slow(directory):
        manifest = read(directory)
        calls.append(directory)
        if len(calls) == calls_before:
            with suppress(StoreLockedError):  # a writer has the lock by its second look
                kit.save(other, path)
        return manifest

    monkeypatch.setattr(Manifest, "read", slow)
    with closing(Store.open(path, writable=writable)) as store:
        replaced = calls_before == 1
        assert kit.content_of(store) == (kit.expected_of(2, 3) if replaced else kit.expected_of(1))
        assert store.manifest.metric == ("l2" if replaced else "cosine")


def test_opening_while_many_saves_go_by(path, other, kit, monkeypatch):
    """One of them may get the very directory number that an earlier one gave back."""
    with closing(Store.load(path)) as same:
        for _ in range(6):  # until two numbers take turns
            kit.save(same, path)
    read, calls, number = Manifest.read, [], path.stat().st_ino
    other.change_manifest(metric="l2")

    def slow(directory):
        manifest = read(directory)
        calls.append(directory)
        if len(calls) == 1:
            for _ in range(8):
                kit.save(other, path)
                if path.stat().st_ino == number:
                    break
        return manifest

    monkeypatch.setattr(Manifest, "read", slow)
    with closing(Store.open(path, writable=False)) as store:
        assert store.manifest.metric == "l2"
        assert kit.content_of(store) == kit.expected_of(2, 3)


def test_opening_waits_for_a_save(path, other, kit, monkeypatch):
    """A reader that comes between the renames of a living process waits."""
    waiting = []
    rename = type(path).rename

    def slow(source, target):
        result = rename(source, target)
        if target.name == ".g.imgret.old":
            waiting.append(
                kit.python(
                    "from pathlib import Path; from imgret.galleries.local.store import Store\n"
                    "print('here', flush=True)\n"
                    "store = Store.load(Path(sys.argv[1])); print(*kit.content_of(store))\n"
                    "store.close()",
                    path,
                )
            )
            assert waiting[0].stdout.readline() == "here\n"
        return result

    monkeypatch.setattr(type(path), "rename", slow)
    kit.save(other, path)
    assert kit.output_of(waiting[0]) == ["k2 k3"]
    assert kit.names(path.parent) == ["g.imgret"]


@pytest.mark.slow
def test_readers_while_saves_go_on(path, other, kit, manifest):
    """Whatever the moment, a reader gets all of one gallery."""
    process = kit.python(
        """
from pathlib import Path
from imgret.galleries.local.store import Store
path, seen = Path(sys.argv[1]), set()
print("ready", flush=True)
while not (path.parent / "stop").exists():
    store = Store.load(path)
    seen.add(" ".join(kit.content_of(store)))
    store.close()
print(*sorted(seen), sep="\\n")
""",
        path,
    )
    assert process.stdout.readline() == "ready\n"
    with closing(Store.in_memory(manifest.with_(dtype="float32"))) as third:
        kit.add(third, *range(4, 40))
        for _ in range(25):
            kit.save(other, path)
            kit.save(third, path)
    (path.parent / "stop").touch()
    third_keys = " ".join(f"k{n}" for n in range(4, 40))
    assert set(kit.output_of(process)) <= {"k1", "k2 k3", third_keys}
