"""Galleries copied to another directory: what is copied, what is refused, what a kill leaves."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import (
    InvalidInputError,
    StoreError,
    StoreExistsError,
    StoreMismatchError,
    StoreNotFoundError,
)
from imgret.transfer import copy as copying

ITEMS = 40
DIM = 1280


def fill(path, n=ITEMS, start=0):
    """Make a gallery in which items have everything, or add to it."""
    rng = np.random.default_rng(start)
    with Retriever.open(path, "a", index="hnsw") as retriever:
        retriever.add_vectors(
            rng.standard_normal((n, DIM)),
            keys=[f"ü/{start + i}.jpg" for i in range(n)],
            labels=[None if i % 3 == 0 else f"class {i % 3}" for i in range(n)],
            metadata=[{"n": i, "deep": {"a": [1, None, "x"]}, "half": i / 2} for i in range(n)],
        )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(path):
    with Retriever.open(path) as retriever:
        return [retriever[key] for key in retriever], retriever.embeddings()


def assert_equal(a, b):
    (items, rows), (other_items, other_rows) = contents(a), contents(b)
    assert items == other_items
    np.testing.assert_array_equal(rows, other_rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "a.imgret"
    fill(path)
    with Retriever.open(path, "r+") as retriever:
        retriever.add(Path(__file__).parents[2] / "docs" / "images" / "why.jpg", exif=True)
        retriever.remove(["ü/7.jpg", "ü/8.jpg"])
        retriever.project("pca", dim=8)
        retriever.calibrate()
        retriever._gallery.configure({"index": "hnsw", "settings": {"ef_search": 24}})
    return path


@pytest.fixture
def source(made, tmp_path):
    return shutil.copytree(made, tmp_path / "a.imgret")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(copying, "_ITEMS", 8)


@pytest.mark.slow
def test_a_copy_is_equal_in_everything(source, tmp_path, small):
    seen = []
    report = Retriever.copy(
        source, tmp_path / "deep" / "b.imgret", progress=lambda *done: seen.append(done)
    )
    n = len(contents(source)[0])
    assert (report.copied, report.unchanged, report.total) == (n, 0, n)
    assert (report.index, report.notes) == ("hnsw", [])
    assert seen[0] == (0, n)
    assert seen[-1] == (n, n)
    assert_equal(source, tmp_path / "deep" / "b.imgret")
    with Retriever.open(source) as a, Retriever.open(tmp_path / "deep" / "b.imgret") as b:
        assert a._gallery.spec.with_(files={}, created="") == b._gallery.spec.with_(
            files={}, created=""
        )
        assert a.calibration == b.calibration is not None
        query = a.embeddings(["ü/3.jpg"])[0]
        assert [h.key for h in a.search_vectors([query], k=5)[0]] == [
            h.key for h in b.search_vectors([query], k=5)[0]
        ]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["b.imgret"]


def test_an_empty_gallery_and_another_index(tmp_path):
    Retriever.open(tmp_path / "a", "a").close()
    report = Retriever.copy(tmp_path / "a", tmp_path / "b", index="hnsw")
    assert (report.total, report.index) == (0, "hnsw")
    fill(tmp_path / "c")
    report = Retriever.copy(tmp_path / "c", tmp_path / "d", index="flat", progress=False)
    assert (report.copied, report.index) == (ITEMS, "flat")


def test_again_it_sends_what_is_new(source, tmp_path, small):
    target = tmp_path / "b.imgret"
    before = Retriever.copy(source, target).total
    again = Retriever.copy(source, target)
    assert (again.copied, again.unchanged) == (0, before)
    fill(source, 12, start=100)
    again = Retriever.copy(source, target)
    assert (again.copied, again.unchanged) == (12, before)
    assert_equal(source, target)


KILLED = """
import os, signal
from imgret import Retriever
from imgret.transfer import copy
copy._ITEMS = 8
def progress(done, total):
    if done >= 16:
        os.kill(os.getpid(), signal.SIGKILL)
Retriever.copy({source!r}, {target!r}, progress=progress)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by a signal")
def test_a_killed_copy_goes_on(source, tmp_path, small):
    target = tmp_path / "b.imgret"
    code = KILLED.format(source=str(source), target=str(target))
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not target.exists()  # nobody takes a part for the whole
    assert (tmp_path / ".b.imgret.copying").is_dir()
    report = Retriever.copy(source, target)
    assert (report.unchanged, report.copied) == (16, report.total - 16)
    assert_equal(source, target)
    assert not (tmp_path / ".b.imgret.copying").exists()


def test_what_a_copy_of_something_else_left_is_begun_again(source, tmp_path, small):
    fill(tmp_path / ".b.imgret.copying", start=500)
    report = Retriever.copy(source, tmp_path / "b.imgret")
    assert report.unchanged == 0
    assert_equal(source, tmp_path / "b.imgret")


def test_a_target_with_other_items_is_refused(source, tmp_path):
    target = tmp_path / "b.imgret"
    fill(target, 20, start=500)
    before = contents(target)
    with pytest.raises(StoreExistsError, match="found 'ü/500.jpg' in place of"):
        Retriever.copy(source, target)
    assert contents(target)[0] == before[0]
    shutil.rmtree(target)
    Retriever.copy(source, target)
    with Retriever.open(target, "r+") as retriever:
        retriever.update("ü/20.jpg", label="changed")
    with pytest.raises(StoreExistsError, match="'ü/20.jpg' with other contents"):
        Retriever.copy(source, target)
    with Retriever.open(target, "r+") as retriever:
        retriever.add_vectors(np.ones((1, DIM)), keys=["more"])
    with pytest.raises(StoreExistsError, match="more than the"):
        Retriever.copy(source, target)


def test_mistakes_leave_nothing(source, mean_color, tmp_path):
    Retriever.open(tmp_path / "l2", "a", metric="l2").close()
    Retriever.open(tmp_path / "other", "a", embedder=mean_color).close()
    (tmp_path / "file").write_text("x")
    before = names(tmp_path)
    for given, target, options, error in (
        (source, source, {}, InvalidInputError),
        (tmp_path / "no", tmp_path / "new", {}, StoreNotFoundError),
        (source, tmp_path / "l2", {}, StoreMismatchError),
        (source, tmp_path / "other", {}, StoreMismatchError),
        (source, tmp_path / "file", {}, StoreError),
        (source, tmp_path / "new", {"index": "hnws"}, LookupError),
    ):
        with pytest.raises(error):
            Retriever.copy(given, target, **options)
        assert names(tmp_path) == before


def test_a_damaged_source_is_found_before_anything_is_sent(source, tmp_path):
    vectors = source / "vectors.f16"
    data = bytearray(vectors.read_bytes())
    data[:4] = b"\xff\x7b\xff\x7b"
    vectors.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        Retriever.copy(source, tmp_path / "b.imgret")
    assert sorted(path.name for path in tmp_path.iterdir() if "b.imgret" in path.name) == []
