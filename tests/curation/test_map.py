"""The map of a gallery, and the page it is shown on."""

import base64
import hashlib
import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from imgret import Retriever, images
from imgret.curation import Map2D
from imgret.errors import InvalidInputError, MissingExtraError
from imgret.files import ItemFile
from imgret.pages.map import build, points, tiles

HOSTILE = "</script><script>alert(1)</script>\"'&amp;<!-- \u2028"


def file_of(path):
    """The file of an item that was indexed as it is."""
    return path and ItemFile(path, hashlib.sha256(Path(path).read_bytes()).digest())


class Page(HTMLParser):
    """The tags of a page, the text, and the data it draws."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.data = [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)
        if self.data is None and self.tags and self.tags[-1][1].get("id") == "data":
            self.data = json.loads(data)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_pca_is_that_of_another(gallery_of, clustered, metric):
    vectors, codes = clustered()
    labels = [None if code == 0 else str(code) for code in codes]
    found = gallery_of(vectors, labels, metric=metric).map2d("pca")
    assert found.coordinates.dtype == np.float32
    assert found.keys == tuple(str(n) for n in range(300))
    assert found.labels == tuple(labels)
    assert repr(found) == str(found) == "<Map2D of 300 items by pca>"
    if metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = PCA(2).fit_transform(vectors)
    signs = np.sign((expected * found.coordinates).sum(axis=0))
    np.testing.assert_allclose(found.coordinates, expected * signs, atol=1e-4)


def test_the_page_holds_every_item(gallery_of, clustered):
    vectors, codes = clustered()
    found = gallery_of(vectors, [f"class {code}" for code in codes]).map2d("pca")
    text = found.to_html()
    page = Page(text)
    assert "Map of 300 items" in page.text
    data = page.data
    assert data["keys"] == list(found.keys)
    assert [data["labels"][code] for code in data["label"]] == [f"class {code}" for code in codes]
    assert sum(data["counts"]) == 300
    assert data["counts"] == sorted(data["counts"], reverse=True)
    drawn = np.stack([data["x"], data["y"]], axis=1)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    # A picture of the coordinates that keeps their shape.
    scale = np.ptp(found.coordinates, axis=0).max()
    np.testing.assert_allclose(
        drawn - drawn[0], (found.coordinates - found.coordinates[0]) / scale, atol=2e-5
    )
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert not any(attributes.get("src") for _, attributes in page.tags)
    assert "url(" not in text
    assert "http" not in text


def test_keys_and_labels_are_text_and_never_markup(mean_color, tmp_path):
    gallery = Retriever(embedder=mean_color)
    rng = np.random.default_rng(0)
    gallery.add_vectors(
        rng.normal(size=(4, 48)), keys=[HOSTILE, "b", "c", "d"], labels=[HOSTILE, None, "x", "x"]
    )
    gallery.map2d().save(tmp_path / "map.html")
    text = (tmp_path / "map.html").read_text(encoding="utf-8")
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1 + text.count('"use strict"')
    assert page.data["keys"][0] == HOSTILE
    assert page.data["labels"] == ["x", HOSTILE]
    assert page.data["label"] == [1, -1, 0, 0]
    assert Page(gallery.map2d().to_html(title=HOSTILE)).text.count(HOSTILE) == 2


def picture_of(data, number):
    """Cut the tile of an item out of its sheet."""
    side, columns = data["tiles"]["side"], data["tiles"]["columns"]
    sheet = images.load(base64.b64decode(data["tiles"]["sheets"][number // columns**2]))
    row, column = divmod(number % columns**2, columns)
    width, height = data["tiles"]["sizes"][number]
    return sheet[row * side :, column * side :][:height, :width]


def test_the_page_shows_small_images(photos, mean_color, make_picture):
    gallery = Retriever(embedder=mean_color)
    gallery.add_folder(photos, labels="parent", progress=False)
    gallery.add_vectors(gallery.embeddings(["lake/0.jpg"]), keys=["vector"])
    (photos / "sand" / "2.jpg").unlink()
    data = Page(gallery.map2d().to_html()).data
    sizes = dict(zip(data["keys"], data["tiles"]["sizes"], strict=True))
    assert {key for key, size in sizes.items() if size == [0, 0]} == {"vector", "sand/2.jpg"}
    assert sizes["lake/0.jpg"] == [48, 40]  # not enlarged
    previews = dict(zip(data["keys"], data["tiles"]["previews"], strict=True))
    assert {key for key, one in previews.items() if one is None} == {"vector", "sand/2.jpg"}
    shown = images.load(base64.b64decode(previews["wood/3.jpg"], validate=True))
    for seen in (shown, picture_of(data, data["keys"].index("wood/3.jpg"))):
        assert np.abs(seen.astype(int) - make_picture(23)).mean() < 8
    files = dict(zip(data["keys"], data["files"], strict=True))
    assert files["vector"] is None
    assert data["folder"] + files["lake/0.jpg"] == (photos / "lake" / "0.jpg").as_uri()


def test_tiles_fill_several_sheets(photos, monkeypatch):
    monkeypatch.setattr(tiles, "_SIDES", ((20, 16),))
    monkeypatch.setattr(tiles, "_SHEET", 32)
    paths = [str(path) for path in sorted(photos.glob("*/*.jpg"))]
    paths.insert(4, None)
    found = tiles.sheets(tiles.read(list(map(file_of, paths)), threads=3, max_pixels=10**6), 13)
    assert len(found["sheets"]) == 4  # four tiles a sheet
    assert found["sizes"].pop(4) == [0, 0]
    assert set(map(tuple, found["sizes"])) == {(16, 13)}
    last = images.load(base64.b64decode(found["sheets"][-1]))
    assert last.shape == (16, 32, 3)
    expected = images.thumbnail(images.load(paths[-1]), 16)
    assert np.abs(last[:13, :16].astype(int) - expected).mean() < 16


def test_many_items_get_smaller_images_and_no_large_ones(photos, monkeypatch):
    path = str(photos / "lake" / "0.jpg")
    assert [tiles._side(n) for n in (1, 5_000, 5_001, 10_001, 20_000)] == [96, 96, 64, 48, 48]
    monkeypatch.setattr(tiles, "_MOST_PREVIEWS", 2)
    for n, previews in ((2, 2), (3, 0)):
        found = tiles.sheets(tiles.read([file_of(path)] * n, threads=1, max_pixels=10**6), n)
        assert len(found["previews"]) == previews


def test_items_without_images_have_no_sheets(gallery_of, clustered):
    found = Page(gallery_of(clustered()[0]).map2d("pca").to_html()).data
    assert found["tiles"]["sheets"] == found["tiles"]["sizes"] == []
    assert set(found["files"]) == {None}


def test_many_items_are_drawn_by_lot(gallery_of, clustered, photos, mean_color, monkeypatch):
    found = gallery_of(clustered()[0]).map2d("pca")
    monkeypatch.setattr(build, "_MOST_POINTS", 40)
    page = Page(found.to_html())
    assert len(set(page.data["keys"])) == len(page.data["x"]) == len(page.data["label"]) == 40
    assert any("Drawn: 40 of 300 items" in text for text in page.text)
    monkeypatch.setattr(tiles, "MOST_TILES", 5)
    gallery = Retriever(embedder=mean_color)
    gallery.add_folder(photos, labels="parent", progress=False)
    page = Page(gallery.map2d("pca").to_html())
    assert any("Images of 5 items" in text for text in page.text)
    assert len(page.data["keys"]) == 12
    assert len(set(page.data["pictured"])) == len(page.data["tiles"]["sizes"]) == 5


def test_reading_shows_its_progress(photos, mean_color, capsys):
    gallery = Retriever(embedder=mean_color)
    gallery.add_folder(photos, labels="parent", progress=False)
    found = gallery.map2d("pca")
    found.to_html()
    assert capsys.readouterr().err == ""
    found.to_html(progress=True)
    assert "12/12" in capsys.readouterr().err


def test_a_notebook_shows_the_points(gallery_of, clustered, monkeypatch):
    vectors, codes = clustered()
    labels = [None if code == 0 else f"class {code}" for code in codes]
    found = gallery_of(vectors, labels).map2d("pca")
    drawn = found._repr_html_()
    assert drawn.count("<path ") == 6
    assert drawn.count("M") - drawn.count("Map") == 300
    assert "300 items by pca" in drawn
    monkeypatch.setattr(points, "_MOST_POINTS", 50)
    assert found._repr_html_().count("h0") == 50


def test_a_notebook_gets_a_bounded_sketch():
    n = 100_000
    rng = np.random.default_rng(0)
    found = Map2D(
        keys=("a",) * n,
        coordinates=rng.normal(size=(n, 2)).astype(np.float32),
        labels=tuple(str(code) for code in rng.integers(0, 50_000, n)),
        files=(None,) * n,
        method="pca",
    )
    assert len(found._repr_html_()) < 300_000


@pytest.mark.parametrize("n", [3, 4, 5, 10, 40])
def test_tsne_of_few_is_finite(gallery_of, clustered, n):
    found = gallery_of(clustered()[0][:n]).map2d("tsne")
    assert found.coordinates.shape == (n, 2)
    assert found.coordinates.dtype == np.float32
    assert np.isfinite(found.coordinates).all()
    assert len(np.unique(found.coordinates, axis=0)) == n


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "metric"),
    [("tsne", "cosine"), ("tsne", "l2"), ("tsne", "ip"), ("umap", "cosine")],
)
def test_classes_stay_together(gallery_of, clustered, metric, method):
    if method == "umap":
        pytest.importorskip("umap", reason="needs the extra 'umap'", exc_type=ImportError)
    vectors, codes = clustered(n=60, classes=3, spread=0.3)
    gallery = gallery_of(vectors, metric=metric)
    found = gallery.map2d(method, seed=1)
    centres = np.stack([found.coordinates[codes == code].mean(axis=0) for code in range(3)])
    away = np.linalg.norm(found.coordinates[:, None] - centres[None], axis=2)
    np.testing.assert_array_equal(away.argmin(axis=1), codes)
    np.testing.assert_array_equal(found.coordinates, gallery.map2d(method, seed=1).coordinates)
    assert (found.coordinates != gallery.map2d(method, seed=2).coordinates).any()


def test_progress_of_a_layout(gallery_of, clustered):
    gallery, steps = gallery_of(clustered(n=40)[0]), []
    found = gallery.map2d("tsne", progress=lambda *step: steps.append(step))
    assert steps == sorted(steps)
    assert len(steps) > 20
    assert steps[-1] == (80, 80)
    np.testing.assert_array_equal(found.coordinates, gallery.map2d("tsne").coordinates)

    def leave(done, total):
        if done > 40:
            raise RuntimeError("nobody waits")

    with pytest.raises(RuntimeError, match="nobody waits"):
        gallery.map2d("tsne", progress=leave)


def test_copies_do_not_hide_each_other(gallery_of, clustered):
    vectors = np.repeat(clustered(n=30)[0], 4, axis=0)
    found = gallery_of(vectors).map2d("tsne").coordinates
    assert len(np.unique(found, axis=0)) == 120


def test_the_default_says_that_it_is_coarse_without_the_extra(gallery_of, clustered, monkeypatch):
    gallery = gallery_of(clustered(n=30)[0])
    found = gallery.map2d()
    assert (found.method, found.note) == ("tsne", "")
    assert gallery.map2d("pca").note == ""  # asked for
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    found = gallery.map2d()
    assert found.method == "pca"
    for text in (found.note, str(found), " ".join(Page(found.to_html()).text)):
        assert "pip install 'imgret[map]'" in text
    with pytest.raises(MissingExtraError, match=r"pip install 'imgret\[map\]'"):
        gallery.map2d("tsne")


class FakeUMAP:
    """Takes down what it was asked, and changes nothing."""

    asked: dict = {}  # noqa: RUF012  # a test looks at it

    def __init__(self, **options):
        FakeUMAP.asked = options

    def fit_transform(self, vectors):
        return vectors


@pytest.mark.parametrize("n", [3, 4, 300])
def test_umap_gets_the_graph_of_the_index(gallery_of, clustered, all_scores, monkeypatch, n):
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FakeUMAP))
    vectors = clustered()[0][:n]
    gallery = gallery_of(vectors)
    found = gallery.map2d("umap")
    asked = FakeUMAP.asked
    k = asked["n_neighbors"]
    assert k == min(15, n - 1)
    indices, distances = asked["precomputed_knn"]
    assert indices.shape == distances.shape == (n, k)
    np.testing.assert_array_equal(indices[:, 0], np.arange(n))
    scores = all_scores(vectors, "cosine")
    np.testing.assert_allclose(
        scores[np.arange(n)[:, None], indices[:, 1:]], scores.max() - distances[:, 1:], atol=1e-5
    )
    assert (distances >= 0).all()
    assert (np.ptp(asked["init"], axis=0) > 0).all()
    np.testing.assert_allclose(found.coordinates, gallery.map2d("pca").coordinates, atol=1e-3)


def test_mistakes_are_told(gallery_of, monkeypatch):
    gallery = gallery_of(np.eye(3))
    with pytest.raises(InvalidInputError, match="method: expected one of 'auto', .*, found 'lda'"):
        gallery.map2d("lda")
    with pytest.raises(InvalidInputError, match="expected at least 3 items, found 2"):
        gallery_of(np.eye(2)).map2d()
    with pytest.raises(InvalidInputError, match="rows that differ"):
        gallery_of(np.ones((5, 4))).map2d()
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'imgret\[umap\]'"):
        gallery.map2d("umap")
