"""The map of a gallery, and the page it is shown on."""

import base64
import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from imgret import Retriever, images
from imgret.errors import InvalidInputError, MissingExtraError
from imgret.pages import map as module

HOSTILE = "</script><script>alert(1)</script>\"'&amp;<!-- \u2028"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


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
    found = gallery_of(vectors, labels, metric=metric).map2d()
    assert found.coordinates.dtype == np.float32
    assert found.keys == tuple(str(n) for n in range(300))
    assert found.labels == tuple(labels)
    assert repr(found) == "<Map2D of 300 items by pca>"
    if metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = PCA(2).fit_transform(vectors)
    signs = np.sign((expected * found.coordinates).sum(axis=0))
    np.testing.assert_allclose(found.coordinates, expected * signs, atol=1e-4)


def test_the_page_holds_every_item(gallery_of, clustered):
    vectors, codes = clustered()
    found = gallery_of(vectors, [f"class {code}" for code in codes]).map2d()
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
    page = Page((tmp_path / "map.html").read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert page.data["keys"][0] == HOSTILE
    assert page.data["labels"] == ["x", HOSTILE]
    assert page.data["label"] == [1, -1, 0, 0]
    assert Page(gallery.map2d().to_html(title=HOSTILE)).text.count(HOSTILE) == 2


def test_few_items_show_their_pictures(photos, mean_color, monkeypatch):
    gallery = Retriever(embedder=mean_color)
    gallery.add_folder(photos, labels="parent", progress=False)
    gallery.add_vectors(gallery.embeddings(["lake/0.jpg"]), keys=["vector"])
    (photos / "sand" / "2.jpg").unlink()
    found = gallery.map2d()
    data = Page(found.to_html()).data
    without = {key for key, one in zip(data["keys"], data["pictures"], strict=True) if one is None}
    assert without == {"vector", "sand/2.jpg"}
    shown = images.load(base64.b64decode(data["pictures"][0], validate=True))
    assert shown.shape == (40, 48, 3)
    monkeypatch.setattr(module, "_MOST_IMAGES", 12)
    assert Page(found.to_html()).data["pictures"] == []


def test_many_items_are_drawn_by_lot(gallery_of, clustered, monkeypatch):
    found = gallery_of(clustered()[0]).map2d()
    monkeypatch.setattr(module, "_MOST_POINTS", 40)
    page = Page(found.to_html())
    assert len(set(page.data["keys"])) == len(page.data["x"]) == len(page.data["label"]) == 40
    assert any("Drawn: 40 of 300 items" in text for text in page.text)


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
    np.testing.assert_allclose(found.coordinates, gallery.map2d().coordinates, atol=1e-3)


def test_umap_keeps_classes_together(gallery_of, clustered):
    pytest.importorskip("umap", reason="needs the extra 'umap'", exc_type=ImportError)
    vectors, codes = clustered(n=60, classes=3, spread=0.3)
    gallery = gallery_of(vectors)
    found = gallery.map2d("umap", seed=1)
    centres = np.stack([found.coordinates[codes == code].mean(axis=0) for code in range(3)])
    away = np.linalg.norm(found.coordinates[:, None] - centres[None], axis=2)
    np.testing.assert_array_equal(away.argmin(axis=1), codes)
    np.testing.assert_array_equal(found.coordinates, gallery.map2d("umap", seed=1).coordinates)


def test_mistakes_are_told(gallery_of, monkeypatch):
    gallery = gallery_of(np.eye(3))
    with pytest.raises(InvalidInputError, match="method: expected 'pca' or 'umap', found 'tsne'"):
        gallery.map2d("tsne")
    with pytest.raises(InvalidInputError, match="expected at least 3 items, found 2"):
        gallery_of(np.eye(2)).map2d()
    with pytest.raises(InvalidInputError, match="rows that differ"):
        gallery_of(np.ones((5, 4))).map2d()
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'imgret\[umap\]'"):
        gallery.map2d("umap")


# Points at the fourth item, picks the second label, and takes down what is to be seen.
PROBE = """<script>
addEventListener("load", () => {
  const box = canvas.getBoundingClientRect();
  const [x, y] = place(3);
  const at = {clientX: box.left + x, clientY: box.top + y};
  canvas.dispatchEvent(new PointerEvent("pointermove", at));
  const seen = {tip: tip.innerText, picture: tip.querySelector("img").src.slice(0, 22)};
  list.children[1].firstChild.click();
  seen.off = [...list.children].map((item) => item.className);
  canvas.dispatchEvent(new PointerEvent("pointermove", at));
  seen.hidden = tip.hidden;
  const ink = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  seen.ink = ink.filter((value) => value).length;
  document.body.setAttribute("data-probe", JSON.stringify(seen));
});
</script></body>"""


def test_a_browser_shows_what_is_pointed_at(photos, mean_color, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    gallery = Retriever(embedder=mean_color)
    gallery.add_folder(photos, labels="parent", progress=False)
    path, profile = tmp_path / "map.html", tmp_path / "profile"
    path.write_text(gallery.map2d().to_html().replace("</body>", PROBE), encoding="utf-8")
    profile.mkdir()
    ended = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            f"--user-data-dir={profile}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
        env={**os.environ, "HOME": str(profile)},
    )
    (body,) = [attributes for tag, attributes in Page(ended.stdout).tags if tag == "body"]
    seen = json.loads(body["data-probe"])
    assert seen["tip"].split() == ["lake", "lake/3.jpg"]
    assert seen["picture"] == "data:image/jpeg;base64"
    assert seen["off"] == ["off", "", "off"]
    assert seen["hidden"]  # what is not shown cannot be pointed at
    assert seen["ink"] > 100
