"""What killed writers have left is deleted by the next writer, and nothing else is."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

from imgret import Retriever
from imgret.cli import main
from imgret.galleries.local.files import thumbnails_of, unfinished
from imgret.galleries.local.leftovers import (
    bytes_of,
    clear_leftovers,
    drop_thumbnails,
    leftovers,
)
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.store import Store
from imgret.galleries.local.writer_lock import LOCK, WriterLock
from imgret.projections import LinearProjection
from imgret.testing.data import Given

DIM = 4


@pytest.fixture
def gallery(tmp_path):
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", embedder=Given(DIM)) as retriever:
        vectors = np.random.default_rng(0).standard_normal((4, DIM))
        retriever.add_vectors(vectors, keys=list("abcd"))
        retriever.project("pca", dim=2)
    return path


def facts(capsys, gallery):
    with pytest.raises(SystemExit) as ended:
        main(["info", str(gallery), "--json"])
    assert not ended.value.code
    return json.loads(capsys.readouterr().out)


def names(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def test_the_next_writer_clears_up(gallery, tmp_path, capsys):
    before = names(tmp_path)
    for name in ("manifest.json.tmp", "manifest.copy.json.tmp", "projection.npz.tmp.tmp"):
        (gallery / name).write_text("half")
    (gallery / "index.tmp" / "state").mkdir(parents=True)
    (gallery / "index.old").mkdir()
    (gallery / "catalog.sqlite-journal").write_bytes(bytes(512))
    with (gallery / "vectors.f16").open("ab") as file:
        file.write(bytes(100))
    shutil.copyfile(gallery / "projection.npz", gallery / "projection.npz.tmp")
    shutil.copytree(gallery, tmp_path / ".g.imgret.saving-0123abcd")
    shutil.copytree(gallery, tmp_path / ".g.imgret.old")  # killed after the second rename
    found = facts(capsys, gallery)
    assert {each.rpartition("/")[2] for each in found["left_over"]} == {
        *("manifest.json.tmp", "manifest.copy.json.tmp", "projection.npz.tmp.tmp", "index.tmp"),
        *("index.old", "projection.npz.tmp", ".g.imgret.saving-0123abcd", ".g.imgret.old"),
    }
    assert found["left_over_bytes"] > 2 * found["bytes"] / 3
    Retriever.open(gallery, embedder=Given(DIM)).close()  # a reader deletes nothing
    assert names(tmp_path) > before
    Retriever.open(gallery, "r+", embedder=Given(DIM)).close()
    assert names(tmp_path) == before
    assert (gallery / "vectors.f16").stat().st_size == 4 * DIM * 2
    found = facts(capsys, gallery)
    assert (found["left_over"], found["left_over_bytes"]) == ([], 0)


@pytest.mark.parametrize("kind", ["waits", "is another", "is a link", "is none", "is damaged"])
def test_a_projection_beside_its_place_is_kept_where_it_is_the_one_named(gallery, kind):
    current, waiting = Store.projection_files(gallery)
    named = current.read_bytes()
    manifest = Manifest.read(gallery)
    if kind == "waits":
        waiting.write_bytes(named)
        current.write_bytes(b"another")
    elif kind == "is another":
        LinearProjection(np.eye(DIM), np.zeros(DIM), kind="pca").save(waiting)
    elif kind == "is a link":
        current.rename(gallery.with_name("elsewhere"))
        waiting.symlink_to(gallery.with_name("elsewhere"))
    else:
        waiting.write_bytes(named if kind == "is none" else b"half")
        manifest = manifest.with_(projection=None)
    assert leftovers(gallery, manifest) == ([] if kind == "waits" else [waiting])
    clear_leftovers(gallery, manifest)
    assert not waiting.is_symlink()
    assert not waiting.exists()
    if kind != "is a link":
        assert current.read_bytes() == named


@pytest.mark.parametrize("change", ["created", "dim", "unreadable", "no manifest", "none"])
def test_what_stands_aside_goes_where_it_is_of_this_gallery(gallery, tmp_path, change):
    aside = tmp_path / ".g.imgret.old"
    shutil.copytree(gallery, aside)
    manifest = Manifest.read(gallery)
    if change == "created":
        manifest.with_(created="2020-01-01T00:00:00").write(aside)
    elif change == "dim":
        manifest.with_(dim=DIM + 1).write(aside)
    elif change == "unreadable":
        (aside / "manifest.json").write_text("{")
    elif change == "no manifest":
        (aside / "manifest.json").unlink()
    goes = change in {"no manifest", "none"}
    assert leftovers(gallery, manifest) == ([aside] if goes else [])
    clear_leftovers(gallery, manifest)
    assert aside.exists() is not goes


def test_bytes_are_those_of_the_files_themselves(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(bytes(10))
    (folder / "deep" / "b").write_bytes(bytes(5))
    (tmp_path / "link").symlink_to(folder)
    (folder / "link").symlink_to(folder / "a")
    found = [bytes_of(tmp_path / name) for name in ("folder", "folder/a", "link", "none")]
    assert found == [15, 10, 0, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege")
def test_thumbnails_behind_links_stay(tmp_path):
    path, mine = tmp_path / "g.imgret", tmp_path / "mine"
    names = ["0" * 38 + ".jpg", ".abc.part", "0" * 37 + ".jpg", "abc.part"]
    folder = thumbnails_of(path)
    for each in (mine / "ab", folder / "ab"):
        each.mkdir(parents=True)
        for name in names:
            (each / name).touch()
    (folder / "cd").symlink_to(mine / "ab")
    drop_thumbnails(path)
    assert {file.name for file in (folder / "ab").iterdir()} == set(names[2:])
    shutil.rmtree(folder)
    folder.symlink_to(mine)
    drop_thumbnails(path)
    assert {file.name for file in (mine / "ab").iterdir()} == set(names)


def test_a_projection_that_waits_for_its_place_gets_it(gallery):
    (gallery / "projection.npz").rename(gallery / "projection.npz.tmp")
    with Retriever.open(gallery, "r+", embedder=Given(DIM)) as retriever:
        assert retriever.projection.dim_out == 2
    assert (gallery / "projection.npz").exists()
    assert not (gallery / "projection.npz.tmp").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege")
def test_what_is_not_known_to_be_ours_stays(gallery, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "manifest.json").write_text("mine")
    (tmp_path / ".g.imgret.saving-0123abcd").symlink_to(mine)
    (tmp_path / ".g.imgret.old").symlink_to(mine)
    for name in (".g.imgret.saving-notes", ".g.imgret.saving-89abcdef"):
        (tmp_path / name).mkdir()
    (tmp_path / ".g.imgret.saving-89abcdef" / "notes.txt").write_text("mine")
    (gallery / "notes.tmp").write_text("mine")
    (gallery / "index.old").symlink_to(mine)
    before = names(tmp_path)
    assert [each.rpartition("/")[2] for each in facts(capsys, gallery)["left_over"]] == [
        "index.old"
    ]
    Retriever.open(gallery, "r+", embedder=Given(DIM)).close()
    assert names(tmp_path) == before - {"g.imgret/index.old"}
    assert (mine / "manifest.json").read_text() == "mine"


def test_another_gallery_that_stands_aside_stays(gallery, tmp_path):
    """It may have been put aside by hand, or be all that is left of one."""
    aside = tmp_path / ".g.imgret.old"
    shutil.copytree(gallery, aside)
    manifest = Store.open(gallery, writable=False).manifest.with_(created="2020-01-01T00:00:00")
    manifest.write(aside)
    Retriever.open(gallery, "r+", embedder=Given(DIM)).close()
    assert (aside / "vectors.f16").exists()


def test_what_another_process_is_filling_stays(gallery, tmp_path):
    new = tmp_path / ".g.imgret.saving-0123abcd"
    new.mkdir()
    lock = WriterLock(new / LOCK)
    Retriever.open(gallery, "r+", embedder=Given(DIM)).close()
    assert list(unfinished(gallery)) == [new]
    lock.release()
    Retriever.open(gallery, "r+", embedder=Given(DIM)).close()
    assert not new.exists()
