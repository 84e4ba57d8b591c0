"""`imgret models describe` and `bundle`."""

import json
import shutil
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def theirs(tmp_path):
    return Path(shutil.copy(DATA / "fixed.onnx", tmp_path / "theirs.onnx"))


def test_described_bundled_described_and_checked(run, theirs):
    before = run("models", "describe", str(theirs))
    assert before.code == 0
    assert "input          planes: float32 (1, 3, 8, 8)\n" in before.out
    assert "`imgret models bundle`" in before.out
    facts = theirs.with_suffix(".json")
    facts.write_text('{"size": 8, "scaling": null}')
    ended = run("models", "bundle", str(theirs), "--preprocess", str(facts), "--licence", "MIT")
    assert ended.code == 0
    assert ended.out == f"{theirs}: theirs, 192-d, any length\n"
    after = run("models", "describe", str(theirs))
    assert 'prepared       size 8, scaling null, resize "crop"' in after.out
    assert "licence        MIT\n" in after.out
    assert json.loads(run("models", "describe", str(theirs), "--json").out)["bundle"]["dim"] == 192
    assert run("models", "check", str(theirs)).code == 0


@pytest.mark.parametrize("text", ["{size: 8}", "nothing.json"])
def test_preprocess_that_is_no_json_is_wrong_usage(run, theirs, text):
    ended = run("models", "bundle", str(theirs), "--preprocess", text)
    assert ended.code == 2
    assert "--preprocess" in ended.err


def test_preprocess_that_is_not_allowed_is_an_error(run, theirs):
    ended = run("models", "bundle", str(theirs), "--preprocess", '{"size": 8, "scale": 1}')
    assert ended.code == 1
    assert "scale" in ended.err
