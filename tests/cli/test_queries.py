"""What `imgret search` takes, and the forms in which it prints what it found."""

import io
import json
import shutil
import subprocess
import sys

import pytest

from imgret import Retriever


@pytest.fixture
def stdin(monkeypatch):
    """Give the command something to read."""

    def give(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def names(ended):
    return [json.loads(line)["query"] for line in ended.out.splitlines()]


def search(run, *words):
    return run("search", "photos.imgret", *words)


def test_a_folder_is_searched_image_by_image(work, run):
    ended = search(run, "photos/rose", "query.jpg", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert names(ended) == [*(f"photos/rose/{n}.jpg" for n in range(4)), "query.jpg"]


def test_a_folder_without_images_costs_only_itself(work, run):
    (work / "empty").mkdir()
    ended = search(run, "empty", "query.jpg", "--json")
    assert (ended.code, names(ended)) == (3, ["query.jpg"])
    assert "empty: expected a folder with images, found an empty one" in ended.err
    assert search(run, "empty").code == 1


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_a_list_on_standard_input(work, run, stdin, separator):
    stdin(separator.join([b"query.jpg", b"photos/tulip", b"lost.jpg", b""]))
    ended = search(run, "-", "--json")
    assert ended.code == 3
    assert names(ended) == ["query.jpg", *(f"photos/tulip/{n}.jpg" for n in range(4))]
    assert ended.err.endswith("lost.jpg: there is no such file\n")


def test_an_empty_list_is_an_error(work, run, stdin):
    stdin(b"\n")
    ended = search(run, "-")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "imgret: error: standard input: expected the paths of images, found none\n"
    )


@pytest.mark.parametrize(("words", "named"), [("- -", "found it twice"), ("-", "a terminal")])
def test_a_list_that_cannot_be_read(work, run, stdin, monkeypatch, words, named):
    stdin(b"query.jpg\n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    ended = search(run, *words.split())
    assert (ended.code, ended.out) == (2, "")
    assert named in ended.err


def test_classify_takes_the_same(work, run, stdin):
    with Retriever.open("photos.imgret", "r+") as gallery:
        gallery.add_folder("photos", labels="parent", prefix="b/")
        gallery.add_folder("photos", labels="parent", prefix="c/")
    stdin(b"photos/rose/0.jpg\nlost.jpg\n")
    ended = run("classify", "photos.imgret", "-", "photos/tulip", "--json")
    assert ended.code == 3
    assert [json.loads(line)["label"] for line in ended.out.splitlines()] == [
        "rose",
        *4 * ["tulip"],
    ]


def test_metadata_is_shown(work, run):
    with Retriever.open("photos.imgret", "r+") as gallery:
        gallery.update("rose/0.jpg", metadata={"year": 2019, "by": "Zoë  Li\n", "gps": [1.5, 2]})
    ended = search(run, "photos/rose/0.jpg", "-k", "2")
    _, first, second = ended.out.splitlines()
    assert first.endswith("rose/0.jpg  year=2019  by=Zoë Li  gps=[1.5, 2]")
    assert "=" not in second
    hits = json.loads(search(run, "photos/rose/0.jpg", "-k", "2", "--json").out)["hits"]
    assert hits[0]["metadata"] == {"year": 2019, "by": "Zoë  Li\n", "gps": [1.5, 2]}
    assert hits[1]["metadata"] == {}


def test_a_filter_that_fits_nothing_is_reported(work, run):
    ended = search(run, "query.jpg", "--where", '{"label": "roze"}')
    assert (ended.code, ended.out) == (0, "query.jpg: no match\n")
    assert ended.err == ("imgret: warning: no image fits --where; did you mean the label 'rose'?\n")
    ended = search(run, "query.jpg", "--where", '{"key": "x"}', "--json")
    assert ended.err == "imgret: warning: no image fits --where\n"
    assert search(run, "query.jpg", "--threshold", "2").err == ""


# -- paths for other commands ----------------------------------------------------------------


def test_paths_are_printed_once_each(work, run):
    ended = search(run, "photos/rose", "-k", "3", "-l")
    assert (ended.code, ended.err) == (0, "")
    paths = ended.out.splitlines()
    assert len(paths) == len(set(paths)) >= 4
    assert str(work / "photos" / "rose" / "0.jpg") in paths
    with_nul = search(run, "photos/rose", "-k", "3", "-0").out
    assert with_nul == "".join(f"{path}\0" for path in paths)
    assert search(run, "photos/rose", "-k", "3", "-l0").out == with_nul


def test_items_without_a_file_are_left_out(work, run):
    with Retriever.open("photos.imgret", "r+") as gallery:
        gallery.add((work / "query.jpg").read_bytes(), keys="bytes")
    ended = search(run, "query.jpg", "-k", "2", "-l")
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 1
    assert ended.err == ("imgret: warning: 1 item has no file and was left out: bytes\n")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such file names, and no xargs")
def test_other_commands_get_odd_names_as_they_are(work, run):
    shutil.copy("query.jpg", "photos/café 'one'\ntwo.jpg")
    assert run("index", "photos", "-o", "photos.imgret").code == 0
    line = (
        f"'{sys.executable}' -m imgret search photos.imgret query.jpg -k 1 -0 | xargs -0 cp -t to"
    )
    (work / "to").mkdir()
    ended = subprocess.run(["/bin/sh", "-c", line], capture_output=True, timeout=60, check=True)
    assert ended.stderr == b""
    assert [path.name for path in (work / "to").iterdir()] == ["café 'one'\ntwo.jpg"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pipes of a shell")
def test_a_reader_of_paths_that_has_seen_enough(work):
    line = f"'{sys.executable}' -m imgret search photos.imgret photos -k12 -l | true"
    ended = subprocess.run(["/bin/sh", "-c", line], capture_output=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == (b"", b"")
