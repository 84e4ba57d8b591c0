"""What opening a gallery leaves for the first search, and what may happen in between."""

import shutil
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from imgret import Retriever
from imgret.abc import VectorIndex
from imgret.galleries.local import LocalGallery
from imgret.galleries.local.live_index import LiveIndex
from imgret.types import Item

_INDEXES = ["hnsw", "ivf", "ivf-pq"]
_N = 600


@pytest.fixture
def vectors(mean_color):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, mean_color.dim), dtype=np.float32)
    noise = rng.standard_normal((_N + 300, mean_color.dim), dtype=np.float32)
    return centres[rng.integers(20, size=len(noise))] + 0.5 * noise


@pytest.fixture
def make(tmp_path, mean_color, vectors):
    def making(index, n=_N, name="g"):
        path = tmp_path / f"{name}.imgret"
        with Retriever.open(path, "a", embedder=mean_color, index=index) as retriever:
            retriever.add_vectors(vectors[:n], keys=names(0, n))
        return path

    return making


@pytest.fixture
def no_building(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the index was built")

    def forbid():
        monkeypatch.setattr(LiveIndex, "_build", refuse)

    return forbid


def names(start, stop):
    return [str(n) for n in range(start, stop)]


def found(retriever, vectors, k=5):
    return [[hit.key for hit in hits] for hits in retriever.search_vectors(vectors[:20], k)]


def nearest(vectors, numbers, k=5):
    """Say what a search among these vectors finds, by brute force."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-(unit[:20] @ unit[numbers].T), axis=1, kind="stable")[:, :k]
    return [[str(numbers[place]) for place in row] for row in order]


def right(answers, expected):
    pairs = [(set(a), set(e)) for a, e in zip(answers, expected, strict=True)]
    return sum(len(a & e) for a, e in pairs) / sum(len(e) for _, e in pairs)


@pytest.mark.parametrize("index", [*_INDEXES, "flat"])
def test_opening_reads_neither_index_nor_vectors(make, mean_color, vectors, monkeypatch, index):
    path = make(index)
    read = []
    load = VectorIndex.load_state
    build = LiveIndex._build
    monkeypatch.setattr(
        VectorIndex, "load_state", lambda self, at: (read.append("index"), load(self, at))[1]
    )
    monkeypatch.setattr(
        LiveIndex, "_build", lambda *a, **k: (read.append("vectors"), build(*a, **k))[1]
    )
    for mode in ("r", "r+"):
        with Retriever.open(path, mode, embedder=mean_color) as retriever:
            assert len(retriever) == _N
            assert "17" in retriever
            assert retriever["17"].key == "17"
            assert f"index {index!r}" in repr(retriever)
            np.testing.assert_allclose(retriever.embeddings(["17"])[0], vectors[17], rtol=1e-3)
            assert read == []
    with Retriever.open(path, embedder=mean_color) as retriever:
        assert found(retriever, vectors[17:18], 1) == [["17"]]
        found(retriever, vectors)
        assert read == ["vectors" if index == "flat" else "index"]


def test_a_stored_index_grows_as_items_come(make, vectors, monkeypatch):
    with closing(LocalGallery.open(str(make("hnsw")), writable=True)) as gallery:
        gallery.add([Item(key) for key in names(_N, _N + 300)], vectors[_N:])
        monkeypatch.setattr(LiveIndex, "_add", None)  # there is nothing left to add
        assert len(gallery.index) == _N + 300


@pytest.mark.parametrize(("options", "chosen"), [({}, "flat"), ({"memory_bytes": 1}, "faiss:SQ4")])
def test_what_auto_chose_is_known_before_the_index_is_read(
    make, mean_color, monkeypatch, options, chosen
):
    path = make("auto")
    with Retriever.open(path, "r+", embedder=mean_color) as retriever:
        retriever.reindex("auto", **options)
        named, why = repr(retriever), retriever.index_reason
        assert f"'auto' ({chosen})" in named
        assert str(_N) in why
    monkeypatch.setattr(LiveIndex, "sync", None)
    with Retriever.open(path, embedder=mean_color) as retriever:
        assert (repr(retriever), retriever.index_reason) == (named, why)


@pytest.mark.parametrize("index", _INDEXES)
@pytest.mark.parametrize("waits", [True, False])
def test_a_reader_that_waits_sees_what_it_opened(
    make, mean_color, vectors, no_building, index, waits
):
    path = make(index)
    with Retriever.open(path, "r+", embedder=mean_color) as writer:
        writer.remove(names(40, 60))
    reader = Retriever.open(path, embedder=mean_color)
    if not waits:
        found(reader, vectors)
    with Retriever.open(path, "r+", embedder=mean_color) as writer:
        writer.remove(names(0, 10))  # what is asked for, among others
        writer.add_vectors(vectors[_N : _N + 100], keys=names(_N, _N + 100))
        writer.remove(names(_N, _N + 3))
        writer.add_vectors(vectors[:5], keys=names(0, 5))
    no_building()
    with reader:
        seen = [n for n in range(_N) if not 40 <= n < 60]
        answers = found(reader, vectors)
        assert len(reader.index) == len(reader) == len(seen)
        assert right(answers, nearest(vectors, seen)) > 0.9
        assert right([keys[:1] for keys in answers[:10]], [[n] for n in names(0, 10)]) >= 0.9
        below = reader.search_vectors(vectors[:5], 3, where={"key": {"$in": names(3, 600)}})
        assert [hits[0].key for hits in below][3:] == ["3", "4"]


@pytest.mark.parametrize("index", ["hnsw", "ivf-pq"])
def test_a_copy_of_what_such_a_reader_sees(make, mean_color, vectors, tmp_path, index):
    path = make(index)
    reader = Retriever.open(path, embedder=mean_color)
    with Retriever.open(path, "r+", embedder=mean_color) as writer:
        writer.remove(names(0, 10))
        writer.add_vectors(vectors[_N : _N + 100], keys=names(_N, _N + 100))
    with reader:
        found(reader, vectors)
        reader.save(tmp_path / "copy.imgret")
    # Its ids are in another order than searches beside a writer count on.
    assert not (tmp_path / "copy.imgret" / "index").exists()
    with Retriever.open(tmp_path / "copy.imgret", "r+", embedder=mean_color) as copy:
        there = sorted(int(key) for key in copy)
        assert right(found(copy, vectors), nearest(vectors, there)) > 0.9
        copy.remove(names(20, 30))
        copy.add_vectors(vectors[_N + 100 :], keys=names(_N + 100, _N + 300))
        there = sorted(int(key) for key in copy)
        assert len(copy.index) == len(there)
        assert right(found(copy, vectors), nearest(vectors, there)) > 0.9


@pytest.mark.parametrize("index", ["hnsw", "ivf-pq"])
def test_another_gallery_in_its_place(make, mean_color, vectors, tmp_path, index):
    """Of as many items and changes: only the file tells."""
    path = make(index)
    with Retriever.open(path, embedder=mean_color) as reader:
        other = Retriever(embedder=mean_color, index=index)
        other.add_vectors(vectors[300:], keys=names(0, _N))
        other.save(path)
        assert right(found(reader, vectors), nearest(vectors, list(range(_N)))) > 0.9
    with Retriever.open(path, embedder=mean_color) as reader:
        assert found(reader, vectors[300:320], 1) == [[n] for n in names(0, 20)]


def test_an_index_replaced_while_it_is_read(make, mean_color, vectors, monkeypatch, no_building):
    path = make("ivf-pq")
    load, times = VectorIndex.load_state, []

    def replaced_meanwhile(self, state):
        if not times:
            times.append("broken off")
            with Retriever.open(path, "r+", embedder=mean_color) as writer:
                writer.add_vectors(vectors[_N:], keys=names(_N, _N + 300))
        times.append("read")
        return load(self, state)

    reader = Retriever.open(path, embedder=mean_color)
    monkeypatch.setattr(VectorIndex, "load_state", replaced_meanwhile)
    no_building()
    with reader, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert right(found(reader, vectors), nearest(vectors, list(range(_N)))) > 0.9
    # By the reader before the change and after it, and by the writer.
    assert times.count("read") == 3


@pytest.mark.parametrize("index", ["hnsw", "ivf-pq"])
def test_first_searches_at_once(make, mean_color, vectors, monkeypatch, index):
    """No thread sees an index that is read, but lacks what was added since."""
    path = make(index)
    old = path.parent / "old"
    shutil.copytree(path / "index", old)
    with Retriever.open(path, "r+", embedder=mean_color) as writer:
        writer.add_vectors(vectors[_N:], keys=names(_N, _N + 300))
    shutil.rmtree(path / "index")
    shutil.copytree(old, path / "index")  # as if the writer had been killed
    pieces, begun = LiveIndex._pieces, threading.Event()

    def slowly(self, ids):
        begun.set()
        time.sleep(0.2)
        yield from pieces(self, ids)

    monkeypatch.setattr(LiveIndex, "_pieces", slowly)

    def ask(_=None):
        answers = found(reader, vectors[_N:], 1)
        return right(answers, [[n] for n in names(_N, _N + 20)])

    with Retriever.open(path, embedder=mean_color) as reader, ThreadPoolExecutor(4) as threads:
        first = threads.map(ask, range(4))
        begun.wait()
        assert ask() > 0.9
        assert min(first) > 0.9


def test_saving_brings_the_stored_index_up_to_date(make, mean_color, vectors, no_building):
    path = make("hnsw")
    old = path.parent / "old"
    shutil.copytree(path / "index", old)
    with Retriever.open(path, "r+", embedder=mean_color) as writer:
        writer.add_vectors(vectors[_N:], keys=names(_N, _N + 300))
    expected = (path / "index" / "checkpoint.json").read_bytes()
    shutil.rmtree(path / "index")
    shutil.copytree(old, path / "index")
    with Retriever.open(path, "r+", embedder=mean_color):
        pass  # nothing was asked of it
    assert (path / "index" / "checkpoint.json").read_bytes() != expected
    no_building()
    with Retriever.open(path, "r+", embedder=mean_color) as writer:
        writer.save()
    assert (path / "index" / "checkpoint.json").read_bytes() == expected


@pytest.mark.parametrize("index", ["hnsw", "flat"])
def test_a_gallery_in_memory_needs_its_files_no_more(make, mean_color, vectors, index):
    path = make(index)
    retriever = Retriever.load(path, embedder=mean_color)
    shutil.rmtree(path)
    assert found(retriever, vectors, 1) == [[n] for n in names(0, 20)]
