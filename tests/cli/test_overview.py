"""``imgret duplicates`` and ``imgret map``."""

import json
import shutil
import sys

import pytest


@pytest.fixture
def doubled(work, run):
    """The gallery, with one image twice and another one three times."""
    shutil.copy("photos/rose/0.jpg", "photos/rose/again.jpg")
    shutil.copy("photos/daisy/1.jpg", "photos/daisy/second.jpg")
    shutil.copy("photos/daisy/1.jpg", "photos/tulip/third.jpg")
    assert run("index", "photos", "-o", "photos.imgret", "--labels", "parent").code == 0
    return work


def test_duplicates(doubled, run):
    ended = run("duplicates", "photos.imgret", "--threshold", "0.999")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "3 images, score 1.0000",
        "  daisy/1.jpg",
        "  daisy/second.jpg",
        "  tulip/third.jpg",
        "2 images, score 1.0000",
        "  rose/0.jpg",
        "  rose/again.jpg",
    ]
    assert ended.err == "2 groups; removing 3 images would leave no duplicates\n"


def test_duplicates_as_json(doubled, run):
    ended = run("duplicates", "photos.imgret", "--threshold", "1", "--json")
    assert [json.loads(line) for line in ended.out.splitlines()] == [
        {"score": 1.0, "keys": ["daisy/1.jpg", "daisy/second.jpg", "tulip/third.jpg"]},
        {"score": 1.0, "keys": ["rose/0.jpg", "rose/again.jpg"]},
    ]


def test_copies_need_no_threshold(doubled, run):
    ended = run("duplicates", "photos.imgret", "--html", "page.html")
    assert ended.code == 0
    assert ended.out.count("images, score") == 2
    assert ended.err == ("2 groups; removing 3 images would leave no duplicates\nwrote page.html\n")
    assert "mv, for sh" in doubled.joinpath("page.html").read_text().replace(
        "<code>mv</code>", "mv"
    )


def test_duplicates_are_moved(doubled, run):
    ended = run("duplicates", "photos.imgret", "--move", "out", "--json")
    moved = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 0
    assert {each["key"] for each in moved} == {
        "daisy/second.jpg",
        "rose/again.jpg",
        "tulip/third.jpg",
    }
    assert "moved 3 files to" in ended.err
    assert {path.name for path in (doubled / "out").iterdir()} == {
        "second.jpg",
        "again.jpg",
        "third.jpg",
    }
    assert run("info", "photos.imgret", "--json").code == 0
    assert run("duplicates", "photos.imgret").out == ""


def test_a_file_that_changed_is_named_and_stays(doubled, run):
    (doubled / "photos" / "rose" / "again.jpg").write_bytes(b"changed")
    ended = run("duplicates", "photos.imgret", "--threshold", "0.9999", "--move", "out")
    assert ended.code == 1
    assert "not moved: rose/again.jpg: the file has changed since it was indexed" in ended.err
    assert "moved 2 files" in ended.err
    assert (doubled / "photos" / "rose" / "again.jpg").read_bytes() == b"changed"


def test_copies_of_an_image(doubled, run):
    ended = run("duplicates", "photos.imgret", "--image", "photos/rose/0.jpg", "--json")
    found = {json.loads(line)["key"] for line in ended.out.splitlines()}
    assert found == {"rose/0.jpg", "rose/again.jpg"}


def test_no_duplicates(work, run):
    ended = run("duplicates", "photos.imgret", "--threshold", "1")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("0 groups")


def test_the_map(work, run):
    ended = run("map", "photos.imgret", "-o", "map.html")
    assert (ended.code, ended.out, ended.err) == (0, "", "wrote map.html\n")
    text = (work / "map.html").read_text(encoding="utf-8")
    assert "<title>Map of photos.imgret</title>" in text
    assert "tulip/3.jpg" in text


def test_a_map_without_the_extra_says_so(work, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    ended = run("map", "photos.imgret", "-o", "map.html", "--json")
    assert json.loads(ended.out) == {"page": "map.html", "method": "pca", "items": 12}
    assert "pip install 'imgret[map]'" in ended.err
    assert "pip install &#x27;imgret[map]&#x27;" in (work / "map.html").read_text(encoding="utf-8")
    ended = run("map", "photos.imgret", "-o", "map.html", "--method", "tsne")
    assert ended.code == 1
    assert "pip install 'imgret[map]'" in ended.err


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ("duplicates photos.imgret --review list.json", 2, ["--move"]),
        ("duplicates photos.imgret --html out.txt", 2, [".html"]),
        ("duplicates photos.imgret --move photos/rose/0.jpg", 2, ["folder", "found the file"]),
        ("duplicates photos.imgret --image x.jpg --threshold 1", 2, ["--threshold"]),
        ("duplicates photos.imgret --image no.jpg", 1, ["no.jpg", "no such file"]),
        ("duplicates photos.imgret --threshold 2", 1, ["threshold", "at most 1", "found 2"]),
        ("map photos.imgret", 2, ["--output"]),
        ("map photos.imgret -o photos", 2, ["--output", "found a folder"]),
        ("map photos.imgret -o lost/map.html", 2, ["lost/map.html", "no folder lost"]),
        (
            "map photos.imgret -o map.html --method lda",
            2,
            ["--method", "auto, tsne, umap, pca", "'lda'"],
        ),
    ],
)
def test_mistakes_are_told(work, run, words, code, named):
    ended = run(*words.split())
    assert ended.code == code
    assert ended.out == ""
    for part in named:
        assert part in ended.err
