"""Galleries and pools of processes, as multiprocessing starts them, and pickling."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import StoreClosedError, UnsupportedError

pytestmark = pytest.mark.slow

ROWS = np.random.default_rng(0).standard_normal((30, 48)).astype(np.float32)
KEYS = [f"k{n}" for n in range(30)]
START = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import numpy as np
from imgret import Embedder, Retriever
from imgret.errors import *

class Given(Embedder):
    name, dim, fingerprint = "given", 32, "given"
    def config(self):
        return {}
    def _embed(self, images):
        return np.stack([np.resize(image, 32).astype(np.float32) + 1 for image in images])

V = np.random.default_rng(0).standard_normal((300, 32)).astype(np.float32)
path = Path(__file__).with_name("g.imgret")

def nearest(retriever, n):
    return [hit.key for hit in retriever.search_vectors(V[n : n + 1], 3)[0]]
"""


def run(tmp_path, program, *arguments):
    """Run a program from a file, as spawned workers import it."""
    file = tmp_path / "program.py"
    file.write_text(START + textwrap.dedent(program))
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", file, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "done\n", ended.stdout + ended.stderr


POOLS = """
def start(*given):  # opened here, and opened by the parent: forked or pickled
    global retrievers
    retrievers = [Retriever.open(given[0], embedder=Given()), given[1]]

def work(n):
    return [nearest(retriever, n) for retriever in retrievers]

def write():
    try:
        retrievers[1].add_vectors(V[:1], keys=["new"])
    except StoreReadOnlyError:
        return "refused"

if __name__ == "__main__":
    with Retriever.open(path, "a", embedder=Given(), index="hnsw") as writer:
        writer.add_vectors(V, keys=[f"k{n}" for n in range(300)])
    reader = Retriever.open(path, embedder=Given())
    expected = [nearest(reader, n) for n in range(40)]
    context = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(
        2, mp_context=context, initializer=start, initargs=(path, reader)
    ) as pool:
        assert list(pool.map(work, range(40), chunksize=5)) == [[each] * 2 for each in expected]
        assert pool.submit(write).result() == "refused"
        assert pool.submit(nearest, reader, 3).result() == expected[3]  # sent with a task
    if sys.argv[1] == "fork":
        with context.Pool(2, start, (path, reader)) as pool:  # of the other module
            assert pool.map(work, range(40)) == [[each] * 2 for each in expected]
    assert nearest(reader, 0) == expected[0]
    print("done")
"""


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("fork", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")),
        "spawn",
        pytest.param(
            "forkserver", marks=pytest.mark.skipif(sys.platform == "win32", reason="no forkserver")
        ),
    ],
)
def test_pools(tmp_path, method):
    run(tmp_path, POOLS, method)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_server_that_is_loaded_before_it_forks(tmp_path):
    """As ``gunicorn --preload``: workers that answer, die and are started again."""
    run(
        tmp_path,
        """
with Retriever.open(path, "a", embedder=Given(), index="ivf") as writer:
    writer.add_vectors(V, keys=[f"k{n}" for n in range(300)])
app = Retriever.open(path, embedder=Given())
images = [np.full((9, 9, 3), n, np.uint8) for n in range(8)]
expected = [[hit.key for hit in hits] for hits in app.search_many(images, k=3)]

def worker():
    for _ in range(3):
        answers = [[hit.key for hit in hits] for hits in app.search_many(images, k=3)]
        assert answers == expected
        assert [nearest(app, n)[0] for n in range(20)] == [f"k{n}" for n in range(20)]

def start():
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        worker()
        code = 0
    finally:
        os._exit(code)

for _ in range(3):  # each generation beside the master, which answers as well
    processes = [start() for _ in range(3)]
    worker()
    for process in processes:
        assert os.waitpid(process, 0)[1] == 0
print("done")
""",
    )


# -- pickling --------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path, mean_color):
    place = tmp_path / "g.imgret"
    with Retriever.open(place, "a", embedder=mean_color) as writer:
        writer.add_vectors(ROWS, keys=KEYS)
    return place


def test_a_reader_is_opened_again_from_its_path(path, mean_color, tmp_path, monkeypatch):
    reader = Retriever.open(path, embedder=mean_color, max_pixels=1234)
    content = pickle.dumps(reader)
    assert len(content) < 1000 + len(pickle.dumps(mean_color))  # no items, no index
    monkeypatch.chdir(tmp_path.parent)
    for other in (pickle.loads(content), copy.copy(reader), copy.deepcopy(reader)):
        assert list(other) == KEYS
        assert other._pipeline.max_pixels == 1234
        assert not other._gallery.writable
        assert other.search_vectors(ROWS[:1], 1)[0][0].key == "k0"
        other.close()
    assert len(reader) == 30  # which is still open


def test_built_in_models_are_found_again(tmp_path):
    picture = np.full((30, 30, 3), 90, np.uint8)
    with Retriever.open(tmp_path / "g.imgret", "a", cropper="center") as writer:
        writer.add(picture, keys="a")
    content = pickle.dumps(Retriever.open(tmp_path / "g.imgret"))
    assert len(content) < 500
    assert pickle.loads(content).search(picture, k=1)[0].key == "a"


def test_what_is_not_on_disk_or_written_is_refused_by_name(path, mean_color):
    memory = Retriever(embedder=mean_color)
    with pytest.raises(UnsupportedError, match=r"gallery: .* in memory.*save\(\) it and open it"):
        pickle.dumps(memory)
    with Retriever.open(path, "r+", embedder=mean_color) as writer:
        with pytest.raises(UnsupportedError, match=r"g\.imgret: .*open it for reading there"):
            pickle.dumps(writer)
        writer.remove("k0")
    with pytest.raises(StoreClosedError):
        pickle.dumps(writer)
