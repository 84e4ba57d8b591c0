"""Galleries written by every old format are read, by imgret and by other means.

``python tests/test_old_galleries.py NAME`` writes one with the imgret of the day; what was
committed once is never written again.
"""

import json
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest

from imgret import Embedder, Retriever, images

DATA = Path(__file__).parent / "data" / "galleries"
GALLERIES = sorted(path.name for path in DATA.iterdir()) if DATA.exists() else []


class MeanOfQuarters(Embedder):
    """Mean colours of the four quarters of a picture."""

    name = "mean-of-quarters"
    dim = 12
    fingerprint = "mean-of-quarters 1"

    def config(self):
        return {}

    def _embed(self, given):
        return np.stack(
            [images.resize(image, 2, 2).astype(np.float32).ravel() / 255 for image in given]
        )


def picture(number: int):
    rng = np.random.default_rng(number)
    return np.repeat(np.repeat(rng.integers(0, 256, (2, 2, 3), np.uint8), 8, 0), 8, 1)


def write(path: Path) -> None:
    """Everything a gallery can hold: two kinds of items, a removed one, a projection, an index."""
    with Retriever.open(path, "a", embedder=MeanOfQuarters(), index="hnsw", cropper="center") as r:
        r.add(
            [images.encode(picture(n), "png") for n in range(8)],
            keys=[f"picture-{n}" for n in range(8)],
            labels=["even" if n % 2 == 0 else "odd" for n in range(8)],
            metadata=[{"number": n, "tags": ["ä", None]} for n in range(8)],
        )
        r.add_vectors(np.eye(12)[:2], keys=["vector-0", "it's"])
        r.remove("picture-3")
        r.update("picture-4", label="four")
        r.project("pca", dim=4, whiten=0.5)


@pytest.fixture(params=GALLERIES)
def gallery(request, tmp_path):
    return Path(shutil.copytree(DATA / request.param, tmp_path / request.param))


KEYS = [*(f"picture-{n}" for n in range(8) if n != 3), "vector-0", "it's"]


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: Retriever.load(path, embedder=MeanOfQuarters()),
        lambda path: Retriever.open(path, embedder=MeanOfQuarters()),
        lambda path: Retriever.open(path, "r+", embedder=MeanOfQuarters()),
    ],
    ids=["load", "read", "write"],
)
@pytest.mark.parametrize("index_kept", [True, False])
def test_it_holds_what_was_put_in(gallery, opened, index_kept):
    if not index_kept:
        shutil.rmtree(gallery / "index")
    with opened(gallery) as retriever:
        assert list(retriever) == KEYS
        item = retriever["picture-4"]
        assert (item.label, item.metadata) == ("four", {"number": 4, "tags": ["ä", None]})
        assert item.box == (1, 1, 14, 14)
        assert (retriever["vector-0"].box, retriever["vector-0"].path) == (None, None)
        assert retriever.index.name == "hnsw"
        assert retriever.projection.dim_out == 4
        for number in (0, 4, 7):
            hits = retriever.search(picture(number), k=20)
            assert len(hits) == 9
            assert hits[0].key == f"picture-{number}"
            assert hits[0].score == pytest.approx(1, abs=1e-3)


def test_it_can_be_written_further(gallery):
    with Retriever.open(gallery, "r+", embedder=MeanOfQuarters()) as retriever:
        retriever.add(picture(50), keys="new")
        retriever.project(None)
    again = Retriever.load(gallery, embedder=MeanOfQuarters())
    assert list(again) == [*KEYS, "new"]
    assert again.search(picture(50), k=1)[0].key == "new"


def test_other_means_read_the_same(gallery):
    manifest = json.loads((gallery / "manifest.json").read_text())
    assert manifest["format"] == "imgret-gallery"
    database = sqlite3.connect(gallery / "catalog.sqlite")
    rows = database.execute(
        "SELECT id, key FROM items WHERE removed_at IS NULL ORDER BY id"
    ).fetchall()
    database.close()
    assert [key for _, key in rows] == KEYS
    vectors = np.fromfile(gallery / "vectors.f16", "<f2").reshape(-1, manifest["dim"])
    loaded = Retriever.load(gallery, embedder=MeanOfQuarters())
    np.testing.assert_array_equal(vectors[[id_ for id_, _ in rows]], loaded.embeddings())
    with np.load(gallery / "projection.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["matrix"], loaded.projection.matrix)


def test_there_is_one_of_every_format():
    assert GALLERIES == ["v1.imgret", "v2.imgret", "v4.imgret"]


def test_a_reader_leaves_an_old_catalog_as_it_is_and_a_writer_upgrades_it(gallery):
    catalog = gallery / "catalog.sqlite"
    before = catalog.read_bytes()
    hashed = gallery.name != "v1.imgret"
    with Retriever.open(gallery, embedder=MeanOfQuarters()) as retriever:
        assert {len(item.phash or b"") for item in retriever.view().items()} == (
            {0, 8} if hashed else {0}
        )
        groups = retriever.duplicates()
        assert groups.n_unhashed == (2 if hashed else 9)  # without files, as these were bytes
        copy = gallery.with_name("copy.imgret")
        retriever.save(copy)
    assert catalog.read_bytes() == before
    for path in (gallery, copy):
        with Retriever.open(path, "r+", embedder=MeanOfQuarters()) as retriever:
            retriever.add(picture(50), keys="new")
            assert len(retriever["new"].phash) == 8
        database = sqlite3.connect(path / "catalog.sqlite")
        assert database.execute("PRAGMA user_version").fetchone() == (4,)
        assert database.execute("SELECT count(*) FROM items WHERE row_crc IS NULL").fetchone() == (
            0,
        )
        database.close()
        assert json.loads((path / "manifest.json").read_text())["version"] == 2


if __name__ == "__main__":
    write(DATA / sys.argv[1])
