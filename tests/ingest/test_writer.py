"""From images to the gallery: what is new, unchanged, changed, double, or broken."""

import os
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from imgret.errors import StoreCorruptError
from imgret.galleries.local.store import Store
from imgret.ingest import Existing, IngestReport, Line, Source, writer
from imgret.pipeline import embed
from imgret.types import Box, Item

NAMES = ["6.jpg", "7.jpe", "a/1.jpg", "a/2.JPG", "a/b/3.jpeg", "c/4.jpg", "c/5.jpg"]
NUMBERS = dict(
    zip(
        ["a/1.jpg", "a/2.JPG", "a/b/3.jpeg", "c/4.jpg", "c/5.jpg", "6.jpg", "7.jpe"],
        range(7),
        strict=True,
    )
)


def matches(kit, row, data):
    return np.allclose(row, kit.vector(data), atol=1e-3)


def keep_time(path, data):
    """Write other bytes so that a look at the file does not tell."""
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("threads", [1, 4])
def test_a_folder(kit, store, folder, threads):
    report = kit.ingest_folder(store, folder, labels="parent", threads=threads)
    assert report.ok == NAMES
    assert (report.total, report.ignored, report.uncropped) == (7, 2, 0)
    content = kit.content_of(store)
    assert list(content) == NAMES
    for name, number in NUMBERS.items():
        assert matches(kit, content[name], kit.picture(number))
    held = kit.item(store, "a/b/3.jpeg")
    assert (held.path, held.label) == (str(folder / "a/b/3.jpeg"), "b")
    assert (held.box, held.subject) == (Box(0, 0, 40, 30), False)


def test_boxes_and_misses_are_kept(kit, store, folder):
    dark = kit.images.encode(np.full((30, 40, 3), 9, np.uint8))
    (folder / "6.jpg").write_bytes(dark)
    report = kit.ingest_folder(store, folder, cropper=kit.Middle())
    assert report.uncropped == 1
    dark_item, other = kit.item(store, "6.jpg"), kit.item(store, "7.jpe")
    assert (dark_item.box, dark_item.subject) == (Box(0, 0, 40, 30), False)
    assert (other.box, other.subject) == (Box(10, 8, 30, 22), True)


def test_a_vector_without_direction_costs_only_itself(kit, store, folder):
    (folder / "6.jpg").write_bytes(kit.images.encode(np.zeros((30, 40, 3), np.uint8)))
    report = kit.ingest_folder(store, folder)
    (line,) = report.failed
    assert (line.key, len(report.ok)) == ("6.jpg", 6)
    assert "direction" in line.reason


# -- again ---------------------------------------------------------------------------------------


def test_unchanged_is_not_even_read(kit, store, folder):
    kit.ingest_folder(store, folder)
    keep_time(folder / "6.jpg", b"x" * (folder / "6.jpg").stat().st_size)
    embedder, changes = kit.MeanColor(), store.catalog.changes
    report = kit.ingest_folder(store, folder, embedder=embedder)
    assert [line.key for line in report.skipped] == NAMES
    assert {line.reason for line in report.skipped} == {"unchanged"}
    assert (report.ok, embedder.seen, store.catalog.changes) == ([], [], changes)


def test_touched_is_read_but_not_embedded(kit, store, folder):
    kit.ingest_folder(store, folder)
    os.utime(folder / "6.jpg", ns=(1, 10**18))
    embedder = kit.MeanColor()
    report = kit.ingest_folder(store, folder, embedder=embedder)
    assert len(report.skipped) == 7
    assert embedder.seen == []
    assert kit.item(store, "6.jpg").mtime_ns == 10**18  # next time a look is enough
    assert matches(kit, kit.content_of(store)["6.jpg"], kit.picture(5))


def test_a_folder_that_moved(kit, store, folder, tmp_path):
    kit.ingest_folder(store, folder)
    folder.rename(tmp_path / "moved")
    embedder = kit.MeanColor()
    report = kit.ingest_folder(store, tmp_path / "moved", embedder=embedder)
    assert (len(report.skipped), embedder.seen) == (7, [])
    assert kit.item(store, "a/1.jpg").path == str(tmp_path / "moved" / "a" / "1.jpg")


def test_changed_is_embedded_anew(kit, store, folder):
    kit.ingest_folder(store, folder, labels="parent")
    (id_,) = store.catalog.require(["c/4.jpg"])
    store.catalog.replace(
        id_, replace(kit.item(store, "c/4.jpg"), metadata={"stars": 5}, label="mine")
    )
    (folder / "c/4.jpg").write_bytes(kit.picture(77))
    report = kit.ingest_folder(store, folder)
    assert report.ok == ["c/4.jpg"]
    assert len(report.skipped) == 6
    content = kit.content_of(store)
    assert len(content) == 7
    assert matches(kit, content["c/4.jpg"], kit.picture(77))
    held = kit.item(store, "c/4.jpg")
    assert (held.metadata, held.label) == ({"stars": 5}, "mine")  # what was not given again stays
    kit.ingest_folder(store, folder, labels="parent")
    (folder / "c/4.jpg").write_bytes(kit.picture(78))
    kit.ingest_folder(store, folder, labels="parent")
    assert kit.item(store, "c/4.jpg").label == "c"


def test_changed_to_something_unreadable(kit, store, folder):
    kit.ingest_folder(store, folder)
    (folder / "c/4.jpg").write_bytes(b"")
    report = kit.ingest_folder(store, folder)
    (line,) = report.failed
    assert (line.key, line.path) == ("c/4.jpg", str(folder / "c/4.jpg"))
    assert matches(kit, kit.content_of(store)["c/4.jpg"], kit.picture(3))  # the old one stays
    (folder / "c/4.jpg").unlink()
    known = Existing(kit.item(store, "c/4.jpg"))
    path = folder / "c/4.jpg"
    (outcome,) = kit.outcomes_of([Source("c/4.jpg", path, path, known=known)])
    assert outcome.reason == "there is no such file"


def test_changed_while_it_is_read(kit, store, folder, monkeypatch):
    """The next run must see that what was embedded is not what is there."""
    path, read = folder / "6.jpg", embed.read_bytes

    def slow(target):
        data = read(target)
        if target == path:
            path.write_bytes(kit.picture(50))
            os.utime(path, ns=(1, 10**18))
        return data

    monkeypatch.setattr(embed, "read_bytes", slow)
    kit.ingest_folder(store, folder)
    monkeypatch.undo()
    assert matches(kit, kit.content_of(store)["6.jpg"], kit.picture(5))
    assert kit.ingest_folder(store, folder).ok == ["6.jpg"]
    assert matches(kit, kit.content_of(store)["6.jpg"], kit.picture(50))


# -- the same bytes twice ------------------------------------------------------------------------


@pytest.mark.parametrize("duplicates", ["add", "skip"])
def test_twin_of_an_earlier_run(kit, store, folder, tmp_path, duplicates):
    kit.ingest_folder(store, folder, cropper=kit.Middle())
    (tmp_path / "new").mkdir()
    shutil.copy(folder / "c/4.jpg", tmp_path / "new" / "copy.jpg")
    (tmp_path / "new" / "other.jpg").write_bytes(kit.picture(20))
    embedder = kit.MeanColor()
    report = kit.ingest_folder(
        store, tmp_path / "new", embedder=embedder, cropper=kit.Middle(), duplicates=duplicates
    )
    (line,) = report.duplicate
    assert (line.key, line.reason) == ("copy.jpg", "the same bytes as 'c/4.jpg'")
    assert report.ok == ["other.jpg"]
    assert len(embedder.seen) == 1  # the twin was neither decoded nor embedded
    content = kit.content_of(store)
    if duplicates == "skip":
        assert "copy.jpg" not in content
    else:
        assert np.array_equal(content["copy.jpg"], content["c/4.jpg"])
        copy, original = kit.item(store, "copy.jpg"), kit.item(store, "c/4.jpg")
        assert (copy.box, copy.subject) == (original.box, True)
        assert copy.path == str(tmp_path / "new" / "copy.jpg")


@pytest.mark.parametrize("duplicates", ["add", "skip"])
@pytest.mark.parametrize("commit_items", [1, 512])
def test_twins_within_a_run(kit, store, folder, monkeypatch, duplicates, commit_items):
    monkeypatch.setattr(writer, "_COMMIT_ITEMS", commit_items)
    for name in ("a/1.jpg", "c/5.jpg"):
        (folder / name).write_bytes(kit.picture(5))  # as 6.jpg
    report = kit.ingest_folder(store, folder, duplicates=duplicates, threads=1)
    assert [(line.key, line.reason) for line in report.duplicate] == [
        ("a/1.jpg", "the same bytes as '6.jpg'"),
        ("c/5.jpg", "the same bytes as '6.jpg'"),
    ]
    assert len(report.ok) == 5
    content = kit.content_of(store)
    assert len(content) == (5 if duplicates == "skip" else 7)
    if duplicates == "add":
        assert all(matches(kit, content[k], kit.picture(5)) for k in ("a/1.jpg", "c/5.jpg"))


def test_a_known_item_that_became_a_twin(kit, store, folder):
    """Not to be left out: the gallery would go on showing what is no longer there."""
    kit.ingest_folder(store, folder)
    shutil.copy(folder / "6.jpg", folder / "c/4.jpg")
    report = kit.ingest_folder(store, folder, duplicates="skip")
    assert [line.key for line in report.duplicate] == ["c/4.jpg"]
    content = kit.content_of(store)
    assert np.array_equal(content["c/4.jpg"], content["6.jpg"])
    assert [
        line.key for line in kit.ingest_folder(store, folder, duplicates="skip").skipped
    ] == NAMES


def test_a_file_that_took_the_name_of_another(kit, store, folder):
    """6.jpg is another image now, and c/9.jpg what 6.jpg was: no twin of it."""
    kit.ingest_folder(store, folder)
    (folder / "6.jpg").rename(folder / "c/9.jpg")
    (folder / "6.jpg").write_bytes(kit.picture(60))
    report = kit.ingest_folder(store, folder, duplicates="skip")
    assert report.ok == ["6.jpg", "c/9.jpg"]
    content = kit.content_of(store)
    assert matches(kit, content["c/9.jpg"], kit.picture(5))
    assert matches(kit, content["6.jpg"], kit.picture(60))


def test_a_damaged_twin_is_not_taken_over(kit, tmp_path, store, folder):
    with closing(Store.create(tmp_path / "g.imgret", store.manifest)) as disk:
        kit.ingest_folder(disk, folder)
        (vectors,) = disk.path.glob("vectors.*")
        with vectors.open("r+b") as file:
            file.write(b"\x12\x34")
        shutil.copy(folder / "6.jpg", folder / "z.jpg")
        with pytest.raises(StoreCorruptError, match=r"6\.jpg"):
            kit.ingest_folder(disk, folder)
        assert "z.jpg" not in disk.catalog


# -- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_bad_files_keep_names_and_vectors_in_step(kit, store, folder, threads):
    (folder / "a/0-empty.jpg").touch()
    (folder / "a/1-text.jpg").write_text("a letter")
    (folder / "c/4-cut.jpg").write_bytes(kit.flower()[:-300])
    (folder / "c/4-link.jpg").symlink_to(folder / "nothing")
    (folder / "c/4-folder.jpg").mkdir()
    report = kit.ingest_folder(store, folder, threads=threads)
    assert [os.path.basename(line.key) for line in report.failed] == [  # noqa: PTH119  # keys
        "0-empty.jpg",
        "1-text.jpg",
        "4-cut.jpg",
        "4-link.jpg",
    ]
    assert all(line.reason and line.path == str(folder / line.key) for line in report.failed)
    assert sorted(report.ok) == sorted(NAMES)
    for name, row in kit.content_of(store).items():
        assert matches(kit, row, kit.picture(NUMBERS[name]))


@pytest.mark.parametrize("threads", [1, 3])
def test_what_was_committed_stays(kit, store, monkeypatch, threads):
    monkeypatch.setattr(writer, "_COMMIT_ITEMS", 32)
    sources = [Source(str(n), kit.picture(n)) for n in range(200)]
    with pytest.raises(RuntimeError, match="out of memory"):
        # More images than all runs hold that may be under way, so that the first one is committed.
        kit.ingest(store, sources, kit.MeanColor(fails_on=150), threads=threads)
    content = kit.content_of(store)
    assert 0 < len(content) < 150
    # The first run is of one, and the last runs of several workers are shorter.
    assert threads > 1 or len(content) % 32 == 1
    assert list(content) == [str(n) for n in range(len(content))]
    for name, row in content.items():
        assert matches(kit, row, kit.picture(int(name)))
    rest = sources[len(content) :]
    assert len(kit.ingest(store, rest, threads=threads).ok) == len(rest)


def test_a_commit_that_fails(kit, store, monkeypatch):
    sources = [Source(str(n), kit.picture(n)) for n in range(3)]
    store.add(np.ones((1, 3), np.float32), [Item("1")])
    with pytest.raises(ValueError, match="'1'"):
        kit.ingest(store, sources)
    assert list(kit.content_of(store)) == ["1"]
    assert len(kit.ingest(store, [sources[0], sources[2]]).ok) == 2


def test_pictures_in_memory_are_told_apart_by_name_only(kit, store):
    array = np.full((4, 4, 3), 9, np.uint8)
    report = kit.ingest(store, [Source("a", array), Source("b", array)], duplicates="skip")
    assert (report.ok, report.duplicate) == (["a", "b"], [])
    report = kit.ingest(store, [Source("c", kit.picture(1)), Source("d", kit.picture(1))])
    assert [line.key for line in report.duplicate] == ["d"]
    known = Existing(kit.item(store, "c"))
    report = kit.ingest(store, [Source("c", kit.picture(1), known=known)])
    assert [line.reason for line in report.skipped] == ["unchanged"]


# -- the report ----------------------------------------------------------------------------------


def test_report_arithmetic():
    report = IngestReport(seconds=2.0, ignored=3, uncropped=1)
    report.record([Line("ok", "a"), Line("skipped", "b", "/b", "unchanged"), Line("ok", "c")])
    report.record([Line("failed", "d", "/d.jpg", "empty"), Line("duplicate", "e", None, "as 'a'")])
    report.add_stage("embed", 0.5)
    report.add_stage("embed", 1.0)
    assert report.ok == ["a", "c"]
    assert (report.total, report.images_per_second) == (5, 2.5)
    assert report.stages == {"embed": 1.5}
    assert report.summary() == (
        "2 added, 1 unchanged, 1 identical to another image, 1 failed, 3 other files ignored, "
        "1 without a subject, embedded whole; 2.0 s, 2 images/s"
    )
    assert report.timings() == "seconds over all threads: embed 1.50"
    assert str(report).splitlines()[1:] == [
        "failed: /d.jpg: empty",
        "duplicate: e: as 'a'",
    ]
    assert repr(report) == f"<IngestReport {report.summary()}>"


def test_empty_report():
    assert str(IngestReport()) == "no images indexed; 0.0 s"
    assert IngestReport().timings() == ""


def test_a_summary_has_only_what_is_there_with_separators():
    report = IngestReport(seconds=2.0)
    report.record(Line("skipped", f"k{n}", None, "unchanged") for n in range(2608))
    assert report.summary() == "2,608 unchanged; 2.0 s, 1,304 images/s"
    report.record([Line("ok", "a"), Line("ok", "b"), Line("vanished", "c"), Line("vanished", "d")])
    report.updated, report.removed, report.ignored = 1, 1, 1
    assert report.summary().startswith(
        "1 added, 1 updated, 2,608 unchanged, 1 missing, 1 removed, 1 other file ignored; "
    )


def test_a_long_report_is_cut():
    report = IngestReport()
    report.record(Line("failed", f"k{n}", None, "bad") for n in range(23))
    lines = str(report).splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "failed: and 3 more"
    report.record(Line("renamed", f"r{n}", None, "was 'x'") for n in range(1007))
    lines = str(report).splitlines()
    assert len(lines) == 1 + 20 + 1 + 5 + 1
    assert lines[-1] == "renamed: and 1,002 more"
