"""``imgret index`` on folders that lack something: what is said, and the exit codes."""

import errno
import os
import shutil

import pytest

from imgret import Retriever


def keys():
    with Retriever.open("photos.imgret") as gallery:
        return set(gallery)


def index(run, *options):
    return run("index", "photos", "-o", "photos.imgret", *options)


def test_an_empty_folder_prunes_nothing(work, run):
    before = keys()
    shutil.rmtree("photos")
    (work / "photos").mkdir()
    ended = index(run, "--prune")
    assert (ended.code, ended.out) == (1, "photos.imgret: 12 images\n")
    assert "12 missing, 12 not pruned" in ended.err
    assert "--prune=all" in ended.err
    assert keys() == before
    assert index(run).code == 0  # nothing was asked for, and all was done
    assert index(run, "--prune=all").code == 0
    assert keys() == set()


def test_most_of_a_folder_is_not_pruned_and_the_rest_is_done(work, run):
    shutil.rmtree("photos/rose")
    shutil.rmtree("photos/tulip")
    shutil.copy("query.jpg", "photos/new.jpg")
    ended = index(run, "--prune")
    assert ended.code == 3
    assert "1 added, 4 unchanged, 8 missing, 8 not pruned" in ended.err
    assert len(keys()) == 13
    assert index(run, "--prune", "--prune=all").code == 0
    assert len(keys()) == 5


def test_prune_takes_no_other_value(work, run):
    ended = index(run, "--prune=most")
    assert ended.code == 2
    assert "--prune" in ended.err


@pytest.mark.parametrize("all_fail", [True, False])
def test_files_that_fail(work, run, all_fail):
    for path in (work / "photos").rglob("*.jpg"):
        if all_fail or path.stem == "0":
            path.write_bytes(b"no image")
    ended = run("index", "photos", "-o", "new.imgret")
    assert ended.code == (1 if all_fail else 3)
    assert ended.err.startswith("12 failed; " if all_fail else "9 added, 3 failed; ")


def test_a_folder_that_cannot_be_listed_is_named(work, run, monkeypatch):
    whole = os.scandir

    def scandir(path="."):
        if str(path).endswith("rose"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    ended = index(run, "--prune=all")
    assert ended.code == 3
    assert "8 unchanged, 1 failed" in ended.err
    assert f"rose: cannot be listed: {os.strerror(errno.EACCES)}" in ended.err
    assert len(keys()) == 12


def test_exclude_may_be_given_several_times(work, run):
    (work / "photos" / "@eaDir").mkdir()
    shutil.copy("query.jpg", "photos/@eaDir/x.jpg")
    ended = run("index", "photos", "-o", "new.imgret", "--exclude", "rose", "--exclude", "3.*")
    assert ended.code == 0
    assert "6 added, 4 excluded" in ended.err
    assert "excluded: @eaDir\n" in ended.err


def test_what_is_ignored_is_named(work, run):
    for name in ("a.psd", "b.psd", "notes.txt"):
        (work / "photos" / name).touch()
    assert "3 other files ignored: 2 .psd, 1 .txt" in index(run).err


@pytest.mark.slow
def test_a_linked_folder_is_searched_through(work, run):
    (work / "linked").mkdir()
    (work / "linked" / "flowers").symlink_to(work / "photos")
    (work / "linked" / "loop").symlink_to(work / "linked")
    ended = run("index", "linked", "-o", "new.imgret")
    assert (ended.code, ended.out) == (0, "new.imgret: 12 images\n")
    assert "link passed over: loop" in ended.err
    ended = run("evaluate", "photos.imgret", "linked")
    assert ended.code == 0
    ended = run("demo", "--folder", "linked", "-o", "demo")
    assert ended.code == 0
    assert "found 12 images" in ended.out


def test_queries_that_all_fail(work, run):
    (work / "queries" / "rose").mkdir(parents=True)
    (work / "queries" / "rose" / "a.jpg").write_bytes(b"no image")
    assert run("evaluate", "photos.imgret", "queries").code == 1
    shutil.copy("query.jpg", "queries/rose/b.jpg")
    assert run("evaluate", "photos.imgret", "queries").code == 3
