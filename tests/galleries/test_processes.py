"""One writer, many readers, full disks, directories that cannot be written, kills."""

import os
import random
import shutil
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from imgret.errors import StoreLockedError, StoreReadOnlyError
from imgret.galleries.local.store import Store
from imgret.galleries.local.writer_lock import WriterLock
from imgret.types import Item

pytestmark = pytest.mark.slow

OPEN = """
from pathlib import Path
from imgret.errors import StoreError
from imgret.types import Item; from imgret.galleries.local.store import Store
path = Path(sys.argv[1])
"""


@pytest.fixture
def path(tmp_path, manifest, kit):
    with closing(Store.create(tmp_path / "g.imgret", manifest)) as store:
        kit.add(store, 0, 1)
    return tmp_path / "g.imgret"


# -- one writer ----------------------------------------------------------------------------------


def test_second_writer_in_this_process(path, kit):
    with closing(Store.open(path, writable=True)) as store:
        message = rf"g\.imgret: open for writing by process {os.getpid()};.*mode='r'"
        with pytest.raises(StoreLockedError, match=message):
            Store.open(path, writable=True)
        kit.add(store, 2)
    with closing(Store.open(path, writable=True)) as store:
        assert kit.content_of(store) == kit.expected_of(0, 1, 2)


def test_writer_in_another_process(path, kit):
    process = kit.python(
        OPEN + "store = Store.open(path, writable=True)\nprint('open', flush=True)\ninput()", path
    )
    try:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(StoreLockedError, match=f"process {process.pid}"):
            Store.open(path, writable=True)
        with (
            closing(Store.in_memory(Store.load(path).manifest)) as other,
            pytest.raises(StoreLockedError),
        ):
            kit.save(other, path)
        with closing(Store.open(path, writable=False)) as reader:
            assert kit.content_of(reader) == kit.expected_of(0, 1)
    finally:
        kit.end(process)
    with closing(Store.open(path, writable=True)) as store:  # kill -9 frees the lock
        kit.add(store, 2)


def test_lock_of_a_file_that_was_replaced(tmp_path, monkeypatch):
    """Opened, then replaced, then locked: that lock keeps nobody out."""
    from imgret.galleries.local import writer_lock as module  # to step in between

    path, attempts, lock = tmp_path / "lock", [], module._lock

    def slow(descriptor):
        attempts.append(descriptor)
        if len(attempts) == 1:
            path.rename(tmp_path / "old")
            path.touch()
        lock(descriptor)

    monkeypatch.setattr(module, "_lock", slow)
    held = WriterLock(path)
    assert len(attempts) == 2
    with pytest.raises(StoreLockedError):
        WriterLock(path)
    held.release()
    held.release()
    WriterLock(path).release()


# -- many readers --------------------------------------------------------------------------------


def test_readers_keep_their_view(path, kit):
    with closing(Store.open(path, writable=True)) as writer:
        with closing(Store.open(path, writable=False)) as reader:
            writer.add(kit.vectors_of(9), [Item("k1")], replaced=[1])
            writer.remove([0])
            kit.add(writer, 3)
            assert kit.content_of(reader) == kit.expected_of(0, 1)
            assert len(reader.catalog) == 2
        with closing(Store.open(path, writable=False)) as reader:
            assert kit.content_of(reader) == kit.content_of(writer)


def test_readers_while_a_writer_writes(path, kit):
    """Batches of three, each replacing one of the last: never a part of one."""
    process = kit.python(
        OPEN
        + """
store = Store.open(path, writable=True)
print("open", flush=True)
for n in range(1, 10_000):
    replaced = [store.catalog.rows - 1] if n > 1 else []
    keys = [f"a{n}", f"b{n}", "last"]
    store.add(kit.vectors_of(n, n, n), [Item(key, label=str(n)) for key in keys], replaced=replaced)
""",
        path,
    )
    try:
        assert process.stdout.readline() == "open\n"
        counts = []
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline or len(counts) < 5:
            with closing(Store.open(path, writable=False)) as reader:
                for _ in range(3):
                    content = kit.content_of(reader)
                    batches, rest = divmod(len(content) - 2, 2)
                    assert rest == (1 if batches else 0)
                    assert len(content) == len(reader.catalog) == len(list(reader.catalog))
                    if batches:
                        expected = (str(batches), *kit.vectors_of(batches)[0].tolist())
                        assert content["last"] == content[f"b{batches}"] == expected
                        (id_,) = reader.catalog.require(["last"])
                        assert reader.read(np.array([id_])).tolist() == [list(expected[1:])]
                    time.sleep(0.01)
                counts.append(batches)
    finally:
        kit.end(process)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


# -- kills ---------------------------------------------------------------------------------------

ADDS = (
    OPEN
    + """
store = Store.open(path, writable=True)
print("open", flush=True)
n = store.catalog.rows // 4
while True:
    kit.add(store, *range(4 * n, 4 * n + 4))
    n += 1
    print(n, flush=True)  # told: committed
"""
)


def test_killed_at_random_moments(tmp_path, manifest, kit):
    path, rng = tmp_path / "k.imgret", random.Random(0)  # noqa: S311  # no secret
    Store.create(path, manifest).close()
    for _ in range(8):
        process = kit.python(ADDS, path)
        assert process.stdout.readline() == "open\n"
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        told = [int(line) for line in process.communicate()[0].splitlines()]
        with closing(Store.load(path)) as reader:
            batches, rest = divmod(len(reader.catalog), 4)
            assert rest == 0
            # What was told is there; one more may have been committed and not told.
            assert not told or told[-1] <= batches <= told[-1] + 1
            assert kit.content_of(reader) == kit.expected_of(*range(4 * batches))
    assert batches > 8
    size = batches * 4 * 6 * 2
    Store.open(path, writable=True).close()
    assert (path / "vectors.f16").stat().st_size == size


@pytest.mark.parametrize("left", [b"\xff", bytes(12), bytes(1000)])
def test_killed_before_the_commit(path, kit, left):
    """Vectors were appended, the catalog's transaction never came."""
    with (path / "vectors.f16").open("ab") as file:
        file.write(left)
    with closing(Store.open(path, writable=False)) as reader:
        assert kit.content_of(reader) == kit.expected_of(0, 1)
    with closing(Store.open(path, writable=True)) as store:
        kit.add(store, 2)
        assert kit.content_of(store) == kit.expected_of(0, 1, 2)
    assert (path / "vectors.f16").stat().st_size == 3 * 12
    with closing(Store.load(path)) as store:
        assert kit.content_of(store) == kit.expected_of(0, 1, 2)


# -- disks that are full, directories that cannot be written -------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
@pytest.mark.parametrize("full", ["vectors", "catalog"])
def test_disk_full_while_adding(path, kit, full):
    code = """
import resource, signal
import numpy as np
store = Store.open(path, writable=True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def add(n):
    items = [Item(f"{n}-{m}", metadata={"text": "x" * size}) for m in range(rows)]
    store.add(np.repeat(kit.vectors_of(n), rows, axis=0), items)
rows, size, most = (3000, 0, 20_000) if sys.argv[2] == "vectors" else (20, 20_000, 100_000)
for _ in range(2):
    limit(most)
    try:
        add(5)
    except StoreError as error:
        print(type(error).__name__, len(store.catalog), store.catalog.rows)
    limit(resource.RLIM_INFINITY)
kit.add(store, 2)
store.remove([0])
store.close()
"""
    assert kit.output_of(kit.python(OPEN + code, path, full)) == ["StoreError 2 2"] * 2
    with closing(Store.load(path)) as store:
        assert kit.content_of(store) == kit.expected_of(1, 2)
    assert (path / "vectors.f16").stat().st_size == 3 * 12


@pytest.mark.skipif(sys.platform == "win32", reason="needs chmod and setuid")
def test_directory_that_cannot_be_written(manifest, kit):
    # Not tmp_path, into which only this user gets.
    folder = Path(tempfile.mkdtemp())
    try:
        with closing(Store.create(folder / "g.imgret", manifest)) as store:
            kit.add(store, 0, 1)
        for each in (*folder.rglob("*"), folder):
            each.chmod(0o555 if each.is_dir() else 0o444)
        code = """
import os
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
for make in (lambda: Store.open(path, writable=False), lambda: Store.load(path)):
    store = make()
    print(*kit.content_of(store))
    store.close()
empty = Store.in_memory(kit.MANIFEST)
for write in (
    lambda: Store.open(path, writable=True),
    lambda: Store.create(path.parent / "new", kit.MANIFEST),
    lambda: kit.save(empty, path),
    lambda: kit.save(empty, path.parent / "new"),
):
    try:
        write()
    except StoreError as error:
        print(type(error).__name__, "cannot" in str(error) or "can be written" in str(error))
empty.close()
"""
        lines = kit.output_of(kit.python(OPEN + code, folder / "g.imgret"))
        assert lines == ["k0 k1"] * 2 + ["StoreReadOnlyError True"] * 4
        assert kit.names(folder) == ["g.imgret"]
    finally:
        for each in (folder, *folder.rglob("*")):
            each.chmod(0o755)
        shutil.rmtree(folder)


def test_files_that_cannot_be_written(path, monkeypatch):
    """The lock could be had, the vectors not."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("imgret.galleries.local.vectors.open_file", refuse)
    with pytest.raises(StoreReadOnlyError, match=r"vectors\.f16: cannot be written"):
        Store.open(path, writable=True)
    monkeypatch.undo()
    Store.open(path, writable=True).close()  # and the lock was given back
