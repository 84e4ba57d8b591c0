"""The command line, where the model of a gallery is a file: moved, missing, given."""

import json
import shutil

import pytest

from imgret.models import resolve


@pytest.fixture
def mine(drawn, tmp_path, monkeypatch, run):
    """A folder with model.onnx and mine.imgret, made as the README shows, by a relative path."""
    folder = tmp_path / "work"
    shutil.copytree(drawn, folder)
    shutil.copy(resolve("flowers102"), folder / "model.onnx")
    monkeypatch.chdir(folder)
    made = run(
        "index", "photos", "-o", "mine.imgret", "--embedder", "model.onnx", "--labels", "parent"
    )
    assert made.code == 0, made.err
    monkeypatch.chdir("/")
    return folder


def model_of(gallery):
    return json.loads((gallery / "manifest.json").read_text())["embedder"]["config"]["model"]


def test_a_gallery_works_from_every_directory(mine, run):
    for command in (
        ["search", mine / "mine.imgret", mine / "query.jpg"],
        ["evaluate", mine / "mine.imgret"],
        ["index", mine / "photos", "-o", mine / "mine.imgret"],
    ):
        assert run(*command).code == 0


@pytest.mark.slow
def test_commands_that_need_no_model_work_without_it(mine, run, tmp_path):
    gallery = mine / "mine.imgret"
    (mine / "model.onnx").unlink()
    for command in (
        ["info", gallery],
        ["evaluate", gallery],
        ["duplicates", gallery, "--threshold", "0.99"],
        ["map", gallery, "-o", tmp_path / "map.html"],
        ["calibrate", gallery],
        ["reindex", gallery, "--index", "exact"],
        ["remove", gallery, "rose/0.jpg"],
    ):
        ended = run(*command)
        assert "model.onnx" not in ended.err, command
        assert ended.code == 0 or command[0] == "calibrate"


@pytest.mark.slow
def test_the_model_is_given_where_it_is_missing(mine, run, tmp_path):
    gallery, query = mine / "mine.imgret", mine / "query.jpg"
    at = shutil.move(mine / "model.onnx", tmp_path / "moved.onnx")
    lost = run("search", gallery, query)
    assert lost.code == 1
    assert lost.err.count("\n") == 1
    assert str(gallery) in lost.err
    assert all(word in lost.err for word in ("model.onnx", "sha256:", "--embedder", "relocate"))
    for command in (
        ["search", gallery, query],
        ["evaluate", gallery, mine / "photos"],
        ["crop-report", gallery, "--cropper", "center"],
    ):
        assert run(*command).code == 1
        assert run(*command, "--embedder", at).code == 0, command
    assert model_of(gallery) == str(mine / "model.onnx")
    relocated = run("relocate", gallery, "--embedder", at)
    assert (relocated.code, model_of(gallery)) == (0, str(at))
    assert run("search", gallery, query).code == 0


def test_index_keeps_the_new_place(mine, run, tmp_path):
    at = shutil.move(mine / "model.onnx", tmp_path / "moved.onnx")
    ended = run("index", mine / "photos", "-o", mine / "mine.imgret", "--embedder", at)
    assert (ended.code, model_of(mine / "mine.imgret")) == (0, str(at))


@pytest.mark.slow
def test_another_model_is_refused(mine, run):
    gallery = mine / "mine.imgret"
    query = mine / "query.jpg"
    for command in (
        ["relocate", gallery],
        ["search", gallery, query],
        ["classify", gallery, query],
        ["evaluate", gallery],
        ["tune", gallery],
        ["crop-report", gallery],
    ):
        ended = run(*command, "--embedder", resolve("general"))
        assert ended.code == 1
        assert "expected the embedder it was made with" in ended.err
    assert model_of(gallery) == str(mine / "model.onnx")
    assert run("relocate", gallery).code == 2
    shutil.copy(resolve("general"), mine / "model.onnx")
    assert "expected the embedder" in run("search", gallery, mine / "query.jpg").err
