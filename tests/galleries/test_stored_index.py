"""The index stored beside a gallery: what is read of it, and when it is built again instead."""

from __future__ import annotations

import re
import shutil
import sys

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import ImgretError
from imgret.indexes import HNSWIndex
from imgret.testing.data import Given

N, DIM = 40, 8


def rows(seed=0):
    return np.random.default_rng(seed).standard_normal((N, DIM)).astype(np.float32)


def fill(path, seed=0):
    with Retriever.open(path, "a", embedder=Given(DIM), index="hnsw") as retriever:
        retriever.add_vectors(rows(seed), keys=[f"k{n}" for n in range(N)])
    return path


def nearest(retriever, seed=0):
    return [hits[0].key for hits in retriever.search_vectors(rows(seed), k=1)]


KEYS = [f"k{n}" for n in range(N)]


@pytest.fixture
def path(tmp_path):
    return fill(tmp_path / "g.imgret")


@pytest.fixture
def loads(monkeypatch):
    """How many items each index had that was read."""
    found, load = [], HNSWIndex.load_state

    def noted(index, state):
        load(index, state)
        found.append(len(index))

    monkeypatch.setattr(HNSWIndex, "load_state", noted)
    return found


@pytest.mark.parametrize(
    ("error", "said"),
    [(ImgretError("of ours"), "of ours"), (ValueError("odd"), r"ValueError\('odd'\)")],
)
def test_an_index_that_is_read_but_cannot_be_searched_is_built_again(
    path, monkeypatch, error, said
):
    find, errors = HNSWIndex.find, [error]

    def failing(*given, **how):
        if errors:
            raise errors.pop()
        return find(*given, **how)

    monkeypatch.setattr(HNSWIndex, "find", failing)
    with (
        Retriever.open(path, embedder=Given(DIM)) as retriever,
        pytest.warns(
            UserWarning, match=f"^{re.escape(str(path))}: the stored index .* is rebuilt: {said}$"
        ),
    ):
        assert nearest(retriever) == KEYS


def test_an_index_newer_than_the_items_of_a_writer_is_not_used(path, tmp_path, loads):
    """Nobody else writes, so the items were restored from an older copy."""
    shutil.copytree(path, tmp_path / "older")
    with Retriever.open(path, "r+", embedder=Given(DIM)) as retriever:
        retriever.add_vectors(rows(1)[:3], keys=["x", "y", "z"])
    for name in ("catalog.sqlite", "vectors.f16"):
        shutil.copyfile(tmp_path / "older" / name, path / name)
    loads.clear()
    with Retriever.open(path, "r+", embedder=Given(DIM)) as retriever:
        assert nearest(retriever) == KEYS
        assert len(retriever.index) == N
    assert loads == []


@pytest.mark.skipif(sys.platform == "win32", reason="cannot move a file that is open")
def test_the_index_of_another_gallery_at_the_path_is_not_used(path, tmp_path):
    other = fill(tmp_path / "other.imgret", seed=1)
    with Retriever.open(path, embedder=Given(DIM)) as retriever:
        path.rename(tmp_path / "aside.imgret")
        other.rename(path)
        assert nearest(retriever) == KEYS


def test_an_index_that_is_replaced_while_it_is_read_is_read_again(path, monkeypatch, loads):
    load = HNSWIndex.load_state
    with (
        Retriever.open(path, embedder=Given(DIM)) as reader,
        Retriever.open(path, "r+", embedder=Given(DIM)) as writer,
    ):
        assert nearest(writer) == KEYS
        loads.clear()

        def replaced(index, state):
            load(index, state)
            if len(loads) == 1:
                writer.add_vectors(rows(1)[:3], keys=["x", "y", "z"])
                writer.save(path)

        monkeypatch.setattr(HNSWIndex, "load_state", replaced)
        assert nearest(reader) == KEYS
        assert loads == [N, N + 3]
        assert len(reader.index) == N


def test_an_index_from_which_later_items_cannot_be_taken_is_built_again(tmp_path, loads):
    path = tmp_path / "f.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM), index="faiss:HNSW8") as retriever:
        retriever.add_vectors(rows(), keys=KEYS)
    with Retriever.open(path, embedder=Given(DIM)) as reader:
        with Retriever.open(path, "r+", embedder=Given(DIM)) as writer:
            assert not writer.index.supports_remove
            writer.add_vectors(rows(1)[:3], keys=["x", "y", "z"])
        assert nearest(reader) == KEYS
        assert len(reader.index) == N


def test_an_index_of_one_item_is_read(tmp_path, loads):
    path = tmp_path / "one.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM), index="hnsw") as retriever:
        retriever.add_vectors(rows()[:1], keys=["k0"])
    with Retriever.open(path, embedder=Given(DIM)) as retriever:
        assert nearest(retriever) == ["k0"] * N
    assert loads == [1]
