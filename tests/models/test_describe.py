"""Models of other people: what they are, and the facts written into them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from imgret.embedders import OnnxEmbedder
from imgret.errors import InvalidInputError, ModelError
from imgret.models import check, describe, write_bundle

DATA = Path(__file__).parents[1] / "data"
PLAIN = {"size": 8, "scaling": {"mean": [0, 0, 0], "std": [255, 255, 255]}}


@pytest.fixture
def foreign(tmp_path):
    return Path(shutil.copy(DATA / "fixed.onnx", tmp_path / "theirs.onnx"))


def test_a_file_without_facts_tells_its_tensors():
    facts = describe(DATA / "foreign.onnx")
    assert facts["bundle"] is None
    assert facts["input"] == {"name": "planes", "dtype": "float32", "shape": (None, 3, None, None)}
    assert [tensor["name"] for tensor in facts["outputs"]] == ["flat", "mean", "map"]
    assert "CPUExecutionProvider" in facts["providers"]
    json.dumps(facts)


def test_a_builtin_tells_its_facts():
    facts = describe("general")["bundle"]
    assert facts["dim"] == 1280
    assert "golden" not in facts


def test_bundled_in_place_the_path_is_enough(foreign):
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    told = OnnxEmbedder(foreign, preprocess=PLAIN).embed([picture])
    with pytest.raises(ModelError, match="preprocess="):
        OnnxEmbedder(foreign)
    bundle = write_bundle(foreign, preprocess=PLAIN, licence="MIT")
    assert (bundle.name, bundle.dim, bundle.normalized) == ("theirs", 192, False)
    np.testing.assert_array_equal(OnnxEmbedder(foreign).embed([picture]), told)
    assert check(foreign).ok
    assert [path.name for path in foreign.parent.iterdir()] == ["theirs.onnx"]


def test_bundled_to_another_file_the_first_is_left_alone(foreign):
    before = foreign.read_bytes()
    target = foreign.with_name("ours.onnx")
    write_bundle(foreign, target, preprocess=PLAIN, name="pixels", version="3")
    assert foreign.read_bytes() == before
    assert describe(target)["bundle"]["version"] == "3"
    write_bundle(target, preprocess=PLAIN, version="4")  # again: other facts, not more
    assert describe(target)["bundle"]["version"] == "4"
    assert target.read_bytes().count(b'"imgret-') == 0
    assert target.read_bytes().count(b'"golden-1"') == 1


def test_wrong_facts_leave_the_file_alone(foreign):
    before = foreign.read_bytes()
    with pytest.raises(ModelError, match=r"expected an input of float32 and shape"):
        write_bundle(foreign, preprocess=PLAIN | {"size": 16})
    with pytest.raises(InvalidInputError, match="missing"):
        write_bundle(foreign, preprocess={"size": 8})
    tiny = {"mean": [0, 0, 0], "std": [1e-4] * 3}
    with pytest.raises(ModelError, match="65504"):
        write_bundle(foreign, preprocess=PLAIN | {"scaling": tiny})
    assert foreign.read_bytes() == before


def test_an_output_that_is_no_vector_is_refused(tmp_path):
    with pytest.raises(ModelError, match="shape"):
        write_bundle(DATA / "foreign.onnx", tmp_path / "new.onnx", preprocess=PLAIN, output="map")
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_told(foreign):
    with pytest.raises(ModelError, match="cannot be written"):
        write_bundle(foreign, foreign.parent / "none" / "new.onnx", preprocess=PLAIN)


def test_a_provider_that_is_not_there_names_those_that_are(foreign):
    with pytest.raises(ModelError, match=r"CPUExecutionProvider.*found NoSuchProvider"):
        OnnxEmbedder(foreign, preprocess=PLAIN, providers=["NoSuchProvider"])
