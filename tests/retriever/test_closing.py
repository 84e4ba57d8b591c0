"""close() beside whatever reads: it is done as if nothing happened, or raises StoreClosedError."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import StoreClosedError
from imgret.galleries.local import vectors as module

N = 600
READS = {
    "search": lambda r, v, n: r.search_vectors(v[:1], 5, where={"n": {"$gt": n % (N - 9)}})[0][0],
    "lookup": lambda r, v, n: r[f"k{n % N}"],
    "keys": lambda r, v, n: (list(r), "k1" in r, len(r), repr(r)),
    "embeddings": lambda r, v, n: r.embeddings([f"k{n % N}", "k0"]),
    "all embeddings": lambda r, v, n: r.embeddings(),
    "by key": lambda r, v, n: r.search_key("k3", 4)[0],
    "names": lambda r, v, n: r.evaluate(k=(1, 3)),
    "duplicates": lambda r, v, n: r.duplicates(0.99),
    "plan": lambda r, v, n: r.explain(3, where={"n": {"$lt": n % N + 1}}),
    "copy": lambda r, v, n: r.outliers(),
}


@pytest.fixture
def path(tmp_path, mean_color):
    path = tmp_path / "g.imgret"
    vectors = np.random.default_rng(0).standard_normal((N, mean_color.dim)).astype(np.float32)
    with Retriever.open(path, "a", embedder=mean_color, index="hnsw-sq8") as retriever:
        retriever.add_vectors(
            vectors,
            keys=[f"k{n}" for n in range(N)],
            labels=[f"l{n % 5}" for n in range(N)],
            metadata=[{"n": n} for n in range(N)],
        )
    return path, vectors


@pytest.mark.slow
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "read"])
@pytest.mark.parametrize("name", READS)
def test_reading_while_it_is_closed(path, mean_color, monkeypatch, name, mapped):
    path, vectors = path
    if not mapped:
        monkeypatch.setattr(module, "_MAPPED_BYTES", 0)
    read, seen = READS[name], []
    for turn in range(3):
        retriever = Retriever.open(path, embedder=mean_color)
        retriever.search_vectors(vectors[:1])
        begun = threading.Barrier(4)

        def work(retriever=retriever, begun=begun):
            begun.wait()
            n, deadline = 0, time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    read(retriever, vectors, n)
                except StoreClosedError:
                    seen.append(None)
                    return
                except BaseException as error:  # noqa: BLE001  # what is tested
                    seen.append(error)
                    return
                n += 1

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait()
        time.sleep(0.02 * turn)
        retriever.close()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
    assert seen == [None] * 9


@pytest.mark.slow
@pytest.mark.parametrize("index", ["flat", "hnsw", "ivf-pq"])
def test_a_writer_that_is_dropped_frees_its_files_at_once(tmp_path, mean_color, index):
    rows = np.random.default_rng(0).standard_normal((600, 48))
    path, keys = tmp_path / "g.imgret", [f"k{n}" for n in range(600)]
    gc.collect()
    gc.disable()
    try:
        writer = Retriever.open(path, "a", embedder=mean_color, index=index)
        writer.add_vectors(rows, keys=keys, metadata=[{"n": n} for n in range(600)])
        assert writer.search_vectors(rows[:1], 3, where={"n": {"$lt": 50}})[0]
        store, catalog = (
            weakref.ref(each) for each in (writer._gallery.store, writer._gallery.store.catalog)
        )
        del writer
        assert store() is None
        assert catalog() is None
        if Path("/proc/self/fd").is_dir():
            opened = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
            assert not [each for each in opened if each.startswith(str(path))]
        with Retriever.open(path, "r+", embedder=mean_color) as again:  # no lock is left
            assert len(again) == 600
    finally:
        gc.enable()
