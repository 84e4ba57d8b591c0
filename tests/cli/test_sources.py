"""``imgret index`` of several sources, archives, tables and lists on standard input."""

import io
import json
import sys
import zipfile

import pytest

from imgret import Retriever


@pytest.fixture
def type_in(monkeypatch):
    def type_(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return type_


def keys(gallery):
    with Retriever.open(gallery) as retriever:
        return list(retriever)


@pytest.mark.slow
def test_folders_archives_and_tables_at_once(work, run):
    with zipfile.ZipFile("p.zip", "w") as archive:
        archive.write("query.jpg", "q/query.jpg")
    (work / "t.csv").write_text("path,label,price\nquery.jpg,rose,3\n", encoding="utf-8")
    sources = ("photos/rose", "photos/tulip", "p.zip", "t.csv")
    ended = run("index", *sources, "-o", "new.imgret", "--json")
    facts = json.loads(ended.out)
    assert (ended.code, facts["items"]) == (0, 10)
    assert {"rose/0.jpg", "tulip/3.jpg", "p.zip/q/query.jpg", "query.jpg"} < set(keys("new.imgret"))
    with Retriever.open("new.imgret") as retriever:
        assert retriever["query.jpg"].metadata == {"price": 3}
    again = run("index", *reversed(sources), "-o", "new.imgret", "--json")
    assert len(json.loads(again.out)["skipped"]) == 10
    found = run("search", "new.imgret", "query.jpg", "-k", "2", "--html", "p.html")
    assert found.code == 0
    assert (work / "p.html").read_text(encoding="utf-8").count("data:image/jpeg") == 3


@pytest.mark.parametrize("end", [b"\n", b"\0", b"\r\n"])
def test_a_list_on_standard_input(work, run, type_in, end):
    names = [b"./photos/rose/0.jpg", b"photos/rose/1.jpg", b"photos/none.jpg", b"photos/tulip", b""]
    type_in(end.join(names))
    ended = run("index", "-", "-o", "new.imgret")
    assert ended.code == 3
    assert "failed: " in ended.err
    assert "none.jpg: there is no such file" in ended.err
    assert sorted(keys("new.imgret")) == [
        "0.jpg", "1.jpg", "2.jpg", "3.jpg", "photos/rose/0.jpg", "photos/rose/1.jpg"
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_an_empty_list_is_a_mistake(work, run, type_in, data):
    type_in(data)
    ended = run("index", "-", "-o", "new.imgret")
    assert ended.code == 2
    assert "expected a list of paths on standard input, found nothing" in ended.err
    assert run("index", "-", "-", "-o", "new.imgret").code == 2
    assert not (work / "new.imgret").exists()


def test_an_archive_that_cannot_be_read_makes_no_gallery(work, run):
    (work / "p.zip").write_bytes(b"no archive")
    ended = run("index", "p.zip", "-o", "new.imgret")
    assert ended.code == 1
    assert "expected a zip archive" in ended.err
    assert not (work / "new.imgret").exists()


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "an empty folder", "a gallery"])
def test_sources_without_images_leave_no_gallery_behind(work, run, before):
    for folder in ("empty", "texts"):
        (work / folder).mkdir()
    (work / "texts" / "a.txt").write_text("no image", encoding="utf-8")
    (work / "bad.jpg").write_bytes(b"no image")
    target = work / ("photos.imgret" if before == "a gallery" else "new.imgret")
    if before == "an empty folder":
        target.mkdir()
    for source, found in (
        ("empty", "empty: expected images, found none;"),
        ("texts", "1 other file ignored: 1 .txt"),
        ("bad.jpg", "bad.jpg: expected images, found none that can be read; "),
    ):
        ended = run("index", source, "-o", target)
        if before == "a gallery":
            assert (ended.code, len(keys(target))) == (1 if source == "bad.jpg" else 0, 12)
            continue
        assert (ended.code, ended.out) == (1, "")
        assert found in ended.err
        assert f"{target} was not created" in ended.err
        assert target.exists() == (before == "an empty folder")
        assert not (target.exists() and any(target.iterdir()))
    if before == "nothing":
        ended = run("index", "empty", "-o", target, "--json")
        assert (ended.code, json.loads(ended.out)["items"], target.exists()) == (1, 0, False)
        assert run("index", "empty", "-o", target, "--metric", "none").code == 1
        assert not target.exists()


def test_an_address_that_fails_leaves_no_gallery_behind(work, run):
    pytest.importorskip("fsspec", reason="needs the extra 'remote'")
    import fsspec

    fsspec.filesystem("memory").pipe("/bad/a.jpg", b"no image")
    ended = run("index", "memory://bad/a.jpg", "-o", "new.imgret")
    assert ended.code == 1
    assert "new.imgret was not created" in ended.err
    assert not (work / "new.imgret").exists()


@pytest.mark.slow
def test_a_query_at_an_address(work, run):
    pytest.importorskip("fsspec", reason="needs the extra 'remote'")
    import fsspec

    address = "memory://queries/a%20b.jpg"
    fsspec.filesystem("memory").pipe("/queries/a%20b.jpg", (work / "query.jpg").read_bytes())
    run("index", "photos", "-o", "new.imgret")
    by_path = run("search", "new.imgret", "query.jpg", "-k", "2", "--json")
    by_address = run("search", "new.imgret", address, "-k", "2", "--json")
    assert by_address.code == 0
    first, second = json.loads(by_path.out), json.loads(by_address.out)
    assert second["query"] == address
    assert first["hits"] == second["hits"]
    missing = run("search", "new.imgret", "memory://queries/none.jpg")
    assert missing.code == 1
    assert "memory://queries/none.jpg: there is no such file" in missing.err


def test_the_label_of_an_image_in_one_of_several_folders_is_that_folder(work, run):
    run("index", "photos/rose", "photos/tulip", "-o", "new.imgret", "--labels", "parent")
    with Retriever.open("new.imgret") as retriever:
        assert retriever["rose/0.jpg"].label == "rose"
        assert retriever["tulip/3.jpg"].label == "tulip"
    run("index", "photos/rose", "-o", "one.imgret", "--labels", "parent")
    with Retriever.open("one.imgret") as retriever:
        assert retriever["0.jpg"].label is None
