"""list, show, export and import."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from imgret import Retriever


def test_list_has_a_key_and_a_label_a_line(work, run):
    ended = run("list", "photos.imgret")
    assert (ended.code, ended.err) == (0, "")
    with Retriever.open("photos.imgret") as retriever:
        assert ended.out.splitlines() == [f"{key}\t{retriever[key].label}" for key in retriever]
    where = '{"label": "rose"}'
    assert run("list", "photos.imgret", "--where", where, "--limit", "2", "-0").out == (
        "rose/0.jpg\0rose/1.jpg\0"
    )
    rows = [json.loads(line) for line in run("list", "photos.imgret", "--json").out.splitlines()]
    assert len(rows) == 12
    assert rows[0] == {
        "key": "daisy/0.jpg",
        "label": "daisy",
        "path": str(work / "photos" / "daisy" / "0.jpg"),
        "box": [0, 0, 120, 90],
        "metadata": {},
    }


def test_list_of_an_empty_gallery(work, run):
    Retriever.open("empty.imgret", "a").close()
    assert run("list", "empty.imgret", "--where", '{"x": 1}') == (0, "", "")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_list_is_cut_off_quietly(work):
    line = f"'{sys.executable}' -m imgret list photos.imgret --json | head -n 1"
    ended = subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(ended.stdout)["key"] == "daisy/0.jpg"
    assert ended.stderr == ""


def test_show_says_everything(work, run):
    shutil.copy("query.jpg", "photos/rose/new.jpg")
    table = "key,year,place\nrose/new.jpg,2020,Kew\n"
    (work / "facts.csv").write_text(table, encoding="utf-8")
    run("index", "photos", "-o", "photos.imgret", "--metadata", "facts.csv")
    ended = run("show", "photos.imgret", "rose/new.jpg", "daisy/0.jpg")
    assert ended.code == 0
    first, second = ended.out.split("\n\n")
    lines = [line.split(maxsplit=1) for line in first.splitlines()]
    assert lines[0] == ["rose/new.jpg"]
    facts = dict(line for line in lines if len(line) == 2)
    assert facts["path"] == str(work / "photos" / "rose" / "new.jpg")
    assert facts["box"] == "0, 0, 120, 90 (the whole image)"
    assert (facts["year"], facts["place"]) == ("2020", "Kew")
    assert second.startswith("daisy/0.jpg\n")
    (work / "photos" / "rose" / "new.jpg").unlink()
    found = json.loads(run("show", "photos.imgret", "rose/new.jpg", "--json").out)
    assert found["metadata"] == {"year": 2020, "place": "Kew"}
    assert found["path_exists"] is False
    assert len(found["sha256"]) == 64
    assert "(missing)" in run("show", "photos.imgret", "rose/new.jpg").out


NEAR = {
    "photos/rose/1.jpg": "near it: 'rose/1.jpg'",  # as the shell completes it
    "Rose/1.JPG": "near it: 'rose/1.jpg'",
    "rosa/1.jpg": "'rose/1.jpg'",
    "2.jpg": "near it: 'daisy/2.jpg', 'rose/2.jpg', 'tulip/2.jpg'",
    "tulip": "near it: 'tulip/0.jpg'",
    "zzz": "found 'zzz'\n",
}


@pytest.mark.slow
def test_show_names_keys_near_an_unknown_one(work, run):
    for key, near in NEAR.items():
        ended = run("show", "photos.imgret", key)
        assert (ended.code, ended.out) == (1, "")
        assert near in ended.err
    assert run("show", "photos.imgret", "zzz", "rose/0.jpg").code == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_export_and_import_are_a_round_trip(work, run, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra 'tables'")
    file = f"photos.{kind}"
    ended = run("export", "photos.imgret", file)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{file}: 12 images, ")
    ended = run("export", "photos.imgret", file)
    assert ended.code == 1
    assert f"{file}: expected an unused path, found a file" in ended.err
    ended = run("export", "photos.imgret", file, "--force", "--json")
    assert json.loads(ended.out) == {
        "file": file,
        "items": 12,
        "bytes": (work / file).stat().st_size,
    }
    assert run("import", file, "-o", "again.imgret").out == "again.imgret: 12 images (12 added)\n"
    told = json.loads(run("import", file, "-o", "again.imgret", "--json").out)
    assert (told["items"], told["added"], told["unchanged"]) == (12, 0, 12)
    for command in ("list", "info"):
        before = run(command, "photos.imgret", "--json").out
        after = run(command, "again.imgret", "--json").out
        if command == "list":
            assert before == after
    search = ("query.jpg", "-k5", "--json")
    assert run("search", "photos.imgret", *search).out == run("search", "again.imgret", *search).out


def test_export_of_some_as_csv_and_back(work, run):
    ended = run("export", "photos.imgret", "roses.csv", "--where", '{"label": "rose"}')
    assert ended.out.startswith("roses.csv: 4 images")
    text = (work / "roses.csv").read_text(encoding="utf-8")
    (work / "roses.csv").write_text(text.replace(",rose,", ",Rosa,"), encoding="utf-8")
    ended = run("import", "roses.csv", "-o", "photos.imgret")
    assert ended.out == "photos.imgret: 12 images (4 changed)\n"
    assert run("list", "photos.imgret", "--where", '{"label": "Rosa"}').out.count("\n") == 4


MISTAKES = {
    "a filter that is no JSON": (
        "list photos.imgret --where rose",
        2,
        ["--where", "expected JSON"],
    ),
    "a field that does not exist": (
        'list photos.imgret --where {"yaer":1}',
        1,
        ["'yaer'"],
    ),
    "a limit of 0": ("list photos.imgret --limit 0", 2, ["--limit", "found 0"]),
    "two formats": ("list photos.imgret --json -0", 2, ["-0", "found both"]),
    "no gallery": ("list none.imgret", 1, ["none.imgret: expected a gallery", "found nothing"]),
    "no key": ("show photos.imgret", 2, ["Missing argument", "imgret show -h"]),
    "no format": ("export photos.imgret photos.xlsx", 2, ["FILE", ".parquet, .npz, .csv"]),
    "no folder": ("export photos.imgret lost/x.npz", 2, ["FILE", "no folder lost"]),
    "no file": ("import lost.npz -o new.imgret", 1, ["lost.npz: expected a file, found nothing"]),
    "an image": (
        "import query.jpg -o new.imgret",
        1,
        ["query.jpg: expected a file name that ends"],
    ),
    "a folder for the output": ("import x.npz -o photos", 1, ["photos: expected a gallery"]),
    "no output": ("import x.npz", 2, ["--output"]),
    "a column that does not exist": (
        "import x.npz -o new.imgret --key-column nam",
        1,
        ["x.npz: expected a column 'nam'", "'keys'"],
    ),
    "a table without a model": (
        "import x.npz -o new.imgret --vector-column vectors",
        1,
        ["x.npz: expected the embedder that made the vectors (1280-d)", "--embedder"],
    ),
    "another model's dimension": (
        "import x.npz -o new.imgret --vector-column vectors --embedder flowers102",
        1,
        ["as embedder 'flowers102' makes them, found 1280"],
    ),
}


@pytest.mark.slow
def test_a_mistake_is_answered_in_one_line(work, run):
    run("export", "photos.imgret", "x.npz")
    before = sorted(path.name for path in work.iterdir())
    for name, (line, code, words) in MISTAKES.items():
        ended = run(*line.split())
        assert ended.err.startswith("imgret: error: "), name
        assert ended.err.count("\n") == 1, name
        for word in words:
            assert word in ended.err, name
        assert (ended.code, ended.out) == (code, ""), name
        assert sorted(path.name for path in work.iterdir()) == before, name  # nothing half-made


# -- the log -----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("-v", "list"), ("list", "--verbose")])
def test_verbose_shows_what_is_done(work, run, words):
    ended = run(*words, "photos.imgret", "--limit", "1")
    assert ended.out == "daisy/0.jpg\tdaisy\n"
    assert f"galleries.local.store: opened {work / 'photos.imgret'} for reading: 12 items" in (
        ended.err
    )
    assert ended.err.count("\n") == 1


def test_very_verbose_shows_more(work, run):
    shutil.copy("query.jpg", "photos/new.jpg")
    ended = run("index", "photos", "-o", "photos.imgret", "-vv")
    assert "found 13 images in" in ended.err
    assert "ingest.writer: committed 1 items" in ended.err
    assert run("list", "photos.imgret").err == ""  # only that command


@pytest.mark.slow
def test_the_library_prints_nothing_by_itself(work):
    """Not even a warning, unless the program asks for it."""
    code = (
        "import logging; from imgret import Retriever\n"
        "r = Retriever.open('photos.imgret'); r.search('query.jpg', k=1); r.close()\n"
        "logging.getLogger('imgret.x').warning('hidden')\n"
        "logging.basicConfig(level='INFO'); Retriever.open('photos.imgret')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("INFO:imgret.galleries.local.store:opened ")
