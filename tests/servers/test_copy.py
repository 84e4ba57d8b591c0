"""Galleries copied from a directory to PostgreSQL and back."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'imgret[postgres]'")

from imgret import Retriever  # after the check
from imgret.errors import InvalidInputError, StoreError, StoreExistsError
from imgret.transfer import copy as copying

WHY = Path(__file__).parents[2] / "docs" / "images" / "why.jpg"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A gallery whose items have everything, with a calibration."""
    path = tmp_path_factory.mktemp("made") / "a.imgret"
    rng = np.random.default_rng(0)
    with Retriever.open(path, "a", index="hnsw") as retriever:
        retriever.add_vectors(
            rng.standard_normal((40, 1280)) * rng.choice([1e-6, 1, 100], (40, 1)),
            keys=[f"ü/{i}.jpg" for i in range(40)],
            labels=[None if i % 3 == 0 else f"class {i % 3}" for i in range(40)],
            metadata=[{"n": i, "deep": {"a": [1, None, "x"]}, "half": i / 2} for i in range(40)],
        )
        retriever.add(WHY, exif=True)
        retriever.remove(["ü/7.jpg", "ü/8.jpg"])
        retriever.calibrate()
        retriever._gallery.configure({"index": "hnsw", "settings": {"ef_search": 24}})
    return path


@pytest.fixture
def source(made, tmp_path):
    return shutil.copytree(made, tmp_path / "a.imgret")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(copying, "_ITEMS", 8)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(uri):
    with Retriever.open(uri) as retriever:
        return [retriever[key] for key in retriever], retriever.embeddings(), retriever.calibration


def assert_equal(a, b):
    (items, rows, curve), (other_items, other_rows, other_curve) = contents(a), contents(b)
    assert items == other_items
    np.testing.assert_array_equal(rows, other_rows)
    assert curve == other_curve is not None


def test_there_and_back(source, pg_uri, tmp_path, small):
    there = Retriever.copy(source, pg_uri)
    assert (there.copied, there.total, there.index) == (39, 39, "hnsw")
    assert there.notes == ["search options were tuned for the other index; run `imgret tune`"]
    assert_equal(source, pg_uri)
    back = Retriever.copy(pg_uri, tmp_path / "b.imgret", index="flat")
    assert (back.copied, back.index) == (39, "flat")
    assert_equal(source, tmp_path / "b.imgret")
    again = Retriever.copy(source, pg_uri)
    assert (again.copied, again.unchanged) == (0, 39)


def test_a_projection_is_left_out_and_reported(source, pg_uri, tmp_path):
    with Retriever.open(source, "r+") as retriever:
        retriever.project("pca", dim=8)
        retriever.calibrate()
        retriever.reindex("auto")
    report = Retriever.copy(source, pg_uri)
    assert report.index == "hnsw"
    for note, words in zip(
        report.notes,
        ("no 'auto'", "projection (pca to 8-d)", "`imgret calibrate`"),
        strict=True,
    ):
        assert words in note
    with Retriever.open(pg_uri) as retriever:
        assert retriever.calibration is None


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
def test_a_killed_copy_goes_on(source, pg_uri, small):
    code = KILLED.format(source=str(source), target=pg_uri)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    report = Retriever.copy(source, pg_uri)
    assert (report.unchanged, report.copied) == (16, 23)
    assert_equal(source, pg_uri)


def test_other_items_are_refused(source, pg_uri):
    with Retriever.open(pg_uri, "a") as retriever:
        retriever.add_vectors(np.ones((1, 1280)), keys=["mine"])
    with pytest.raises(StoreExistsError, match="found 'mine' in place of"):
        Retriever.copy(source, pg_uri)
    with Retriever.open(pg_uri) as retriever:
        assert list(retriever) == ["mine"]


def test_mistakes_leave_nothing(source, own_postgres, tmp_path):
    pg_uri = own_postgres.uri
    for given, target, options, error in (
        (tmp_path / "no", pg_uri, {}, StoreError),
        (source, pg_uri, {"index": "ivf-pq"}, NotImplementedError),
        (pg_uri, tmp_path / "new", {}, StoreError),
        (source, "postgresql://127.0.0.1:9/x", {}, StoreError),
    ):
        with pytest.raises(error):
            Retriever.copy(given, target, **options)
    assert names(tmp_path) == ["a.imgret"]
    with pytest.raises(FileNotFoundError):
        Retriever.open(pg_uri)
    with Retriever.open(source, "r+") as retriever:
        retriever._gallery.change({"ü/0.jpg": _renamed(retriever["ü/0.jpg"])})
    with pytest.raises(InvalidInputError, match="at most"):
        Retriever.copy(source, pg_uri)
    with pytest.raises(FileNotFoundError):  # the batch was refused as a whole
        Retriever.open(pg_uri)


def _renamed(item):
    from dataclasses import replace

    return replace(item, key="k" * 4000)
