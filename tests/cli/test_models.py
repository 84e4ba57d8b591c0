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


VIT = DATA / "models" / "vit"


def bench(run, *options, model=VIT):
    return run("models", "bench", model, "--seconds", "0.001", *options)


def test_bench_prints_a_table(run):
    ended = bench(run, "--batch", "1,4", "--threads", "1,2", "--provider", "cpu")
    assert ended.code == 0
    title, head, *rows = ended.out.splitlines()
    assert title.startswith(f"{VIT}: 64 px, ")
    assert head.split() == ["provider", "threads", "batch", "network", "embed"]
    found = [row.lstrip("> ").split()[:3] for row in rows]
    assert found == [["cpu", threads, batch] for threads in "12" for batch in "14"]
    assert sum(row.startswith(">") for row in rows) == 1


def test_bench_in_json(run):
    facts = json.loads(bench(run, "--batch", "2", "--threads", "1", "--json").out)
    (speed,) = facts["speeds"]
    assert (speed["provider"], speed["threads"], speed["batch"]) == ("cpu", 1, 2)
    assert speed["network"] > 0 < speed["embed"]


def test_bench_of_a_model_that_reads_text(run):
    ended = bench(
        run, "--batch", "1", "--threads", "1", "--variant", "fp16", model=DATA / "models" / "clip"
    )
    assert ended.out.splitlines()[-1].endswith(" texts/s, cpu")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--threads", "0"), 2, "--threads: expected whole numbers of at least 1"),
        (("--batch", "1;2"), 2, "--batch: expected whole numbers of at least 1"),
        (("--batch", ","), 2, "separated by commas, found ','"),
        (("--provider", "gpu"), 1, "CPUExecutionProvider (cpu)"),
        (("--provider", "tensorrt"), 1, "found TensorrtExecutionProvider (tensorrt)"),
        (("--variant", "fp16"), 1, "variant: expected one of the plain one, found 'fp16'"),
    ],
)
def test_bench_with_bad_values(run, options, code, said):
    ended = bench(run, *options)
    assert ended.code == code
    assert said in ended.err
    assert ended.out == ""


def test_bench_of_what_is_no_embedder(run):
    from imgret.models import resolve

    ended = bench(run, model=resolve("saliency"))
    assert ended.code == 1
    assert "expected a model of kind 'embedder', found 'saliency'" in ended.err
    assert "known: flowers102" in bench(run, model="saliency").err
