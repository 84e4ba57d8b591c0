"""What crosses a fork, and what is refused there.

Each case is a process of its own that forks, and is killed when it hangs.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import imgret

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here"),
]

START = """
import gc, os, signal, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from imgret import Embedder, Retriever
from imgret.errors import *

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork beside threads


class Given(Embedder):
    name, dim, fingerprint = "given", 32, "given"

    def config(self):
        return {}

    def _embed(self, images):
        return np.stack([np.resize(image, 32).astype(np.float32) + 1 for image in images])


N = 1200
V = np.random.default_rng(0).standard_normal((N, 32)).astype(np.float32)
folder = Path(sys.argv[1])
path = folder / "g.imgret"


def fill(retriever):
    retriever.add_vectors(
        V,
        keys=[f"k{n}" for n in range(N)],
        labels=[f"l{n % 7}" for n in range(N)],
        metadata=[{"n": n} for n in range(N)],
    )
    return retriever


def found(retriever, n=N):
    return [[hit.key for hit in hits] for hits in retriever.search_vectors(V[:n], 3)]


def child(work, seconds=40):
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    signal.alarm(seconds)
    try:
        work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def state():
    return sorted((file.name, file.read_bytes()) for file in path.rglob("*") if file.is_file())
"""


def run(tmp_path, code, **environment):
    """Run code after `START`; it must print "done" at the end, and soon."""
    ended = subprocess.run(
        [sys.executable, "-c", START + code + "\nprint('done')", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("done\n"), ended.stdout + ended.stderr


# -- galleries on disk ---------------------------------------------------------------------------

CHANGES = """
from imgret.projections import LinearProjection
picture = np.zeros((9, 9, 3), np.uint8)
changes = [
    lambda: writer.add(picture), lambda: writer.add_folder(folder), lambda: writer.save(),
    lambda: writer.add_vectors(V[:1], keys=["new"]), lambda: writer.remove("k0"),
    lambda: writer.update("k0", label="x"), lambda: writer.keep_whole("k0"),
    lambda: writer.reindex("flat"), lambda: writer.project("pca", dim=8), lambda: writer.adapt(),
    lambda: writer.project(None), lambda: writer.calibrate(), lambda: writer.tune(),
    lambda: writer.create_filter_index("n"), lambda: writer.save(path),
    lambda: writer._gallery.store.catalog.remove([1]), lambda: writer._gallery.store.drop_index(),
    lambda: writer._gallery.store.change_manifest(tuned=None),
]
"""


@pytest.mark.parametrize("index", ["flat", "ivf"])
def test_a_writer_is_refused_in_a_child_and_nothing_is_harmed(tmp_path, index):
    run(
        tmp_path,
        CHANGES
        + f"""
with Retriever.open(path, "a", embedder=Given(), index={index!r}) as writer:
    expected = found(fill(writer))
    writer.save()
    before = state()

    def work():
        for n, change in enumerate(changes):
            try:
                change()
            except StoreForkedError as error:
                assert str(os.getppid()) in str(error) and str(os.getpid()) in str(error), error
                assert str(path) in str(error) and "after the fork" in str(error)
            else:
                raise AssertionError(f"change {{n}} went through")
        assert found(writer) == expected  # reading goes on
        assert len(writer) == N and writer["k8"].label == "l1"
        assert len(writer.search_vectors(V[:1], 9, where={{"n": {{"$lt": 4}}}})[0]) == 4
        writer.save(folder / "copy.imgret")  # which is another gallery
        with writer:
            pass
        writer.close()
        gc.collect()

    assert child(work) == 0
    assert state() == before
    try:
        Retriever.open(path, "r+", embedder=Given())
    except StoreLockedError:
        pass
    else:
        raise AssertionError("the lock is lost")
    writer.add_vectors(V[:1], keys=["new"])
assert len(Retriever.load(path, embedder=Given())) == N + 1
assert len(Retriever.load(folder / "copy.imgret", embedder=Given())) == N
""",
    )


def test_workers_that_add_to_an_inherited_gallery(tmp_path):
    run(
        tmp_path,
        """
import multiprocessing

def work(name):
    try:
        writer.add_vectors(V[:1], keys=[name])
    except StoreForkedError:
        return "refused", len(writer), writer.search_vectors(V[:1], 1)[0][0].key
    return "added", 0, ""

writer = fill(Retriever.open(path, "a", embedder=Given()))
with multiprocessing.get_context("fork").Pool(3) as pool:
    running = pool.map_async(work, [f"w{n}" for n in range(30)])
    for n in range(10):
        writer.add_vectors(V[n : n + 1], keys=[f"parent{n}"])
    assert set(running.get(60)) == {("refused", N, "k0")}
writer.close()
assert len(Retriever.load(path, embedder=Given())) == N + 10
""",
    )


def test_a_child_that_ends_as_processes_do_writes_nothing(tmp_path):
    run(
        tmp_path,
        """
writer = fill(Retriever.open(path, "a", embedder=Given(), index="hnsw"))
before = state()
if not (process := os.fork()):
    found(writer, 3)
    sys.exit(0)  # with all that an interpreter does at its end
assert os.waitpid(process, 0)[1] == 0
assert state() == before
writer.close()
assert len(Retriever.load(path, embedder=Given())) == N
""",
    )


def test_a_child_in_the_middle_of_a_transaction_of_its_parent(tmp_path):
    """To close the connection there would roll back what the parent is about to commit."""
    run(
        tmp_path,
        """
from imgret.galleries.local.rows import COLUMNS, row_checksum

writer = fill(Retriever.open(path, "a", embedder=Given()))
catalog, process = writer._gallery.store.catalog, None
with catalog._change():
    catalog._db.execute("PRAGMA cache_size = 1")
    catalog._db.create_function("summed", 14, lambda *row: row_checksum(row))
    catalog._db.execute("UPDATE items SET label = 'new'")
    catalog._db.execute(f"UPDATE items SET row_crc = summed(id, {COLUMNS})")
    process = os.fork()
    if not process:
        del catalog
        writer.close()
        del writer
        gc.collect()
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
writer.close()
read = Retriever.load(path, embedder=Given())
assert {read[key].label for key in read} == {"new"}
""",
    )


def test_the_lock_belongs_to_the_parent_alone(tmp_path):
    """A worker that lives on keeps nobody from writing."""
    run(
        tmp_path,
        """
writer = fill(Retriever.open(path, "a", embedder=Given()))
read, write = os.pipe()
process = os.fork()
if not process:
    os.close(write)
    os.read(read, 1)  # until the parent has closed it
    os._exit(0)
writer.close()
Retriever.open(path, "r+", embedder=Given()).close()
os.close(write)
os.waitpid(process, 0)
""",
    )


def test_a_reader_is_read_in_a_child_and_opens_the_file_again(tmp_path):
    run(
        tmp_path,
        """
fill(Retriever.open(path, "a", embedder=Given())).close()
reader = Retriever.open(path, embedder=Given())
expected, lazy = found(reader), reader.search_vectors(V[:5], 2)
connection = reader._gallery.store.catalog._connection

def work():
    assert reader._gallery.store.catalog._connection is not connection
    assert [hits[0].key for hits in lazy] == [f"k{n}" for n in range(5)]
    assert found(reader) == expected and reader["k2"].label == "l2"
    assert len(reader.search_vectors(V[:1], 9, where={"label": "l3"})[0]) == 9
    assert child(lambda: found(reader)) == 0  # and so on
    reader.close()

with ThreadPoolExecutor(2) as pool:
    assert list(pool.map(lambda _: child(work), range(4))) == [0] * 4
with Retriever.open(path, "r+", embedder=Given()) as writer:
    writer.remove("k0")
assert child(work) == 0  # what it saw when it was opened
fill(Retriever(embedder=Given())).save(path)

def elsewhere():
    try:
        reader["k0"]
    except StoreNotFoundError as error:
        assert "another gallery has replaced the one" in str(error)
    else:
        raise AssertionError("read another gallery")

assert child(elsewhere) == 0
""",
    )


# -- hangs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["flat", "hnsw", "ivf", "ivf-pq", "hnsw-sq8", "exact"])
def test_everything_that_searches_in_a_child_after_the_parent_used_several_threads(tmp_path, index):
    run(
        tmp_path,
        f"""
import faiss
memory = fill(Retriever(embedder=Given(), index={index!r}))
faiss.omp_set_num_threads(4)
expected = found(memory)

def work():
    assert found(memory) == expected
    with ThreadPoolExecutor(3) as pool:  # threads of the child, and a child of one of them
        assert list(pool.map(lambda _: found(memory) == expected, range(3))) == [True] * 3
        assert pool.submit(lambda: child(lambda: found(memory))).result() == 0
    assert child(lambda: found(memory)) == 0
    memory.duplicates(0.9), memory.outliers(), memory.evaluate()
    memory.neighbor_graph(15)
    if {index!r} == "flat":  # after the graph, a map is the same for all, and takes seconds
        memory.map2d()
    memory.classify(np.zeros((9, 9, 3), np.uint8))
    memory.search_vectors(V[:3], 5, rerank="k-reciprocal")
    memory.remove("k0"), memory.add_vectors(V[:1], keys=["k0"])  # a copy of its own
    for other in ("hnsw", "ivf", "flat"):
        memory.reindex(other)
    memory.project("pca", dim=16)
    found(memory)

assert child(work, 80) == 0
assert len(memory) == N and found(memory) == expected
""",
        OMP_NUM_THREADS="4",
    )


def test_a_fork_while_faiss_looks_for_ctrl_c(tmp_path):
    """It locks a mutex for that, and then waits for this thread, which keeps the interpreter."""
    run(
        tmp_path,
        """
from imgret.indexes.faiss import HNSWIndex

sys.setswitchinterval(60)
stop, some = threading.Event(), V[:9] / np.linalg.norm(V[:9], axis=1, keepdims=True)

def build():
    while not stop.is_set():
        HNSWIndex(32).add(some, np.arange(9))

thread = threading.Thread(target=build, daemon=True)
thread.start()
for _ in range(8):
    time.sleep(0.02)
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        pass
    assert thread.is_alive()
    assert child(lambda: found(fill(Retriever(embedder=Given(), index="hnsw")), 3), 20) == 0
stop.set()
thread.join()
""",
        OMP_NUM_THREADS="1",
    )


def test_forks_while_threads_search_and_add(tmp_path):
    """Whatever lock a thread holds at that moment, nobody waits for it in the child."""
    run(
        tmp_path,
        """
memory = fill(Retriever(embedder=Given(), index="hnsw"))
with Retriever.open(path, "a", embedder=Given()) as disk:
    fill(disk)
    stop, failed = threading.Event(), []

    def search():
        while not stop.is_set():
            found(memory, 50), found(disk, 50)
            disk.search_vectors(V[:1], 3, where={"n": {"$lt": int(time.time() * 1e4) % N}})

    def change():
        n = 0
        while not stop.is_set():
            for each in (memory, disk):
                each.add_vectors(V[:9] * 0.9, keys=[f"{n}.{m}" for m in range(9)])
            n += 1

    threads = [threading.Thread(target=work) for work in (search, search, change)]
    for thread in threads:
        thread.start()

    def work():
        there = len(memory)
        assert there == len(list(memory)) and (there - N) % 9 == 0
        assert all(len(keys) == 3 for keys in found(memory, 20))
        assert all(len(keys) == 3 for keys in found(disk, 20))
        memory.add_vectors(V[:1], keys=["mine"])
        assert memory.search_vectors(V[:1], there + 1)[0]
        disk.close()

    try:
        for _ in range(25):
            if child(work, 20):
                failed.append(_)
            time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed, failed
assert len(Retriever.load(path, embedder=Given())) > N
""",
        OMP_NUM_THREADS="1",
    )


@pytest.mark.parametrize("lock", ["index._lock", "_gallery.live._seeing"])
def test_an_index_that_was_being_changed_is_built_from_the_store(tmp_path, lock):
    run(
        tmp_path,
        f"""
memory = fill(Retriever(embedder=Given(), index="hnsw"))
index, held, leave = memory.index, threading.Event(), threading.Event()

def change():
    with memory.{lock}.write():
        held.set()
        leave.wait()

thread = threading.Thread(target=change)
thread.start()
held.wait()

def work():
    assert all(keys[0] == f"k{{n}}" for n, keys in enumerate(found(memory, 50)))
    assert memory.index is not index

assert child(work) == 0
leave.set()
thread.join()
assert memory.index is index
""",
    )


def test_forks_while_threads_embed(tmp_path):
    """Decoding silences OpenCV's log for the process, and a child has to be heard."""
    run(
        tmp_path,
        """
from imgret import images
from imgret.images.decoding import _set_log_level
pictures = [images.encode(np.full((64, 64, 3), n, np.uint8), "png") for n in range(8)]
level = _set_log_level(3)
memory = Retriever(embedder="flowers102")
expected = memory.embed(pictures)
stop = threading.Event()

def embed():
    while not stop.is_set():
        memory.embed(pictures, threads=1)

def work():
    assert _set_log_level(3) == 3
    assert np.allclose(memory.embed(pictures, threads=2), expected, atol=1e-5)

threads = [threading.Thread(target=embed) for _ in range(3)]
for thread in threads:
    thread.start()
try:
    failed = [n for n in range(15) if child(work, 30)]
finally:
    stop.set()
    for thread in threads:
        thread.join()
assert not failed, failed
""",
    )


# -- locks ---------------------------------------------------------------------------------------


def test_locks_in_a_child(tmp_path):
    run(
        tmp_path,
        """
from imgret.support.locks import ReadWriteLock, RLock

mine, theirs, brief = RLock(), RLock(), RLock(brief=True)
read, written, waited = ReadWriteLock(), ReadWriteLock(), ReadWriteLock()
inside, leave = threading.Barrier(5), threading.Event()

def hold(lock):
    with lock:
        inside.wait()
        leave.wait()

def wait(lock):
    with lock:
        pass

holders = [threading.Thread(target=hold, args=[lock])
           for lock in (theirs, read.read(), written.write(), waited.read())]
waiting = [threading.Thread(target=wait, args=[waited.write()])]
for thread in holders:
    thread.start()
inside.wait()
for thread in waiting:
    thread.start()
while not waited._writers_waiting:
    time.sleep(0.001)
changed = []

def briefly():
    with brief:
        changed.append("begun")
        time.sleep(0.2)
        changed.append("done")

thread = threading.Thread(target=briefly)
thread.start()
while not changed:
    time.sleep(0.001)

def work():
    assert changed == ["begun", "done"]  # the fork has waited
    assert not mine.acquire(blocking=False) or True
    for lock in (theirs, brief, read.read(), read.write(), waited.read(), waited.write()):
        with lock:
            pass
    assert not read.abandoned and not waited.abandoned and written.abandoned
    for lock in (written.read(), written.write()):
        try:
            with lock:
                raise AssertionError("it was half changed")
        except ImgretError as error:
            assert "another thread was changing" in str(error)

with mine:
    assert child(work) == 0
    def held():
        with mine:  # by the thread that forked
            pass
        other = threading.Thread(target=lambda: changed.append(mine.acquire(blocking=False)))
        other.start()
        other.join()
        assert changed[-1] is False
    assert child(held) == 0
assert mine.acquire() and brief.acquire()
leave.set()
""",
    )


def test_a_thread_that_forks_while_it_reads(tmp_path):
    """As a handler of signals may, between two steps of a decode."""
    run(
        tmp_path,
        """
from imgret.support.locks import ReadWriteLock

lock = ReadWriteLock(brief=True)

def work():
    assert lock.is_read
    with lock.write(while_reading=True):
        pass

signal.alarm(30)
with lock.read():
    assert child(work) == 0
with lock.write():
    pass
""",
    )


LOCKS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "Queue"}


def test_no_lock_is_made_elsewhere():
    """All come from `imgret.support.locks`, where a child finds them."""
    root = Path(imgret.__file__).parent
    made = []
    for file in root.rglob("*.py"):
        if file == root / "support" / "locks.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in {"threading", "queue"}:
                made += [(file.name, name.name) for name in node.names if name.name in LOCKS]
            if isinstance(node, ast.ImportFrom) and node.module == "functools":
                # has a lock in Python 3.11; `imgret.support.lazy` has another
                names = {name.name for name in node.names} & {"cached_property"}
                made += [(file.name, name) for name in names if file.name != "lazy.py"]
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in {"threading", "queue", "multiprocessing"}
                and node.attr in LOCKS
            ):
                made.append((file.name, node.attr))
    # Made again in a child, by `renew_in_child`.
    assert sorted(made) == [("isolation.py", "Condition"), ("limits.py", "Condition")]


def test_a_fork_waits_for_what_numpy_imports_on_first_use():
    code = (
        "import os, sys\n"
        "from imgret import Retriever\n"
        "child = os.fork()\n"
        "if not child: os._exit('numpy.ma' not in sys.modules)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
