"""Creating a gallery never replaces one, however close two processes come to each other."""

from __future__ import annotations

import os
import sys
from contextlib import closing

import pytest

from imgret.errors import StoreExistsError
from imgret.galleries.local import files
from imgret.galleries.local.store import Store, discard_if_empty

pytestmark = pytest.mark.slow

RACE = """
import time
from pathlib import Path
from imgret.errors import StoreError, StoreLockedError
from imgret.retriever import Retriever
import numpy as np
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from given import Given
folder, me = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
for line in sys.stdin:
    path, added = folder / f"{line.strip()}.imgret", []
    try:
        with Retriever.open(path, "a", embedder=Given()) as retriever:
            retriever.add_vectors(np.eye(1, 4), keys=[me])
        print("stored", flush=True)
    except StoreLockedError:
        print("locked", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""

GIVEN = """
from imgret import Embedder

class Given(Embedder):
    name, dim, fingerprint = "given", 4, "given"

    def config(self):
        return {}

    def _embed(self, images):
        raise NotImplementedError
"""


def test_processes_that_make_the_same_gallery_at_once(tmp_path, kit):
    (tmp_path / "given.py").write_text(GIVEN)
    folder = tmp_path / "galleries"
    folder.mkdir()
    processes = {f"p{n}": kit.python(RACE, folder, f"p{n}") for n in range(6)}
    try:
        for process in processes.values():
            assert process.stdout.readline() == "ready\n"
        for turn in range(5):
            for process in processes.values():
                process.stdin.write(f"{turn}\n")
                process.stdin.flush()
            said = {name: process.stdout.readline() for name, process in processes.items()}
            assert set(said.values()) <= {"stored\n", "locked\n"}, said
            stored = {name for name, word in said.items() if word == "stored\n"}
            with closing(Store.open(folder / f"{turn}.imgret", writable=False)) as store:
                assert set(store.catalog) == stored
        assert kit.names(folder) == sorted(f"{turn}.imgret" for turn in range(5))
    finally:
        for process in processes.values():
            kit.end(process)


IDLE = """
from pathlib import Path
from imgret.errors import StoreLockedError
from imgret.galleries.local.store import discard_if_empty
from imgret.retriever import Retriever
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from given import Given
folder = Path(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    path = folder / f"{line.strip()}.imgret"
    try:
        Retriever.open(path, "a", embedder=Given()).close()
        print("deleted" if discard_if_empty(path) else "kept", flush=True)
    except StoreLockedError:
        print("locked", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


def test_an_empty_gallery_is_not_deleted_under_one_who_adds(tmp_path, kit):
    (tmp_path / "given.py").write_text(GIVEN)
    folder = tmp_path / "galleries"
    folder.mkdir()
    adding = {f"p{n}": kit.python(RACE, folder, f"p{n}") for n in range(2)}
    idle = [kit.python(IDLE, folder) for _ in range(2)]
    processes = [*adding.values(), *idle]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for turn in range(10):
            for process in processes:
                process.stdin.write(f"{turn}\n")
                process.stdin.flush()
            said = {name: process.stdout.readline() for name, process in adding.items()}
            others = {process.stdout.readline() for process in idle}
            assert set(said.values()) <= {"stored\n", "locked\n"}, said
            assert others <= {"deleted\n", "kept\n", "locked\n"}, others
            stored = {name for name, word in said.items() if word == "stored\n"}
            path = folder / f"{turn}.imgret"
            assert path.exists() or not stored
            if path.exists():
                with closing(Store.open(path, writable=False)) as store:
                    assert set(store.catalog) == stored
        assert not [name for name in kit.names(folder) if name.startswith(".")]
    finally:
        for process in processes:
            kit.end(process)


def test_only_a_gallery_that_never_had_an_item_is_discarded(tmp_path, manifest, kit):
    path = tmp_path / "g.imgret"
    with closing(Store.create(path, manifest)):
        assert not discard_if_empty(path)  # it is open for writing
    assert discard_if_empty(path)
    assert not path.exists()
    with closing(Store.create(path, manifest)) as store:
        kit.add(store, 1)
        store.remove([0])
    assert not discard_if_empty(path)
    assert not discard_if_empty(tmp_path / "none.imgret")
    assert kit.names(tmp_path) == ["g.imgret"]


@pytest.fixture(params=["_clear_abandoned", "_put_in_place"])
def rival(request, monkeypatch, manifest, kit):
    """Let another gallery be made after the look whether one is there, or at the last moment."""
    step, made = getattr(files, request.param), []

    def late(*args, **options):
        if not made:
            path = args[-1]
            made.append(path)
            with closing(Store.create(path, manifest)) as store:
                kit.add(store, 7)
        return step(*args, **options)

    monkeypatch.setattr(files, request.param, late)
    return made


@pytest.mark.parametrize("there", [False, True])
def test_one_that_is_made_at_the_last_moment_stays(tmp_path, manifest, kit, rival, there):
    path = tmp_path / "g.imgret"
    if there:
        path.mkdir()
    with pytest.raises(StoreExistsError, match="another process has just created something here"):
        Store.create(path, manifest)
    assert rival == [path]
    with closing(Store.open(path, writable=True)) as store:
        assert kit.content_of(store) == kit.expected_of(7)
    assert kit.names(tmp_path) == ["g.imgret"]


@pytest.mark.parametrize("rival", ["_put_in_place"], indirect=True)
def test_a_save_replaces_none_that_was_not_there_when_it_began(tmp_path, manifest, kit, rival):
    path = tmp_path / "g.imgret"
    with closing(Store.in_memory(manifest)) as store:
        kit.add(store, 1)
        with pytest.raises(StoreExistsError):
            kit.save(store, path)
        with closing(Store.load(path)) as found:
            assert kit.content_of(found) == kit.expected_of(7)
        kit.save(store, path)  # which it may, as it is there now
        with closing(Store.load(path)) as found:
            assert kit.content_of(found) == kit.expected_of(1)
    assert kit.names(tmp_path) == ["g.imgret"]
    assert rival


def test_a_directory_that_is_taken_for_abandoned(tmp_path, manifest, kit, monkeypatch):
    """Another process clears it away between its making and its locking."""
    lock, cleared = files.WriterLock, []

    def slow(path):
        if ".saving-" in str(path) and not cleared:
            cleared.append(path)
            files._clear_abandoned("manifest.json", tmp_path / "g.imgret")
        return lock(path)

    monkeypatch.setattr(files, "WriterLock", slow)
    with closing(Store.create(tmp_path / "g.imgret", manifest)) as store:
        kit.add(store, 1)
    assert cleared
    assert kit.names(tmp_path) == ["g.imgret"]


@pytest.mark.skipif(sys.platform == "win32", reason="renames over no directory")
def test_what_is_made_in_an_empty_directory_at_the_last_moment_stays(tmp_path, manifest):
    """Not a gallery even: a file is enough."""
    path = tmp_path / "g.imgret"
    path.mkdir()
    put = files._put_in_place

    def late(new, path, **options):
        (path / "note.txt").write_text("mine")
        put(new, path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_put_in_place", late)
        with pytest.raises(StoreExistsError):
            Store.create(path, manifest)
    assert os.listdir(path) == ["note.txt"]  # noqa: PTH208  # in words
