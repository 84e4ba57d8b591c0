"""A flipped bit never changes an answer in silence; a check finds it; a repair keeps the rest."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import Embedder, Retriever
from imgret.errors import (
    ImgretError,
    StoreCorruptError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
    UnsupportedError,
)
from imgret.galleries.local import check as checking
from imgret.galleries.local import store as stores
from imgret.galleries.local.catalog import Catalog
from imgret.galleries.local.check import check_directory
from imgret.galleries.local.rows import COLUMNS, SUMMED_TEXT, row_checksum
from imgret.galleries.local.writer_lock import LOCK, WriterLock
from imgret.types import Box, Item

N, DIM = 60, 8
LABELS = ["meadow flower", "garden flower", "forest flower"]


class Given(Embedder):
    """An embedder that is never asked."""

    name = "given"
    dim = DIM
    fingerprint = "given"

    def config(self):
        return {}

    def _embed(self, images):
        raise NotImplementedError


def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)


def make(path: Path, *, index: str, dtype: str = "float16", projected: bool = False) -> Path:
    with Retriever.open(path, "a", embedder=Given(), index=index, dtype=dtype) as retriever:
        retriever.add_vectors(
            vectors(),
            keys=[f"image-{n:03d}" for n in range(N)],
            labels=[LABELS[n % 3] for n in range(N)],
            metadata=[{"number": n, "where": f"house {n}"} for n in range(N)],
        )
        retriever.remove(["image-007", "image-031"])
        retriever.update("image-005", label="vase")
        if projected:
            retriever.project("pca", dim=6)
        retriever.calibrate()
        retriever.create_filter_index("number")
    return path


KINDS = {
    "ivf-pq": {"index": "ivf-pq", "projected": True},
    "hnsw-sq8": {"index": "hnsw-sq8", "dtype": "float32"},
    "flat": {"index": "flat"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: make(folder / f"{name}.imgret", **how) for name, how in KINDS.items()}


@pytest.fixture
def gallery(made, tmp_path):
    return Path(shutil.copytree(made["ivf-pq"], tmp_path / "g.imgret"))


def answers(retriever: Retriever) -> dict[str, object]:
    """What users get of a gallery; filters are left out, see `test_what_a_filter_misses`."""
    labels = retriever.view().labels
    hits = retriever.search_vectors(vectors()[:6] + 0.1, k=5)
    return {
        "spec": (retriever.metric, retriever.calibration, retriever.embedder.fingerprint),
        "hits": [[(h.key, h.score, h.label, h.metadata, h.probability) for h in hs] for hs in hits],
        "keys": list(retriever),
        "items": [retriever[f"image-{n:03d}"] for n in (3, 5, 59)],
        "labels": (labels.ids.tolist(), [labels.names[code] for code in labels.codes]),
        "origins": list(retriever.view().origins()),
        "vectors": retriever.embeddings().tolist(),
        "one": retriever.embeddings(["image-004"]).tolist(),
    }


def opened(path: Path) -> dict[str, object]:
    with Retriever.open(path, embedder=Given()) as retriever:
        return answers(retriever)


def loaded(path: Path) -> dict[str, object]:
    return answers(Retriever.load(path, embedder=Given()))


def flip(file: Path, place: int, bit: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(place)
        (byte,) = opened.read(1)
        opened.seek(place)
        opened.write(bytes([byte ^ 1 << bit]))


def flips(gallery: Path, count: int, seed: int):
    """Yield random bits, as many of each file."""
    draw = random.Random(seed)  # noqa: S311  # no secret
    files = sorted(f for f in gallery.rglob("*") if f.is_file() and f.name != LOCK)
    for number in range(count):
        file = files[number % len(files)]
        yield file, draw.randrange(file.stat().st_size), draw.randrange(8)


# Bits to flip in each kind of gallery: `nox -s attack` takes more of them.
FLIPS = int(os.environ.get("IMGRET_FLIPS", "66"))


@pytest.mark.filterwarnings("ignore")  # that a stored index is rebuilt
@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_changes_an_answer(made, kind, tmp_path):
    source, path = made[kind], tmp_path / "g.imgret"
    shutil.copytree(source, path)
    expected = opened(source)
    silent, found, refused = [], 0, 0
    for file, place, bit in flips(path, FLIPS, seed=len(kind)):
        flip(file, place, bit)
        for read in (opened, loaded):
            try:
                if read(path) != expected:
                    silent.append((file.name, place, bit))
            except ImgretError:
                refused += 1
        found += not check_directory(path).ok
        flip(file, place, bit)
    assert not silent
    assert found >= refused / 2
    assert refused > FLIPS / 6
    assert check_directory(path).ok
    assert opened(path) == expected
