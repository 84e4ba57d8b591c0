"""The result page: one file that needs no other, whatever the pictures are called."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from imgret import Retriever, images
from imgret.pages import hits as hit_pages
from imgret.types import Box, Hit

HOSTILE = "<script>alert(1)</script>\"'&amp;<img src=x onerror=alert(2)>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Page(HTMLParser):
    """What stands in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def pictures(self):
        """The pictures, decoded."""
        decoded = []
        for image in self.attributes("img"):
            kind, data = image["src"].split(",", 1)
            assert kind == "data:image/jpeg;base64"
            decoded.append(images.load(base64.b64decode(data, validate=True)))
        return decoded


@pytest.fixture
def searched(work, run):
    """The page of two queries with three hits each."""
    queries = ("query.jpg", "photos/daisy/1.jpg")
    ended = run("search", "photos.imgret", *queries, "-k3", "--html", "page.html")
    assert ended.code == 0
    assert ended.err == "wrote page.html\n"
    return work / "page.html"


def test_the_page_shows_every_query_and_hit(searched):
    page = Page(searched.read_text(encoding="utf-8"))
    shown = page.pictures()
    assert len(shown) == 2 * (1 + 3)
    assert all(max(picture.shape[:2]) == 120 for picture in shown)  # small ones are not enlarged
    text = " ".join(page.text)
    assert "Search in photos.imgret" in text
    assert "daisy/1.jpg" in text
    assert "1 · 1.000" in text


def test_the_page_refers_to_nothing_outside(searched):
    page = Page(searched.read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "srcset", "data", "action"}:
                assert value.startswith("data:")
    for link in page.attributes("a"):
        assert link["href"].startswith("file:///")
    assert all("href" not in attributes for tag, attributes in page.tags if tag != "a")
    (style,) = (text for text in page.text if "font:" in text)
    assert "url(" not in style
    assert "@import" not in style


def test_names_and_labels_are_text_and_never_markup(work):
    retriever = Retriever()
    retriever.add("query.jpg", keys=HOSTILE, labels=HOSTILE)
    hits = retriever.search("query.jpg")
    for text in (
        hit_pages.page([hit_pages.Row(HOSTILE, "query.jpg", hits)], title=HOSTILE, note=HOSTILE),
        hits.to_html(title=HOSTILE),
        hits._repr_html_(),
    ):
        page = Page(text)
        assert len(page.attributes("img")) == 2
        assert not page.attributes("script")
        assert HOSTILE in page.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
def test_hostile_file_names_are_escaped(work, run):
    name = "\"><script>alert(1)<x onerror='alert(2)'>{title}.jpg"
    shutil.copy("query.jpg", name)
    shutil.copy("query.jpg", f"photos/{name}")
    assert run("index", "photos", "-o", "photos.imgret").code == 0
    assert run("search", "photos.imgret", name, "-k2", "--html", "page.html").code == 0
    page = Page((work / "page.html").read_text(encoding="utf-8"))
    assert [image["alt"] for image in page.attributes("img")[:2]] == [name, name]
    assert not page.attributes("script")
    assert page.text.count(name) == 2  # of the query and of the hit


def test_a_picture_that_is_gone_is_told_in_its_place(work, run):
    (work / "photos" / "rose" / "0.jpg").unlink()
    (work / "photos" / "rose" / "1.jpg").write_bytes(b"no picture")
    assert run("search", "photos.imgret", "query.jpg", "-k12", "--html", "page.html").code == 0
    page = Page((work / "page.html").read_text(encoding="utf-8"))
    assert len(page.pictures()) == 1 + 10
    assert any("there is no such file" in text for text in page.text)
    assert any("not the one that was indexed" in text for text in page.text)


def test_the_box_of_a_crop_is_drawn(work):
    picture = images.load("query.jpg")
    digest = hashlib.sha256(Path("query.jpg").read_bytes()).digest()
    plain, boxed = (
        Hit("a", 1.0, 1, None, {}, "query.jpg", box, sha256=digest)
        for box in (Box.full(picture), Box(30, 20, 90, 70))
    )
    _, whole, cropped = Page(
        hit_pages.grid([hit_pages.Row("query", picture, [plain, boxed])])
    ).pictures()
    differing = (abs(whole.astype(int) - cropped.astype(int)).max(axis=2) > 60).nonzero()
    assert len(differing[0])
    assert differing[0].min() >= 12
    assert differing[0].max() <= 78
    assert differing[1].min() >= 22
    assert differing[1].max() <= 98


def test_a_vector_without_a_picture_is_told(work):
    retriever = Retriever()
    retriever.add_vectors(retriever.embed(["query.jpg"]), keys=["alone"])
    page = Page(retriever.search_vectors(retriever.embed(["query.jpg"]))[0].to_html())
    assert not page.attributes("img")
    assert "no image stored" in page.text


def test_a_page_of_no_hits_still_shows_the_query(work, run):
    ended = run("search", "photos.imgret", "query.jpg", "--threshold", "2", "--html", "page.html")
    assert ended.code == 0
    assert len(Page((work / "page.html").read_text(encoding="utf-8")).pictures()) == 1


# What the browser made of the page, for --dump-dom to print.
PROBE = """<script>
addEventListener("load", () => {
  const pictures = [...document.images].map(i => [i.naturalWidth, i.clientWidth, i.clientHeight]);
  const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  document.body.setAttribute("data-probe", JSON.stringify({pictures, wide}));
});
</script></body>"""


@pytest.mark.slow
def test_a_browser_shows_every_picture(searched, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    probed = tmp_path / "probed.html"
    text = searched.read_text(encoding="utf-8")
    probed.write_text(text.replace("</body>", PROBE), encoding="utf-8")
    profile = tmp_path / "profile"
    profile.mkdir()
    ended = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            f"--user-data-dir={profile}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            probed.as_uri(),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
        env={**os.environ, "HOME": str(profile)},
    )
    (body,) = Page(ended.stdout).attributes("body")
    seen = json.loads(body["data-probe"])
    assert len(seen["pictures"]) == 8
    for natural, width, height in seen["pictures"]:
        assert natural == 120
        assert 0 < width <= 160
        assert 0 < height <= 160
    assert not seen["wide"]
