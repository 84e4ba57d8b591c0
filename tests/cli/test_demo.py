"""The demonstration: the main job, from nothing to a page of results."""

import pytest

from imgret import Retriever
from imgret.demo import samples

pytestmark = pytest.mark.slow


def test_the_demo_draws_indexes_searches_and_shows(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    ended = command(["demo"])
    assert ended.returncode == 0, ended.stderr
    output = tmp_path / "imgret-demo"
    assert {path.name for path in output.iterdir()} == {
        "demo.imgret",
        "gallery",
        "queries",
        "result.html",
    }
    lines = ended.stdout.splitlines()
    assert f"result page: {output / 'result.html'}" in lines
    species = samples.species()
    said = dict(line.split(" looks like: ") for line in lines if " looks like: " in line)
    assert len(said) == len(species)
    right = sum(name.startswith(label) for name, label in said.items())
    assert right >= 0.8 * len(species)
    page = (output / "result.html").read_text(encoding="utf-8")
    assert page.count("<img ") == len(species) * (1 + 6)
    with Retriever.open(output / "demo.imgret") as retriever:
        assert len(retriever) == 15 * len(species)
    # The command it suggests next runs as printed.
    words = lines[-1].removeprefix("try next:").split()
    again = command(words[1:])
    assert words[0] == "imgret"
    assert again.returncode == 0
    assert again.stdout.startswith(words[-1])


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_the_demo_takes_a_folder_and_holds_some_pictures_back(work, run, index):
    (work / "photos" / "broken.jpg").write_bytes(b"no picture")
    ended = run("demo", "--folder", "photos", "-o", "out", "--index", index, "--cropper", "center")
    assert ended.code == 0
    assert "failed: " in ended.out
    queries = [line.split(" looks like")[0] for line in ended.out.splitlines() if "looks" in line]
    with Retriever.open("out/demo.imgret") as retriever:
        assert len(retriever) + len(queries) == 12
        assert retriever.cropper.name == "center"
    page = (work / "out" / "result.html").read_text(encoding="utf-8")
    assert page.count("<img ") == len(queries) * (1 + 6)
    assert not (work / "out" / "gallery").exists()


def test_the_demo_can_be_run_again(work, run):
    assert run("demo", "--folder", "photos", "-o", "out").code == 0
    assert run("demo", "--folder", "photos", "-o", "out").code == 0


def test_the_demo_needs_two_pictures(work, run):
    (work / "few").mkdir()
    (work / "query.jpg").rename(work / "few" / "query.jpg")
    ended = run("demo", "--folder", "few", "-o", "out")
    assert ended.code == 1
    assert "few: expected at least 2 images" in ended.err
    assert not (work / "out").exists()
