"""The commands that look at a whole gallery."""

import json
import shutil
import sys

import pytest

from imgret import images


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


@pytest.mark.slow
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
    assert ended.code == 3
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
    assert ended.err == "no duplicates\n"


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


# -- outliers, mislabelled, clusters ---------------------------------------------------------


@pytest.fixture
def mixed(work, run):
    """The gallery, with six almost equal roses, one of them among the tulips."""
    rose = images.load("photos/rose/0.jpg")
    places = [*(f"rose/near-{n}.jpg" for n in range(5)), "tulip/wrong.jpg"]
    for n, place in enumerate(places):
        (work / "photos" / place).write_bytes(images.encode(rose, "jpeg", quality=60 + 5 * n))
    assert run("index", "photos", "-o", "photos.imgret", "--labels", "parent").code == 0
    return work


def test_outliers(work, run):
    ended = run("outliers", "photos.imgret", "-n", "3")
    rows = [line.split() for line in ended.out.splitlines()]
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert all(row[2].startswith(f"{row[1]}/") for row in rows)  # label and key
    assert ended.err == "the 3 of 12 images that are least like others\n"
    listed = json.loads(run("outliers", "photos.imgret", "-n", "3", "--json").out)["outliers"]
    assert [one["key"] for one in listed] == [row[2] for row in rows]
    paths = run("outliers", "photos.imgret", "-n", "3", "-0").out
    assert paths == "".join(f"{work / 'photos' / row[2]}\0" for row in rows)


def test_mislabelled(mixed, run):
    ended = run("mislabelled", "photos.imgret", "-k", "5")
    first = ended.out.splitlines()[0].split()
    assert first[1:] == ["tulip", "->", "rose", "tulip/wrong.jpg"]
    assert ended.err.endswith("that may be wrong\n")
    listed = json.loads(run("mislabelled", "photos.imgret", "-k", "5", "--json").out)["issues"]
    assert listed[0]["key"] == "tulip/wrong.jpg"
    assert f"{listed[0]['confidence']:.2f}" == first[0]
    paths = run("mislabelled", "photos.imgret", "-k", "5", "-l").out
    assert paths.splitlines()[0] == str(mixed / "photos" / "tulip" / "wrong.jpg")


def test_no_label_looks_wrong(work, run):
    ended = run("mislabelled", "photos.imgret", "--threshold", "1")
    assert (ended.code, ended.out, ended.err) == (0, "", "0 labels that may be wrong\n")


def test_clusters(work, run):
    ended = run("clusters", "photos.imgret", "-n", "3")
    head, *rows = ended.out.splitlines()
    assert head.startswith("Clusters: 3 of 12 items")
    typical = [row.rpartition(" ")[2] for row in rows]
    listed = json.loads(run("clusters", "photos.imgret", "-n", "3", "--json").out)
    assert listed["representatives"] == typical
    paths = run("clusters", "photos.imgret", "-n", "3", "-l").out
    assert paths.splitlines() == [str(work / "photos" / key) for key in typical]
    keys = [key for key, number in listed["assignments"].items() if number == 1]
    assert run("clusters", "photos.imgret", "-n", "3", "--cluster", "1").out.split() == keys
    paths = run("clusters", "photos.imgret", "-n", "3", "--cluster", "1", "-l").out
    assert paths.splitlines() == [str(work / "photos" / key) for key in keys]


def test_clusters_of_a_small_gallery(work, run):
    kept = [f"rose/{n}.jpg" for n in range(2)]
    gone = [
        key
        for key in (f"{s}/{n}.jpg" for s in ("daisy", "rose", "tulip") for n in range(4))
        if key not in kept
    ]
    run("remove", "photos.imgret", *gone)
    assert run("clusters", "photos.imgret").out.startswith("Clusters: 2 of 2 items")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["outliers", "mislabelled", "clusters"])
def test_the_pages(mixed, run, command):
    ended = run(command, "photos.imgret", "--html", "page.html")
    assert ended.code == 0
    assert ended.err.endswith("wrote page.html\n")
    page = (mixed / "page.html").read_text(encoding="utf-8")
    assert "of photos.imgret" in page.partition("</title>")[0]
    assert "data:image/" in page
