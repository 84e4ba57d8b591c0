"""``imgret adapt`` and ``imgret classify``."""

import json

import numpy as np
import pytest

from imgret import Retriever
from imgret.cli import main


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A gallery of 1280-d vectors whose classes hide in directions of little variance."""
    path = tmp_path_factory.mktemp("labelled") / "g.imgret"
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(4), 25)
    vectors = rng.normal(size=(100, 1280)) * 0.01
    vectors[:, :8] += rng.normal(size=(100, 8)) * 3
    vectors[:, 8:20] += rng.normal(size=(4, 12))[codes] * 0.8 + rng.normal(size=(100, 12)) * 0.3
    with Retriever.open(path, "a") as made:
        made.add_vectors(
            vectors, keys=[str(n) for n in range(100)], labels=[f"kind {c}" for c in codes]
        )
    return path


def ran(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code, *capsys.readouterr()


@pytest.mark.slow
def test_adapt_and_back(labelled, capsys):
    code, out, err = ran(capsys, "adapt", labelled)
    assert (code, err) == (0, "")
    assert out.startswith("adapted: 3 dimensions")
    assert "top-1" in out
    assert "95% interval" in out
    assert Retriever.load(labelled).projection.kind == "lda"
    code, out, _ = ran(capsys, "adapt", "--off", labelled)
    assert code == 0
    assert Retriever.load(labelled).projection is None
    assert ran(capsys, "adapt", "--off", "--dim", 2, labelled)[0] == 2


def test_classify(labelled, tmp_path, capsys):
    from imgret import images

    picture = tmp_path / "query.png"
    picture.write_bytes(images.encode(np.full((32, 32, 3), 90, dtype=np.uint8), "png"))
    code, out, _ = ran(capsys, "classify", labelled, picture, "--json", "--threshold", 0)
    found = json.loads(out)
    assert code == 0
    assert found["label"] == next(iter(found["votes"]))
    assert 0 <= found["confidence"] <= 1
    code, out, err = ran(
        capsys, "classify", labelled, picture, tmp_path / "none.png", "--threshold", 1
    )
    assert code == 3
    assert out.startswith(f"{picture}: unknown (")
    assert "none.png" in err
