"""Mistakes: every one is answered in one line that says what to do."""

import os
import shutil
import sys

import pytest

from imgret import Retriever

# arguments, exit code, what the line must name
MISTAKES = {
    "no such command": ("serach x y", 2, ["serach", "imgret -h"]),
    "no such option": ("search photos.imgret query.jpg --top 3", 2, ["--top", "imgret search -h"]),
    "no query": ("search photos.imgret", 2, ["expected an image or --text", "imgret search -h"]),
    "words that are blank": ("search photos.imgret --text=", 2, ["--text", "expected words"]),
    "no command of models": ("models", 2, ["command", "imgret models -h"]),
    "n of x": ("outliers photos.imgret -n x", 2, ["-n", "at least 1, found x"]),
    "k of 0": ("search photos.imgret query.jpg -k 0", 2, ["-k", "at least 1", "found 0"]),
    "k of no number": ("search photos.imgret query.jpg -k many", 2, ["-k", "1, found many"]),
    "no threads": ("index photos -o new.imgret --threads 0", 2, ["--threads", "found 0"]),
    "no gallery": (
        "search none.imgret query.jpg",
        1,
        ["none.imgret: expected a gallery", "found nothing", "imgret index"],
    ),
    "a folder for a gallery": (
        "search photos query.jpg",
        1,
        ["photos: expected a gallery", "manifest.json", "did you mean", "photos.imgret?"],
    ),
    "a gallery misspelt": (
        "search fotos.imgret query.jpg",
        1,
        ["fotos.imgret: expected a gallery", "did you mean", "photos.imgret?"],
    ),
    "a file for a gallery": ("info query.jpg", 1, ["query.jpg: expected a gallery"]),
    "no query there": ("search photos.imgret lost.jpg", 1, ["lost.jpg: there is no such file"]),
    "a folder without images": (
        "search photos.imgret photos.imgret",
        1,
        ["photos.imgret: expected a folder with images", "other files"],
    ),
    "two forms of output": ("search photos.imgret query.jpg -l --json", 2, ["-l / -0", "--json"]),
    "too many clusters": ("clusters photos.imgret -n 13", 1, ["at most 12", "found 13"]),
    "a cluster that is not there": ("clusters photos.imgret -n 2 --cluster 2", 1, ["0 to 1"]),
    "no confidence": ("mislabelled photos.imgret --threshold 2", 2, ["--threshold"]),
    "no outliers": ("outliers photos.imgret -n 0", 2, ["-n"]),
    "an outlier page in no folder": (
        "outliers photos.imgret --html lost/page.html",
        2,
        ["--html", "no folder lost"],
    ),
    "a page in no folder": (
        "search photos.imgret query.jpg --html lost/page.html",
        2,
        ["--html", "lost/page.html", "no folder lost"],
    ),
    "a folder for a page": (
        "search photos.imgret query.jpg --html photos",
        2,
        ["--html", "found a folder"],
    ),
    "no source": ("index lost -o new.imgret", 2, ["SOURCES", "lost: expected a folder", "nothing"]),
    "no second source": ("index photos lost -o new.imgret", 2, ["lost: expected", "nothing"]),
    "no table": ("index photos --path-column x -o new.imgret", 1, ["--path-column", "table"]),
    "no service": ("index nosuch://b/a.jpg -o new.imgret", 1, ["nosuch://b/a.jpg: "]),
    "a password": ("index https://a:b@c.d/e.jpg -o new.imgret", 1, ["without a password"]),
    "no output": ("index photos", 2, ["--output"]),
    "a file for the output": (
        "index photos -o query.jpg",
        2,
        ["query.jpg: expected a gallery", "found a file", "another path"],
    ),
    "the images for the output": (
        "index photos -o photos",
        2,
        ["photos: expected a gallery", "a folder of other files", "another path"],
    ),
    "an output below a file": ("index photos -o query.jpg/new.imgret", 1, ["query.jpg/new.imgret"]),
    "labels of no kind": (
        "index photos -o new.imgret --labels class",
        2,
        ["--labels", "'parent'", "'class'"],
    ),
    "an embedder misspelt": (
        "index photos -o new.imgret --embedder genral",
        1,
        ["no 'genral'", "known: flowers102", "mean 'general'"],
    ),
    "an embedder's file that is lost": (
        "index photos -o new.imgret --embedder lost.onnx",
        1,
        ["lost.onnx: expected an ONNX file"],
    ),
    "a cropper misspelt": (
        "index photos -o new.imgret --cropper centre",
        1,
        ["no 'centre'", "known: attention, center", "mean 'center'"],
    ),
    "an index misspelt": (
        "index photos -o new.imgret --index hnws",
        1,
        ["no 'hnws'", "flat, hnsw, ", "mean 'hnsw'"],
    ),
    "a factory string that does not exist": (
        "index photos -o new.imgret --index faiss:NOPE",
        1,
        ["'NOPE'", "Faiss"],
    ),
    "a metric that does not exist": (
        "index photos -o new.imgret --metric cosin",
        1,
        ["'cosine', 'ip', 'l2'", "found 'cosin'"],
    ),
    "another index than it has": (
        "index photos -o photos.imgret --index hnsw",
        1,
        ["photos.imgret: expected index 'flat'", "found 'hnsw'", "reindex"],
    ),
    "another metric than it has": (
        "index photos -o photos.imgret --metric l2",
        1,
        ["expected metric 'cosine'", "found 'l2'"],
    ),
    "another cropper than it has": (
        "index photos -o photos.imgret --cropper center",
        1,
        ["photos.imgret: expected the cropper it was made with", "none", "center"],
    ),
    "a path for a key": (
        "remove photos.imgret photos/rose/1.jpg",
        1,
        ["found 'photos/rose/1.jpg'; near it: 'rose/1.jpg'"],
    ),
    "a key misspelt": ("remove photos.imgret rosa/1.jpg", 1, ["near it: "]),
    "an unknown key": ("remove photos.imgret lost.jpg", 1, ["12 in the gallery", "'lost.jpg'"]),
    "another index that does not exist": ("reindex photos.imgret --index hnws", 1, ["no 'hnws'"]),
    "a model that does not exist": ("models check genral", 1, ["no 'genral'", "general"]),
    "a model that is an image": (
        "models check ./query.jpg",
        1,
        ["query.jpg: expected an ONNX file"],
    ),
    "a demo of nothing": ("demo --folder lost", 1, ["lost: expected a folder", "found nothing"]),
    "a demo over a file": ("demo -o query.jpg", 2, ["query.jpg", "found a file"]),
    "a demo with no index": ("demo --index hnws", 1, ["no 'hnws'"]),
}


@pytest.mark.parametrize(("line", "code", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_answered_in_one_line(work, run, line, code, words):
    before = sorted(path.name for path in work.iterdir())
    ended = run(*line.split())
    assert ended.err.startswith("imgret: error: ")
    assert ended.err.count("\n") == 1
    assert "Errno" not in ended.err
    for word in words:
        assert word in ended.err
    assert (ended.code, ended.out) == (code, "")
    assert sorted(path.name for path in work.iterdir()) == before  # nothing half-made


def test_a_gallery_that_was_damaged_is_said_to_be(work, run):
    (work / "photos.imgret" / "manifest.json").write_text("{", encoding="utf-8")
    ended = run("search", "photos.imgret", "query.jpg")
    assert ended.code == 1
    assert "photos.imgret/manifest.json: expected JSON" in ended.err.replace(os.sep, "/")
    assert ended.err.count("\n") == 1


def test_an_empty_gallery_is_said_to_be(work, run):
    Retriever.open("new.imgret", "a").close()
    (work / "empty").mkdir()
    assert run("index", "empty", "-o", "new.imgret").out == "new.imgret: 0 images\n"  # as it was
    ended = run("search", "new.imgret", "query.jpg")
    assert ended.code == 1
    assert "found an empty one; add images first" in ended.err


def test_a_gallery_that_another_writes_is_left_alone(work, run):
    with Retriever.open("photos.imgret", "r+"):
        ended = run("remove", "photos.imgret", "rose/0.jpg")
        assert ended.code == 1
        assert f"open for writing by process {os.getpid()}" in ended.err
        assert run("search", "photos.imgret", "query.jpg").code == 0  # readers may go on


def test_a_directory_that_cannot_be_written_is_named(work, run):
    (work / "shut").mkdir(mode=0o500)
    if os.access("shut", os.W_OK):
        pytest.skip("this user may write everywhere")
    ended = run("index", "photos", "-o", "shut/new.imgret")
    assert ended.code == 1
    assert "shut/new.imgret: expected a directory that can be written" in ended.err
    assert ended.err.count("\n") == 1


def test_debug_lets_the_error_through(work, monkeypatch):
    from imgret.cli import main
    from imgret.errors import StoreNotFoundError

    with pytest.raises(StoreNotFoundError):
        main(["info", "none.imgret", "--debug"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_query_whose_name_is_no_text(work, run):
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy("query.jpg", name)
    ended = run("search", "photos.imgret", name, "-k1", "--json")
    assert ended.code == 0
    assert ended.out.startswith('{"query": "caf\\udce9.jpg"')
    ended = run("search", "photos.imgret", name, "-k1", "--html", "page.html")
    assert ended.code == 0
    assert "caf?.jpg" in (work / "page.html").read_text(encoding="utf-8")
