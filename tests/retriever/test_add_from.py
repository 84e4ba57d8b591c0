"""Sources of every kind: which images they give, under which keys, and what a repetition does."""

import os
import shutil
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgret import Retriever
from imgret.errors import (
    DuplicateKeyError,
    ImageCorruptError,
    ImageNotFoundError,
    InvalidInputError,
    MissingExtraError,
)
from imgret.ingest.prefixes import choose_prefixes


@pytest.fixture
def retriever(mean_color):
    return Retriever(embedder=mean_color)


@pytest.fixture
def here(photos, monkeypatch):
    """The folder with photos/, as the current directory."""
    monkeypatch.chdir(photos.parent)
    return photos.parent


def pack(path, folder, names=None):
    """Write the files of a folder into an archive."""
    files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
    inside = [(file, file.relative_to(folder).as_posix()) for file in files]
    inside = [(file, name) for file, name in inside if names is None or name in names]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file, name in inside:
                archive.write(file, name)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
            for file, name in inside:
                archive.add(file, name)
    return path


def test_one_folder_has_keys_as_add_folder_makes_them(retriever, here):
    retriever.add_from("photos")
    other = Retriever(embedder=retriever.embedder)
    other.add_folder("photos")
    assert list(retriever) == list(other)
    assert len(retriever.add_from(["photos"]).skipped) == 12


def test_several_folders_have_their_names_as_prefixes_and_keep_them(retriever, here):
    shutil.copytree("photos/lake", "more/lake")
    report = retriever.add_from(["photos", "more"], labels="parent")
    assert len(report.ok) + len(report.duplicate) == 16
    assert {"photos/lake/0.jpg", "more/lake/0.jpg"} < set(retriever)
    assert retriever["more/lake/0.jpg"].label == "lake"
    for sources in ("photos", ["more"], "photos/wood", ["more", "photos"]):
        again = retriever.add_from(sources)
        assert len(again.skipped) == again.total  # no second key for any of them
    assert len(retriever) == 16


def test_folders_of_one_name_are_told_apart(retriever, here):
    shutil.copytree("photos/lake", "a/raw")
    shutil.copytree("photos/wood", "b/raw")
    retriever.add_from(["a/raw", "b/raw"])
    prefixes = {key.rpartition("/")[0] for key in retriever}
    assert prefixes == {"raw", "b/raw"}
    shutil.copytree("photos/sand", "c/raw")
    retriever.add_from(["c/raw", "photos"])
    assert "c/raw/0.jpg" in retriever


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.sampled_from(["raw", "2019", "a.zip"]), min_size=1, max_size=4).map("/".join),
        min_size=2,
        max_size=6,
        unique=True,
    )
)
def test_prefixes_are_as_many_as_places(mean_color, places):
    roots = [Path("/data", place) for place in places]
    chosen = choose_prefixes(Retriever(embedder=mean_color)._gallery, roots, None)
    assert len(set(chosen.values())) == len(roots)
    for root, prefix in chosen.items():
        assert f"{root}/".endswith(f"/{prefix}")


def test_what_was_moved_keeps_its_keys(retriever, here):
    pack(here / "p.zip", "photos")
    shutil.copytree("photos/lake", "a/raw")
    retriever.add_from(["p.zip", "a/raw", "photos/wood"])
    before = sorted(retriever)
    Path("b").mkdir()
    shutil.move("p.zip", "b/p.zip")
    shutil.move("a/raw", "b/raw")
    report = retriever.add_from(["b/raw", "b/p.zip"])
    assert len(report.skipped) == report.total == 16
    assert sorted(retriever) == before
    assert retriever["p.zip/lake/0.jpg"].path == str(here.resolve() / "b/p.zip/lake/0.jpg")


def test_a_given_prefix_stands_before_all(retriever, here):
    pack(here / "p.zip", "photos", ["lake/0.jpg"])
    retriever.add_from(["photos/wood", "p.zip", "photos/sand/1.jpg"], prefix="x/")
    assert {"x/wood/0.jpg", "x/p.zip/lake/0.jpg", "x/photos/sand/1.jpg"} < set(retriever)


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tgz"])
def test_an_archive(retriever, here, name):
    archive = pack(here / name, "photos")
    report = retriever.add_from(name, labels="parent")
    assert len(report.ok) == 12
    item = retriever[f"{name}/lake/0.jpg"]
    assert (item.label, item.path) == ("lake", str(archive.resolve() / "lake" / "0.jpg"))
    assert retriever.search("photos/lake/0.jpg", k=1)[0].key == item.key
    assert "data:image/jpeg" in retriever.search(item.path, k=1).to_html()  # read in place
    os.utime(archive, (1, 1))
    assert len(retriever.add_from(name).skipped) == 12  # by the bytes of each member
    shutil.rmtree("photos/wood")
    shutil.copy("photos/lake/1.jpg", "photos/lake/0.jpg")
    pack(archive, "photos")
    again = retriever.add_from(name)
    assert [line.key for line in again.duplicate] == [f"{name}/lake/0.jpg"]
    assert len(again.vanished) == 4
    assert len(retriever) == 12
    retriever.add_from(name, prune=True)
    assert len(retriever) == 8


def test_a_folder_does_not_miss_the_members_of_its_archives(retriever, here):
    pack(here / "photos" / "old.zip", "photos/lake")
    retriever.add_from("photos/old.zip")
    report = retriever.add_folder("photos", prune="all")
    assert not report.vanished
    assert report.ignored_suffixes == {".zip": 1}
    assert len(retriever) == 16


def test_an_archive_with_trouble(retriever, here):
    with zipfile.ZipFile("p.zip", "w") as archive:
        archive.write("photos/lake/0.jpg", "ok.jpg")
        archive.write("photos/lake/1.jpg", "../up.jpg")
        archive.write("photos/lake/2.jpg", ".hidden/x.jpg")
        archive.write("photos/lake/3.jpg", "__MACOSX/x.jpg")
        archive.writestr("inside.zip", b"PK")
        archive.writestr("no.jpg", b"no image")
    report = retriever.add_from(["p.zip"])
    assert report.ok == ["p.zip/ok.jpg"]
    assert [line.key for line in report.failed] == ["p.zip/no.jpg", "p.zip/../up.jpg"]
    assert report.excluded == {"__MACOSX": 0}
    assert report.ignored_suffixes == {".zip": 1}
    assert "1 archive inside it not read" in report.warnings[0]
    Path("bad.zip").write_bytes(b"no archive")
    with pytest.raises(ImageCorruptError, match="expected a zip archive"):
        retriever.add_from("bad.zip")
    both = retriever.add_from(["bad.zip", "photos/wood"])
    assert [line.key for line in both.failed] == ["bad.zip"]
    assert len(both.ok) == 4


def test_a_truncated_archive_prunes_nothing(retriever, here):
    pack(here / "p.tar", "photos")
    retriever.add_from("p.tar")
    data = Path("p.tar").read_bytes()
    Path("p.tar").write_bytes(data[: len(data) // 2])
    report = retriever.add_from("p.tar", prune="all")
    assert report.failed
    assert not report.vanished
    assert len(retriever) == 12


def test_files_keep_the_key_that_they_have(retriever, here):
    retriever.add_from(["./photos/lake/0.jpg", "photos/lake/1.jpg", "photos/none.jpg"])
    assert list(retriever) == ["photos/lake/0.jpg", "photos/lake/1.jpg"]
    absolute = str(here / "photos" / "lake" / "0.jpg")
    assert retriever.add_from([absolute, "photos/lake/2.jpg"]).skipped[0].key == "photos/lake/0.jpg"
    report = retriever.add_from(["photos/lake/0.jpg", "photos/none.jpg"], labels="parent")
    assert [line.reason for line in report.failed] == ["there is no such file"]
    assert retriever["photos/lake/0.jpg"].label == "lake"


def test_what_is_named_twice_is_read_once(retriever, here):
    report = retriever.add_from(["photos", "photos/lake", "./photos", "photos/wood/1.jpg"])
    assert len(retriever) == 12
    assert report.warnings == [
        "./photos: named more than once, and read once",
        "photos/lake: read as part of photos, which contains it",
    ]
    assert not report.failed
    # A folder that the outer one passes over is read by itself.
    report = retriever.add_from(["photos", "photos/lake"], exclude="lake")
    assert not report.warnings


def test_exclude_holds_for_every_kind(retriever, here):
    pack(here / "p.zip", "photos")
    pd.DataFrame({"path": ["photos/lake/0.jpg", "photos/sand/0.jpg"]}).to_csv("t.csv", index=False)
    sources = ["photos", "p.zip", "photos/lake/1.jpg", "t.csv"]
    report = retriever.add_from(sources, exclude=["lake", "wood"])
    assert not [key for key in retriever if "lake" in key or "wood" in key]
    assert len(retriever) == 8
    assert {"lake", "wood", "photos/lake/1.jpg", "photos/lake/0.jpg"} == set(report.excluded)


def test_addresses(retriever, here):
    system = pytest.importorskip("fsspec").filesystem("memory")
    system.put("photos/", "/bucket/photos", recursive=True)
    system.pipe("/bucket/photos/notes.txt", b"x")
    try:
        report = retriever.add_from("memory://bucket/photos", labels="parent", exclude="wood")
        assert report.ok[0] == "memory://bucket/photos/lake/0.jpg"
        assert (len(report.ok), report.ignored) == (8, 1)
        item = retriever[report.ok[0]]
        assert (item.label, item.path) == ("lake", report.ok[0])
        assert len(retriever.add_from("memory://bucket/photos/", exclude="wood").skipped) == 8
        one = retriever.add_from(["memory://bucket/photos/wood/*.jpg", "photos/none.jpg"])
        assert (len(one.ok), len(one.failed)) == (4, 1)
        hits = retriever.search("memory://bucket/photos/lake/0.jpg", k=2)
        assert hits[0].key == item.key
        assert hits.to_html().count("data:image/jpeg") == 3
        system.rm("/bucket/photos/lake/0.jpg")
        assert [line.key for line in retriever.add_from("memory://bucket/photos").vanished] == [
            item.key
        ]
        assert "there is no such file" in hits.to_html()  # the page is made in spite of it
        retriever.add_from("memory://bucket/photos", prune=True)
        assert item.key not in retriever
        with pytest.raises(InvalidInputError, match="download it"):
            retriever.add_from("memory://bucket/a.zip")
    finally:
        system.store.clear()


def test_addresses_are_read_side_by_side(retriever, here, monkeypatch):
    system = pytest.importorskip("fsspec").filesystem("memory")
    system.put("photos/", "/bucket/photos", recursive=True)
    plain, together, read = system.cat_file, threading.Barrier(4), []

    def slow(path):
        read.append(path)
        if 2 <= len(read) <= 5:  # the first is embedded alone, to see how long that takes
            together.wait(20)  # until four are asked for
        return plain(path)

    monkeypatch.setattr(type(system), "cat_file", lambda _, path: slow(path))
    try:
        assert len(retriever.add_from("memory://bucket/photos", threads=1).ok) == 12
    finally:
        system.store.clear()


TABLE = {
    "file": ["photos/lake/0.jpg", "photos/wood/1.jpg"],
    "label": ["lake", 7],
    "price": [1.5, None],
    "code": ["007", "x"],
    "day": pd.to_datetime(["2024-05-01", None]),
}


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "frame"])
def test_a_table(retriever, here, kind):
    frame = pd.DataFrame(TABLE)
    if kind == "frame":
        source = frame
    else:
        source = f"t.{kind}"
        frame["label"] = frame["label"].astype(str)
        if kind == "parquet":
            pytest.importorskip("pyarrow")
            frame.to_parquet(source)
        elif kind == "jsonl":
            frame.to_json(source, orient="records", lines=True, date_format="iso")
        else:
            frame.to_csv(source, index=False, sep="\t" if kind == "tsv" else ",")
    report = retriever.add_from(source)
    assert report.ok == TABLE["file"]
    first, second = (retriever[key] for key in TABLE["file"])
    assert (first.label, second.label) == ("lake", "7")
    assert first.metadata["price"] == 1.5
    assert first.metadata["code"] == "007"
    assert first.metadata["day"].startswith("2024-05-01")
    assert second.metadata == {"code": "x"}
    assert len(retriever.add_from(source).skipped) == 2


def test_a_table_of_other_names(retriever, here):
    Path("t.csv").write_text("Bild;Art;Note\nphotos/lake/0.jpg;See;a,b\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="expected a column of paths.*found 'Bild', 'Art'"):
        retriever.add_from("t.csv")
    with pytest.raises(InvalidInputError, match="expected the column 'Kind'.*found 'Bild'"):
        retriever.add_from("t.csv", path_column="Bild", label_column="Kind")
    retriever.add_from("t.csv", path_column="Bild", label_column="Art")
    item = retriever["photos/lake/0.jpg"]
    assert (item.label, item.metadata) == ("See", {"Note": "a,b"})
    with pytest.raises(InvalidInputError, match="path_column .*expected a table"):
        retriever.add_from("photos", path_column="Bild")


def test_rows_that_cannot_be_used_cost_only_themselves(retriever, here):
    Path("t.csv").write_text(
        "path,key,n\nphotos/lake/0.jpg,,1\n,,2\nphotos/none.jpg,,3\nphotos/lake/0.jpg,,4\n"
        "photos/lake/1.jpg,own,5\n",
        encoding="utf-8",
    )
    report = retriever.add_from("t.csv")
    assert report.ok == ["photos/lake/0.jpg", "own"]
    assert {line.reason for line in report.failed} == {
        "the line names no image",
        "line 2 has the same image; a column 'key' would tell them apart",
        "there is no such file",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"path,label\na.jpg\n", "line 2: expected 2 cells, found 1"),
        (b"path,path\na.jpg,b.jpg\n", "different names"),
        (b"path\n\xff\xfe\n", "expected UTF-8"),
        (b"", "header row"),
    ],
)
def test_a_table_that_is_malformed(retriever, here, text, message):
    Path("t.csv").write_bytes(text)
    with pytest.raises(InvalidInputError, match=message):
        retriever.add_from(["photos", "t.csv"])
    assert len(retriever) == 0  # found before any work is done


def test_a_table_of_image_contents(retriever, here):
    data = Path("photos/lake/0.jpg").read_bytes()
    frame = pd.DataFrame({"image": [{"bytes": data, "path": "0.jpg"}, data], "label": [3, 4]})
    report = retriever.add_from(frame)
    assert report.ok + [line.key for line in report.duplicate] == ["0.jpg", "table/000002"]
    assert retriever["0.jpg"].label == "3"


def test_a_table_labels_what_a_folder_has(retriever, here):
    Path("t.csv").write_text("path,label\nphotos/lake/0.jpg,water\n", encoding="utf-8")
    retriever.add_from(["t.csv", "photos"])
    assert len(retriever) == 12
    assert retriever["lake/0.jpg"].label == "water"


def test_metadata_is_matched_by_all_sources_together(retriever, here):
    pack(here / "p.zip", "photos", ["lake/0.jpg"])
    rows = "path,n\nlake/0.jpg,1\n0.jpg,2\nnone.jpg,3\nwood/1.jpg,4\n"
    Path("m.csv").write_text(rows, encoding="utf-8")
    report = retriever.add_from(["photos/wood", "p.zip"], metadata="m.csv")
    assert retriever["p.zip/lake/0.jpg"].metadata == {"n": 1}
    assert retriever["wood/0.jpg"].metadata == {"n": 2}
    assert retriever["wood/1.jpg"].metadata == {"n": 4}  # named as its key
    assert [key.rpartition("/")[2] for key in report.unmatched] == ["none.jpg"]


def test_what_is_no_source(retriever, here):
    for wrong in (3, b"x", [b"x"], {"a": 1}, None):
        with pytest.raises(InvalidInputError, match="sources: expected"):
            retriever.add_from(wrong)
    with pytest.raises(ImageNotFoundError, match="expected a folder, an image, an archive"):
        retriever.add_from("none")
    Path("list.txt").write_text("photos/lake/0.jpg\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="imgret index - < list.txt"):
        retriever.add_from("list.txt")
    report = retriever.add_from(["photos/lake/0.jpg", "list.txt"], progress=False)
    assert (report.ok, [line.key for line in report.failed]) == (
        ["photos/lake/0.jpg"],
        ["list.txt"],
    )
    assert "imgret index - < list.txt" in report.failed[0].reason
    assert retriever.add_from([]).total == 0


def test_a_missing_extra_says_what_to_install(retriever, here, monkeypatch):
    Path("t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'imgret\["):
        retriever.add_from("t.parquet")


def test_a_key_of_another_file_is_refused(retriever, here):
    retriever.add_from(["photos/lake/0.jpg"])
    os.chdir("photos")
    Path("photos/lake").mkdir(parents=True)
    shutil.copy("lake/1.jpg", "photos/lake/0.jpg")
    report = retriever.add_from(["photos/lake/0.jpg"])
    assert "belongs to" in report.failed[0].reason
    with pytest.raises(DuplicateKeyError):
        retriever.add("x", keys="photos/lake/0.jpg")
