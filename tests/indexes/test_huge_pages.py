"""Arrays of indexes move into huge pages; only their speed depends on it."""

import re
from pathlib import Path

import numpy as np
import pytest

from imgret.indexes import FactoryIndex, FlatIndex, HNSWIndex
from imgret.indexes.faiss import pages
from imgret.testing.data import clustered

MB = 1 << 20


@pytest.fixture
def moved(monkeypatch):
    """Record what would be moved."""
    calls = []
    monkeypatch.setattr(pages, "_allowed", lambda: True)
    monkeypatch.setattr(pages, "_collapse", lambda *call: calls.append(call) or True)
    return calls


def test_whole_pages_of_large_arrays_are_moved(moved):
    start = 64 * MB + 16
    pages.HugePages().move([(start, 21 * MB), (512 * MB, 9 * MB)])
    assert moved == [(66 * MB, 18 * MB), (512 * MB, 8 * MB)]  # the last megabyte is half a page


def test_small_arrays_stay(moved):
    pages.HugePages().move([(64 * MB, 8 * MB - 1), (0, 0)])
    assert not moved


def test_what_an_array_has_grown_by_is_moved_and_all_of_one_that_went_elsewhere(moved):
    huge = pages.HugePages()
    huge.move([(64 * MB, 8 * MB)])
    huge.move([(64 * MB, 14 * MB)])  # too little to be worth it
    huge.move([(64 * MB, 16 * MB)])
    assert moved == [(64 * MB, 8 * MB), (72 * MB, 8 * MB)]
    huge.move([(256 * MB, 16 * MB)])
    assert moved[2:] == [(256 * MB, 16 * MB)]
    huge.move([(64 * MB, 16 * MB)])  # another array, at the place of the first
    assert moved[3:] == [(64 * MB, 16 * MB)]


def test_where_the_system_has_none_it_is_not_asked_again(moved, monkeypatch):
    monkeypatch.setattr(pages, "_collapse", lambda *call: bool(moved.append(call)))
    huge = pages.HugePages()
    for _ in range(2):
        huge.move([(64 * MB, 32 * MB)])
    assert moved == [(64 * MB, 32 * MB)]


def test_it_can_be_switched_off(monkeypatch, tmp_path):
    (tmp_path / "enabled").write_text("[always] madvise never")
    monkeypatch.setattr(pages, "_SETTING", tmp_path / "enabled")
    monkeypatch.setattr(pages.sys, "platform", "linux")
    assert pages._allowed.__wrapped__() is True
    monkeypatch.setenv("IMGRET_HUGE_PAGES", "0")
    assert pages._allowed.__wrapped__() is False


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
def test_searches_find_the_same_after_arrays_are_moved(make):
    vectors, _ = clustered(20_000, 128, seed=1)
    index = make(128)
    for start in range(0, len(vectors), 4000):
        part = slice(start, start + 4000)
        index.add(vectors[part], np.arange(start, start + 4000))
        ids, _ = index.search(vectors[start : start + 20], 1)
        assert (ids[:, 0] == np.arange(start, start + 20)).mean() > 0.9


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
    assert moved == [(64 * MB, 8 * MB)]


def test_linux_moves_them():
    index = FlatIndex(128)
    index.add(np.ones((25_000, 128), dtype=np.float32), np.arange(25_000))
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
