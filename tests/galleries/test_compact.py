"""What is left of removed items goes: from the gallery when it is compacted, from every copy."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import StoreCorruptError, StoreReadOnlyError
from imgret.testing.data import Given

N, DIM = 40, 4


def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float16).astype(np.float32)


def fill(retriever: Retriever) -> Retriever:
    retriever.add_vectors(
        vectors(),
        keys=[f"{'secret' if n % 4 else 'kept'}-{n}" for n in range(N)],
        labels=[f"{'secret' if n % 4 else 'kept'} label" for n in range(N)],
        metadata=[{"note": f"{'secret' * 900 if n % 4 else 'kept'}"} for n in range(N)],
    )
    retriever.create_filter_index("note")
    retriever.project("pca", dim=3)
    retriever.calibrate()
    retriever.remove([key for key in retriever if key.startswith("secret")])
    return retriever


def content(retriever: Retriever) -> dict[str, tuple]:
    return {key: (retriever[key], retriever.embeddings([key]).tolist()) for key in retriever}


def left_in(path: Path) -> list[str]:
    """Return the files of a gallery in which something of a removed item can be read."""
    secret = [row.astype(np.float16).tobytes() for n, row in enumerate(vectors()) if n % 4]
    return [
        file.name
        for file in path.rglob("*")
        if file.is_file()
        and (b"secret" in (data := file.read_bytes()) or any(row in data for row in secret))
    ]


@pytest.fixture
def gallery(tmp_path):
    path = tmp_path / "g.imgret"
    fill(Retriever.open(path, "a", embedder=Given(DIM), index="hnsw")).close()
    return path


def test_nothing_of_removed_items_is_left(gallery):
    assert left_in(gallery)
    with Retriever.open(gallery, embedder=Given(DIM)) as reader:
        with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
            before, hits = content(retriever), retriever.search_vectors(vectors()[:1], k=3)[0]
            earlier = [(hit.key, hit.score) for hit in hits]
            assert retriever.compact() == N - N // 4
            assert retriever.compact() == 0
            assert content(retriever) == before
            again = retriever.search_vectors(vectors()[:1], k=3)[0]
            assert [(hit.key, hit.score) for hit in again] == earlier
            assert retriever.calibration is not None
            retriever.add_vectors(vectors()[:1] + 1, keys=["new"])
            assert len(retriever.view({"note": "kept"})) == N // 4
        assert content(reader) == before  # the files it has open stay
    assert left_in(gallery) == []
    assert (gallery / "index").exists()
    assert (gallery / "vectors.f16").stat().st_size == (N // 4 + 1) * DIM * 2
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db:
        assert db.execute("SELECT * FROM counts").fetchone()[:2] == (N // 4 + 1, N // 4 + 1)
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
        assert "filter:note" in names


@pytest.mark.parametrize("opened", ["r", "loaded"])
def test_nothing_of_removed_items_is_copied(gallery, tmp_path, opened):
    copy = tmp_path / "copy.imgret"
    how = {"r": Retriever.open, "loaded": Retriever.load}[opened]
    with how(gallery, embedder=Given(DIM)) as retriever:
        before = content(retriever)
        retriever.save(copy)
    assert left_in(copy) == []
    with Retriever.open(copy, "r+", embedder=Given(DIM)) as retriever:
        assert content(retriever) == before
        assert retriever.check().ok
        retriever.add_vectors(vectors()[1:2], keys=["removed"])


def test_in_memory():
    retriever = fill(Retriever(embedder=Given(DIM), index="hnsw"))
    before = content(retriever)
    assert retriever.compact() == N - N // 4
    assert content(retriever) == before
    assert retriever.projection.dim_out == 3
    assert len(retriever.search_vectors(vectors()[:1], k=99)[0]) == N // 4


def test_who_may_not(gallery, tmp_path):
    with (
        Retriever.open(gallery, embedder=Given(DIM)) as reader,
        pytest.raises(StoreReadOnlyError, match=r"mode='r\+'"),
    ):
        reader.compact()
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute("UPDATE items SET label = 'x' WHERE id = 0")
    before = Path(shutil.copytree(gallery, tmp_path / "before"))
    with (
        Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever,
        pytest.raises(StoreCorruptError, match="row 0 is not what was stored.*imgret check"),
    ):
        retriever.compact()
    for name in ("catalog.sqlite", "vectors.f16"):
        assert (gallery / name).read_bytes() == (before / name).read_bytes()
