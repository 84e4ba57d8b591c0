"""``imgret tune``."""

import json

import numpy as np
import pytest

from imgret import Retriever


@pytest.fixture
def gallery(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "g.imgret"
    with Retriever.open(path, "a", index="ivf") as retriever:
        dim = retriever.embedder.dim
        centres = rng.standard_normal((20, dim))
        rows = centres[rng.integers(20, size=600)] + rng.standard_normal((600, dim))
        retriever.add_vectors(rows, keys=[str(n) for n in range(600)])
    return path


@pytest.mark.slow
def test_it_tunes_and_keeps(gallery, tmp_path, run):
    ended = run("tune", gallery, "--recall", "0.9", "--plot", tmp_path / "t.svg")
    assert ended.code == 0
    assert "recall@10 of at least 0.9, 600 items of the gallery" in ended.out
    assert (tmp_path / "t.svg").read_text().startswith("<svg")
    tuned = json.loads((gallery / "manifest.json").read_text())["tuned"]
    assert tuned["reached"] >= 0.9
    said = json.loads(run("tune", gallery, "--recall", "0.5", "-k", "3", "--json").out)
    assert (said["k"], said["target"]) == (3, 0.5)
    assert json.loads((gallery / "manifest.json").read_text())["tuned"] != tuned


@pytest.mark.slow
def test_pictures_to_ask_with(gallery, photos, run):
    assert "12 given queries" in run("tune", gallery, "--queries", photos).out


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--recall", "1.5"], 1, "recall: expected a number over 0 and at most 1, found 1.5"),
        (["-k", "0"], 1, "k: expected a whole number of at least 1"),
        (["--queries", "nowhere"], 2, "expected a folder, found nothing"),
        (["--plot", "."], 2, "expected the path of a file to write, found a folder"),
    ],
)
def test_mistakes(gallery, run, options, code, said):
    before = (gallery / "manifest.json").read_text()
    ended = run("tune", gallery, *options)
    assert ended.code == code
    assert said in " ".join(ended.err.split())
    assert (gallery / "manifest.json").read_text() == before
