"""Galleries to files and back: what comes back is what went out."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgret import Retriever
from imgret.abc import Gallery
from imgret.errors import InvalidInputError
from imgret.galleries.local import LocalGallery
from imgret.testing.galleries import new_spec
from imgret.transfer import GalleryHeader, all_items, export_items, import_items, load_items
from imgret.transfer.csv_file import read_csv
from imgret.transfer.records import from_cell, to_cell
from imgret.types import Box, Item

pa = pytest.importorskip("pyarrow", reason="needs the extra 'tables'")

FORMATS = ["parquet", "npz"]
EXPORTS = Path(__file__).parents[1] / "data" / "exports"
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=6,
)
BOXES = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 40)] * 2).map(
    lambda b: Box(b[0], b[1], b[0] + b[2], b[1] + b[3])
)
ITEMS = st.builds(
    Item,
    key=TEXTS.filter(bool),
    path=st.none() | TEXTS,
    sha256=st.none() | st.binary(min_size=32, max_size=32),
    size=st.none() | st.integers(0, 2**40),
    mtime_ns=st.none() | st.integers(-(2**62), 2**62),
    box=st.none() | BOXES,
    subject=st.booleans(),
    label=st.none() | TEXTS,
    metadata=st.dictionaries(TEXTS, VALUES, max_size=3),
    phash=st.none() | st.binary(min_size=8, max_size=8),
)


def gallery_of(items: list[Item], *, metric="cosine", dtype="float16", seed=0) -> Gallery:
    gallery = LocalGallery.in_memory(new_spec(metric, dim=4).with_(dtype=dtype))
    rng = np.random.default_rng(seed)
    gallery.add(items, rng.standard_normal((len(items), 4)).astype(np.float32) + 0.1)
    return gallery


def export(gallery, path, **options):
    return export_items(all_items(gallery), GalleryHeader.of(gallery), path, **options)


def assert_equal(one, other):
    keys = list(one)
    assert list(other) == keys
    assert other.get(keys) == one.get(keys)
    assert np.array_equal(other.embeddings(), one.embeddings())
    for name in ("dim", "metric", "dtype", "embedder", "fingerprint", "cropper", "index"):
        assert getattr(other.spec, name) == getattr(one.spec, name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
@given(items=st.lists(ITEMS, max_size=5, unique_by=lambda item: item.key))
@settings(max_examples=30)
def test_any_item_comes_back_as_it_was(kind, items, tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / f"x.{kind}"
    gallery = gallery_of(items)
    assert export(gallery, path) == len(items)
    assert_equal(gallery, load_items(path))


@given(VALUES)
def test_any_value_comes_back_from_a_cell(value):
    again = from_cell(to_cell(value))
    assert again == value
    assert json.dumps(again) == json.dumps(value)  # 1 is not 1.0, nor true


@pytest.mark.slow
@given(items=st.lists(ITEMS, max_size=4, unique_by=lambda item: item.key))
@settings(max_examples=60)
def test_any_label_and_metadata_come_back_from_a_csv(items, tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / "x.csv"
    export(gallery_of(items), path)
    if any(item.label is not None or item.metadata for item in items):
        edits = read_csv(path)
        assert [row.key for row in edits.rows] == [item.key for item in items]
        assert [row.label or "" for row in edits.rows] == [item.label or "" for item in items]
        for row, item in zip(edits.rows, items, strict=True):
            assert json.dumps(row.metadata, sort_keys=True) == json.dumps(
                dict(item.metadata), sort_keys=True
            )


@pytest.fixture
def photos_gallery(mean_color, photos, tmp_path):
    retriever = Retriever.open(tmp_path / "a.imgret", "a", embedder=mean_color)
    retriever.add_folder(photos, labels="parent", metadata=lambda path: {"n": int(path.stem)})
    retriever.remove("lake/2.jpg")
    yield retriever
    retriever.close()


def answers(retriever, n=5):
    return [
        [(hit.key, hit.score, hit.label, dict(hit.metadata)) for hit in hits]
        for hits in retriever.search_vectors(retriever.embeddings(), n)
    ]


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_gallery_made_again_answers_alike(
    photos_gallery, mean_color, tmp_path, photos, kind, projected
):
    if projected:
        photos_gallery.project("pca", dim=4)
    path = tmp_path / f"x.{kind}"
    photos_gallery.to_parquet(path)
    again = Retriever.from_parquet(path, embedder=mean_color)
    assert answers(again) == answers(photos_gallery)
    with Retriever.from_parquet(path, embedder=mean_color, output=tmp_path / "b.imgret") as kept:
        assert answers(kept) == answers(photos_gallery)
        report = kept.add_folder(photos, labels="parent")  # files are known, but for the removed
        assert (len(report.ok), len(report.skipped)) == (1, 11)
    with Retriever.open(tmp_path / "b.imgret", embedder=mean_color) as opened:
        assert (opened.projection is not None) == projected
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["a.imgret", "b.imgret", "photos", path.name]
    )


def test_pandas_reads_what_is_written(photos_gallery, tmp_path):
    pd = pytest.importorskip("pandas")
    assert photos_gallery.to_parquet(tmp_path / "x.parquet", where={"label": "sand"}) == 4
    frame = pd.read_parquet(tmp_path / "x.parquet")
    assert list(frame["label"]) == ["sand"] * 4
    item = photos_gallery[frame["key"][0]]
    assert list(frame["box"][0]) == list(item.box)
    assert frame["modified"][0].value == item.mtime_ns
    assert json.loads(frame["metadata"][0]) == item.metadata
    vectors = np.stack(frame["vector"])
    assert np.array_equal(vectors, photos_gallery.embeddings(list(frame["key"])))


def test_numpy_reads_what_is_written(photos_gallery, tmp_path):
    photos_gallery.to_parquet(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:  # nothing is pickled
        assert arrays["keys"].tolist() == list(photos_gallery)
        assert arrays["labels"].tolist() == [photos_gallery[key].label for key in photos_gallery]
        assert arrays["vectors"].dtype == np.float16
        assert np.array_equal(arrays["vectors"], photos_gallery.embeddings())


def test_a_csv_changes_labels_and_metadata_only(photos_gallery, mean_color, tmp_path):
    path, uri = tmp_path / "x.csv", str(photos_gallery.path)
    photos_gallery.to_parquet(path)
    photos_gallery.close()
    assert import_items(path, uri)[:3] == (0, 0, 11)  # nothing to change
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0] |= {"label": "pond", "metadata.n": '"7"'}
    rows[1] |= {"label": "", "metadata.n": ""}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with Retriever.open(uri, embedder=mean_color) as before:
        vectors = before.embeddings()
    assert import_items(path, uri)[:3] == (0, 2, 9)
    with Retriever.open(uri, embedder=mean_color) as after:
        first, second = (after[row["key"]] for row in rows[:2])
        assert (first.label, first.metadata) == ("pond", {"n": "7"})
        assert (second.label, second.metadata) == (None, {})
        assert np.array_equal(after.embeddings(), vectors)


def test_old_times_and_empty_galleries(tmp_path):
    for kind in FORMATS:
        empty = gallery_of([])
        path = tmp_path / f"empty.{kind}"
        assert export(empty, path) == 0
        assert_equal(empty, load_items(path))
    assert export(gallery_of([]), tmp_path / "empty.csv") == 0


@pytest.mark.slow
def test_vectors_pass_through_in_pieces(tmp_path, monkeypatch):
    """Vectors of 16 MB, in pieces of one."""
    import tracemalloc

    for module in ("galleries.local.vectors._BLOCK_BYTES", "transfer.parquet_file._BYTES"):
        monkeypatch.setattr(f"imgret.{module}", 2**20)
    gallery = LocalGallery.in_memory(new_spec("l2", dim=1024).with_(dtype="float32"))
    block = np.random.default_rng(0).standard_normal((4096, 1024)).astype(np.float32)
    gallery.add([Item(str(n)) for n in range(4096)], block)
    for kind in FORMATS:
        tracemalloc.start()
        export(gallery, tmp_path / f"x.{kind}")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8e6


# -- nothing is lost -------------------------------------------------------------------------


def test_an_existing_file_is_kept(photos_gallery, tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="x.parquet: expected an unused path"):
        photos_gallery.to_parquet(path)
    assert path.read_text() == "mine"
    photos_gallery.to_parquet(path, overwrite=True)
    assert path.read_bytes()[:4] == b"PAR1"


@pytest.mark.parametrize("kind", [*FORMATS, "csv"])
def test_an_export_that_fails_leaves_nothing(photos_gallery, tmp_path, kind, monkeypatch):
    path = tmp_path / f"x.{kind}"
    path.write_text("mine")
    monkeypatch.setattr("imgret.transfer.run.sync", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        photos_gallery.to_parquet(path, overwrite=True)
    assert path.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.imgret", "photos", path.name]


def test_importing_again_changes_nothing(photos_gallery, tmp_path):
    path, uri = tmp_path / "x.parquet", str(tmp_path / "b.imgret")
    photos_gallery.to_parquet(path)
    assert import_items(path, uri)[:4] == (11, 0, 0, 11)
    assert import_items(path, uri)[:4] == (0, 0, 11, 11)
    with closing(LocalGallery.open(uri, writable=True)) as gallery:
        gallery.remove(["sand/0.jpg"])
    assert import_items(path, uri)[:4] == (1, 0, 10, 11)  # as after a kill


def test_an_item_with_other_contents_is_refused(photos_gallery, mean_color, tmp_path):
    path, uri = tmp_path / "x.parquet", str(photos_gallery.path)
    photos_gallery.to_parquet(path)
    photos_gallery.remove("wood/3.jpg")
    photos_gallery.update("sand/0.jpg", label="beach")
    photos_gallery.close()
    with pytest.raises(ValueError, match="'sand/0.jpg' with other contents; nothing was imported"):
        import_items(path, uri)
    with Retriever.open(uri, embedder=mean_color) as after:
        assert len(after) == 10
        assert after["sand/0.jpg"].label == "beach"


def test_an_import_that_fails_is_undone(photos_gallery, tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"
    photos_gallery.to_parquet(path)
    photos_gallery.remove(["sand/0.jpg", "sand/1.jpg"])
    photos_gallery.close()
    uri = str(photos_gallery.path)

    def full(self):
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(LocalGallery, "catch_up", full)
    with pytest.raises(sqlite3.OperationalError):
        import_items(path, uri)
    with pytest.raises(sqlite3.OperationalError):
        import_items(path, str(tmp_path / "new.imgret"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.imgret", "photos", "x.parquet"]
    gallery = LocalGallery.open(uri, writable=False)
    assert len(gallery) == 9
    gallery.close()


# -- old files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(EXPORTS.glob("version-*")), ids=lambda path: path.name)
def test_exports_of_every_version_are_read(path, mean_color):
    if path.name == "version-1.parquet" and int(pa.__version__.split(".")[0]) < 26:
        with pytest.raises(InvalidInputError, match="PyArrow 26 does: pip install -U pyarrow"):
            Retriever.from_parquet(path, embedder=mean_color)
        pytest.skip("it is read from PyArrow 26 on")
    found = Retriever.from_parquet(path, embedder=mean_color)
    assert list(found) == ["a.jpg", "b é", "c", "d"]
    assert [found[key].label for key in found] == ["x", None, "y", "x"]
    assert json.dumps(found["b é"].metadata) == '{"n": 1, "f": 1.0, "s": "1", "none": null}'
    assert found["c"].metadata == {"deep": {"list": [True]}}
    assert found.metric == "l2"
    assert (found.projection.kind, found.projection.dim_out) == ("pca", 2)
    expected = (np.arange(4 * 48).reshape(4, 48) % 7 - 2.9).astype(np.float16)
    assert np.array_equal(found.embeddings(), expected.astype(np.float32))
    assert found.search_key("a.jpg", 1)[0].key in {"b é", "c", "d"}
