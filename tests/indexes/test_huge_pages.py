"""Arrays of indexes move into huge pages beside searches; only their speed depends on it."""

import re
import threading
from pathlib import Path

import numpy as np
import pytest

from imgret.indexes import FactoryIndex, FlatIndex, HNSWIndex
from imgret.indexes.faiss import pages
from imgret.support.locks import ReadWriteLock
from imgret.testing.data import clustered

MB = 1 << 20


@pytest.fixture
def moved(monkeypatch):
    """Record what would be moved."""
    calls = []
    monkeypatch.setattr(pages, "_allowed", lambda: True)
    monkeypatch.setattr(pages, "_collapse", lambda *call: calls.append(call) or True)
    return calls


def follow(huge, *arrays):
    with huge._lock.write():
        huge.follow(lambda: arrays)
    huge.wait()


def test_whole_pages_of_large_arrays_are_moved_in_pieces(moved):
    start = 64 * MB + 16
    follow(pages.HugePages(ReadWriteLock()), (start, 21 * MB), (512 * MB, 3 * MB))
    assert moved == [
        (66 * MB, 8 * MB),
        (74 * MB, 8 * MB),
        (82 * MB, 2 * MB),  # the last megabyte is half a page
        (512 * MB, 2 * MB),
    ]


def test_small_arrays_stay(moved):
    huge = pages.HugePages(ReadWriteLock())
    follow(huge, (64 * MB, 8 * MB - 1), (0, 0))
    assert not moved
    assert huge._thread is None


def test_what_an_array_has_grown_by_is_moved_and_all_of_one_that_went_elsewhere(moved):
    huge = pages.HugePages(ReadWriteLock())
    follow(huge, (64 * MB, 8 * MB))
    follow(huge, (64 * MB, 14 * MB))  # too little to be worth it
    follow(huge, (64 * MB, 16 * MB))
    assert moved == [(64 * MB, 8 * MB), (72 * MB, 8 * MB)]
    follow(huge, (256 * MB, 16 * MB))
    assert moved[2:] == [(256 * MB, 8 * MB), (264 * MB, 8 * MB)]
    follow(huge, (64 * MB, 16 * MB))  # another array, at the place of the first
    assert moved[4:] == [(64 * MB, 8 * MB), (72 * MB, 8 * MB)]


def test_where_the_system_has_none_it_is_not_asked_again(moved, monkeypatch):
    monkeypatch.setattr(pages, "_collapse", lambda *call: bool(moved.append(call)))
    huge = pages.HugePages(ReadWriteLock())
    for _ in range(2):
        follow(huge, (64 * MB, 32 * MB))
    assert moved == [(64 * MB, 8 * MB)]


def test_a_change_does_not_wait_for_all_of_it(monkeypatch):
    lock, goes_on, changed = ReadWriteLock(), threading.Event(), threading.Event()

    def collapse(*_):
        goes_on.set()
        return changed.wait(0.01) or True

    monkeypatch.setattr(pages, "_allowed", lambda: True)
    monkeypatch.setattr(pages, "_collapse", collapse)
    huge, arrays = pages.HugePages(lock), [(64 * MB, 2000 * MB)]
    with lock.write():
        huge.follow(lambda: arrays)
    assert goes_on.wait(10)
    with lock.write():  # among 250 pieces
        arrays[:] = []
        left = huge._ends.copy()
    changed.set()
    huge.wait()
    assert left[64 * MB] < 2064 * MB


def test_where_no_thread_can_be_started_arrays_stay(moved, monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    huge = pages.HugePages(ReadWriteLock())
    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", start)
        follow(huge, (64 * MB, 8 * MB))
    assert not moved
    follow(huge, (64 * MB, 8 * MB))
    assert moved


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("always [madvise] never\n", True),
        ("[always] madvise never", True),
        ("[never]", False),
    ],
)
def test_who_runs_the_machine_may_forbid_it(setting, allowed, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "_SETTING", tmp_path / "enabled")
    monkeypatch.setattr(pages.sys, "platform", "linux")
    assert pages._allowed.__wrapped__() is False  # there is no such setting
    (tmp_path / "enabled").write_text(setting)
    assert pages._allowed.__wrapped__() is allowed


@pytest.mark.parametrize("make", [FlatIndex, lambda dim: HNSWIndex(dim, M=8, ef_construction=16)])
def test_searches_find_the_same_while_and_after_arrays_are_moved(make):
    vectors, _ = clustered(20_000, 128, seed=1)
    index = make(128)
    for start in range(0, len(vectors), 4000):
        part = slice(start, start + 4000)
        index.add(vectors[part], np.arange(start, start + 4000))
        ids, _ = index.search(vectors[start : start + 20], 1)
        assert (ids[:, 0] == np.arange(start, start + 20)).mean() > 0.9
    before = index.search(vectors[:200], 5)
    index._huge_pages.wait()
    after = index.search(vectors[:200], 5)
    np.testing.assert_array_equal(after.ids, before.ids)
    np.testing.assert_array_equal(after.scores, before.scores)


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "PCA64,Flat", "HNSW8_SQ8"])
def test_arrays_of_a_factory_index_are_moved(factory, moved):
    index = FactoryIndex(factory, dim=128)
    vectors, ids = clustered(1000, 128, seed=1)
    index.train(vectors)
    index.add(vectors, ids)
    sizes = {"Flat": 4 * 128, "HNSW8": 4 * 128, "PCA64,Flat": 4 * 64, "HNSW8_SQ8": 128}
    assert index._arrays()[0][1] == 1000 * sizes[factory]
    assert len(index._arrays()) == 1 + factory.startswith("HNSW")
    index._arrays = lambda: [(64 * MB, 8 * MB)]
    index.add(vectors, ids + 10_000)
    index._huge_pages.wait()
    assert moved == [(64 * MB, 8 * MB)]


def test_linux_moves_them():
    index = FlatIndex(128)
    index.add(np.ones((25_000, 128), dtype=np.float32), np.arange(25_000))
    index._huge_pages.wait()
    ((address, size),) = index._arrays()
    if not (pages._allowed() and pages._collapse(-(-address // (2 * MB)) * 2 * MB, 2 * MB)):
        pytest.skip("huge pages cannot be had here")
    assert in_huge_pages(address, size) >= 8 * MB


def in_huge_pages(address, size):
    """Bytes in huge pages of the mappings that hold an array."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if place := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            first, last = (int(number, 16) for number in place.groups())
            inside = first < address + size and address < last
        elif inside and line.startswith("AnonHugePages:"):
            found += int(line.split()[1]) << 10
    return found
