"""Hits on pages: size, marks, links, and what a notebook shows of many queries."""

import base64
import hashlib
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest

from imgret import Retriever, images
from imgret.curation import Map2D
from imgret.files import ItemFile
from imgret.pages import hits as hit_pages
from imgret.pages.document import file_link, inline_image
from imgret.pages.map.build import _files
from imgret.types import Hit

HOSTILE = "<script>alert(1)</script>\"'&amp;"


class Page(HTMLParser):
    """Tags with their attributes, and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def with_class(self, name):
        return [attrs for _, attrs in self.tags if name in (attrs.get("class") or "").split()]

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def noise(seed, side=400):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def photographs():
    """Real photographs at full detail, tiled: the most that thumbnails must hold."""
    data = pytest.importorskip("skimage.data")
    return [
        np.ascontiguousarray(picture[:, :, :3])
        for picture in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    ]


def hits_of(pictures, folder, n):
    """``n`` hits, each a file of its own."""
    hits = []
    for rank in range(1, n + 1):
        path = folder / f"{rank}.jpg"
        path.write_bytes(images.encode(pictures[rank % len(pictures)], "jpeg", quality=95))
        label = "right" if rank % 2 else "wrong"
        digest = hashlib.sha256(path.read_bytes()).digest()
        hits.append(Hit(path.name, 1 / rank, rank, label, {}, str(path), None, sha256=digest))
    return hits


# -- size ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["photographs", "noise"])
def test_fifty_hits_stay_below_a_megabyte(kind, photographs, tmp_path):
    """Noise is what JPEG compresses worst: no image can be larger."""
    pictures = photographs if kind == "photographs" else [noise(n) for n in range(4)]
    hits = hits_of(pictures, tmp_path, 50)
    row = hit_pages.Row("query", pictures[0], hits, "right")
    for text in (hit_pages.page([row], title="50 hits"), hit_pages.cell([row])):
        assert text.count("data:image/jpeg;base64,") == 51
        assert len(text.encode()) < 1_000_000


@pytest.mark.slow
def test_a_notebook_cell_stays_below_a_megabyte_whatever_it_is_asked_for(tmp_path):
    hits = hits_of([noise(n) for n in range(4)], tmp_path, 60)
    rows = [hit_pages.Row(f"query {n}", noise(n), hits) for n in range(5)]
    text = hit_pages.cell(rows)
    assert len(text.encode()) < 1_000_000
    assert text.count('<section class="search">') == 3
    assert "and 2 more queries" in text
    (alone,) = re.findall(r"and (\d+) more hits", hit_pages.cell([rows[0]._replace(hits=hits * 5)]))
    assert int(alone) == 5 * 60 - 199


@pytest.mark.parametrize("max_bytes", [14_000, 3_500, 1_000])
def test_an_inlined_image_keeps_to_its_limit(max_bytes):
    for picture in (noise(0), np.full((400, 300, 3), 7, np.uint8)):
        (data,) = re.findall(
            r"base64,([^\"]+)", inline_image(picture, 200, alt="", max_bytes=max_bytes)
        )
        decoded = base64.b64decode(data)
        assert len(decoded) <= max_bytes
        assert max(images.load(decoded).shape) <= 200


# -- right and wrong -------------------------------------------------------------------------


@pytest.fixture
def retriever(mean_color, photos):
    made = Retriever(embedder=mean_color)
    made.add_folder(photos, labels="parent")
    return made


def test_hits_of_a_labelled_item_are_marked_by_more_than_colour(retriever):
    hits = retriever.search_key("lake/0.jpg", k=11)
    assert hits.query_label == "lake"
    page = Page(hits._repr_html_())
    n_right = sum(hit.label == "lake" for hit in hits)
    assert (len(page.with_class("right")), len(page.with_class("wrong"))) == (n_right, 11 - n_right)
    marks = [(attrs["role"], attrs["aria-label"]) for attrs in page.with_class("mark")]
    assert marks == [("img", "right" if hit.label == "lake" else "wrong") for hit in hits]
    assert {"\N{CHECK MARK}", "\N{MULTIPLICATION X}"} <= set(page.text)
    assert f"{n_right} of 11 right" in page.text


def test_nothing_is_marked_where_a_label_is_not_known(retriever, photos):
    hits = retriever.search(photos / "lake" / "0.jpg", k=3)
    assert hits.query_label is None
    assert not Page(hits._repr_html_()).with_class("mark")
    hits.query_label = "sand"
    assert len(Page(hits._repr_html_()).with_class("mark")) == 3
    retriever.update(hits[0].key, label=None)
    hits = retriever.search_key(hits[1].key, k=11)
    assert len(Page(hits._repr_html_()).with_class("mark")) == 10


def test_several_items_have_a_label_only_if_they_share_it(retriever):
    assert retriever.search_key(["lake/0.jpg", "lake/1.jpg"]).query_label == "lake"
    assert retriever.search_key(["lake/0.jpg", "sand/1.jpg"]).query_label is None
    marked = retriever.search_key("lake/0.jpg", negatives="sand/1.jpg")
    assert marked.query_label == "lake"


# -- links -----------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
@pytest.mark.parametrize(
    "name", ["plain.jpg", "a b#c?d%.jpg", "\"><script>'.jpg", "größe.jpg", b"\xff\xfe.jpg"]
)
def test_links_lead_to_the_file(name, tmp_path):
    path = tmp_path / os.fsdecode(name)
    (link,) = Page(file_link(str(path), HOSTILE)).named("a")
    address = urlsplit(link["href"])
    assert (address.scheme, address.netloc, address.query, address.fragment) == ("file", "", "", "")
    assert unquote_to_bytes(address.path) == os.fsencode(path)
    assert HOSTILE in Page(file_link(str(path), HOSTILE)).text


@pytest.mark.parametrize(
    ("path", "linked"),
    [
        ("https://example.org/a%20b.jpg", True),
        ("HTTP://example.org/a.jpg", True),
        ("s3://bucket/a.jpg", False),
        ("javascript://%0aalert(1)", False),
        ("photos.zip/2019/a.jpg", False),
    ],
)
def test_a_link_is_one_that_a_browser_can_open(path, linked):
    assert file_link(path, "<a>") == (f'<a href="{path}">&lt;a&gt;</a>' if linked else "&lt;a&gt;")
    on_a_map = _files([ItemFile(path, None), None])
    assert on_a_map["files"] == (["", None] if linked else [None, None])
    assert on_a_map["folder"] == (path if linked else "")


def test_an_address_of_an_unknown_kind_is_no_obstacle():
    assert "nonsense://a.jpg" in hit_pages.image_figure("nonsense://a.jpg", "caption")
    page = Map2D(
        keys=("a", "b"),
        coordinates=np.zeros((2, 2), np.float32),
        labels=(None, None),
        files=(ItemFile("nonsense://a.jpg", None), None),
        method="pca",
    ).to_html()
    assert '"sizes":[[0,0],[0,0]]' in page


def test_a_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (link,) = Page(file_link("a.jpg", "a")).named("a")
    assert link["href"] == (tmp_path / "a.jpg").as_uri()
    assert file_link(None, "<b>") == "&lt;b&gt;"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
def test_a_name_that_is_no_text_can_be_shown_and_sent(mean_color, tmp_path):
    """A notebook sends what it shows as UTF-8."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))
    path.write_bytes(images.encode(noise(0), "jpeg"))
    made = Retriever(embedder=mean_color)
    made.add([noise(1)], keys=["a"])
    hits = made.search(path)
    for text in (hits._repr_html_(), hits.to_html(), made.search_many([path])._repr_html_()):
        assert "%FF.jpg" in text.encode().decode()


# -- many queries ----------------------------------------------------------------------------


def test_many_queries_are_a_list_that_shows_rows(retriever, photos):
    paths = sorted(photos.rglob("*.jpg"))[:3]
    found = retriever.search_many(paths, k=2)
    assert isinstance(found, list)
    assert found == [retriever.search(path, k=2) for path in paths]
    assert found._repr_html_().count('<section class="search">') == 3
    assert found[1:]._repr_html_().count('<section class="search">') == 2
    assert found.to_html().count("data:image/jpeg") == 9
    assert [row["query"] for row in found.to_dict()["queries"]] == [path.name for path in paths]
    assert retriever.search_vectors(retriever.embed(paths))[:0]._repr_html_()


def test_the_query_is_in_a_column_before_its_hits(retriever):
    text = retriever.search_key("lake/0.jpg", k=2).to_html()
    body = text[text.index("<body") :]
    asked, found = body.index('class="asked"'), body.index('class="found"')
    assert asked < body.index('class="query"') < found < body.index('class="hit')
