"""A whole training, its interruptions, and what can go wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from imgret import Retriever, models
from imgret.cli import main
from imgret.errors import (
    ImageNotFoundError,
    InvalidInputError,
    TrainingError,
    UnknownNameError,
)
from imgret.train import checkpoint, train
from imgret.train.trainer import Trainer

QUIET = {"threads": 2, "int8": False, "progress": False}


@pytest.fixture
def no_export(monkeypatch):
    """End with the last epoch: what takes seconds then is tested with `trained`."""

    def finish(trainer, held, out, preprocess, **facts):
        return SimpleNamespace(
            history=trainer.history,
            classes=trainer.dataset.classes,
            average=trainer.average.state_dict(),
            held=held,
            **facts,
        )

    monkeypatch.setattr("imgret.train.finish.finish", finish)


@pytest.fixture(scope="module")
def trained(flowers, others, small, tmp_path_factory):
    """A finished run with everything there is."""
    out = tmp_path_factory.mktemp("trained") / "stamps.onnx"
    shutil.copytree(flowers, out.parent / "flowers")
    (out.parent / "flowers" / "rose" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    report = train(
        out.parent / "flowers",
        out,
        recipe=small,
        valid=others,
        teacher="general",
        threads=2,
        validate_every=1,
    )
    return out, report


def test_the_model_is_of_use_at_once(trained, flowers):
    out, _ = trained
    retriever = Retriever(embedder=str(out))
    retriever.add_folder(flowers, labels="parent", progress=False)
    hits = retriever.search(flowers / "rose" / "000.jpg", k=1)
    assert hits[0].key == "rose/000.jpg"


def test_the_file_says_what_it_is(trained):
    out, _ = trained
    for path, precision in ((out, "fp32"), (out.with_suffix(".int8.onnx"), "int8")):
        facts = models.describe(path)["bundle"]
        assert facts["dim"] == 128
        assert facts["precision"] == precision
        assert "recipe reference" in facts["source"]
        assert "taught by general" in facts["source"]
        assert facts["training_data"] == "the folder flowers"
        assert models.check(path).ok
    assert facts["calibrated_on"] == "24 of the images it was trained on"


def test_the_report_tells_it_all(trained):
    out, report = trained
    text = str(report)
    assert "24 images of 3 classes, 2 epochs" in text
    assert "images that could not be read: 1\n  " in text
    assert "broken.jpg" in text
    assert "int8 against fp32: top-1" in text
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert page.count("<polyline") >= 4  # loss, learning rate, two measures of validation
    assert '<div class="plots"><svg' in page  # one below the other on a phone
    assert ">1.5</text>" not in page  # an epoch
    assert ">rose/000.jpg</a>" in page  # below the folder
    for part in ("Curves", "Metrics", "Worst classes", "Worst queries", "Configuration"):
        assert f"<h2>{part}</h2>" in page
    facts = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["recipe"]["name"] == "reference"
    assert [epoch["side"] for epoch in facts["history"]] == [64, 80]
    assert facts["models"][0]["metrics"]["top1"] == report.variants[0].evaluation.metrics["top1"]
    assert report.variants[0].difference < 1e-4
    lines = (out.with_suffix(".training") / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def weights(out):
    return checkpoint.read(out.with_suffix(".training") / "last.pt")["average"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_interrupted_run_comes_to_the_same_end(optimizer, flowers, small, tmp_path, monkeypatch):
    augmentation = replace(small.augmentation, mix=0.5)
    recipe = replace(small, epochs=3, optimizer=optimizer, augmentation=augmentation)
    options = {"valid": None, "name": "either", **QUIET}
    train(flowers, tmp_path / "whole.onnx", recipe=recipe, **options)

    step, steps = Trainer._step, []

    def interrupted(self, *given):
        steps.append(1)
        if len(steps) == 5:  # in the second epoch of three batches
            raise KeyboardInterrupt
        return step(self, *given)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(flowers, tmp_path / "broken.onnx", recipe=recipe, **options)
    monkeypatch.undo()
    last = tmp_path / "broken.training" / "last.pt"
    assert len(checkpoint.read(last)["history"]) == 1
    assert not (tmp_path / "broken.onnx").exists()
    train(flowers, tmp_path / "broken.onnx", recipe=recipe, resume=last, **options)
    expected, found = weights(tmp_path / "whole.onnx"), weights(tmp_path / "broken.onnx")
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert (tmp_path / "whole.onnx").read_bytes() == (tmp_path / "broken.onnx").read_bytes()


def test_the_seed_decides(no_export, flowers, small, tmp_path):
    ends = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / f"{name}.onnx"
        train(flowers, out, recipe=small, valid=None, seed=seed, **QUIET)
        ends.append(weights(out)["module.embedding.weight"])
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good(
    no_export, flowers, small, tmp_path
):
    out = tmp_path / "model.onnx"
    recipe = replace(small, epochs=2, warmup_epochs=0)
    train(flowers, out, recipe=replace(recipe, epochs=1), valid=None, **QUIET)
    last = out.with_suffix(".training") / "last.pt"
    good = last.read_bytes()
    state = checkpoint.read(last)
    state["recipe"]["epochs"] = 2
    state["network"]["embedding.weight"][:] = float("nan")
    checkpoint.write(last, {name: v for name, v in state.items() if name != "format"})
    bad = last.read_bytes()
    with pytest.raises(
        TrainingError, match=r"epoch 2: expected a finite loss, found nan.*last\.pt"
    ):
        train(flowers, out, recipe=recipe, valid=None, resume=last, **QUIET)
    assert last.read_bytes() == bad != good


def test_an_absurd_learning_rate_is_told_at_once(no_export, flowers, small, tmp_path):
    recipe = replace(small, lr=1e30, warmup_epochs=0, head="softmax")
    with pytest.raises(TrainingError, match="expected a finite loss.*try a lower lr"):
        train(flowers, tmp_path / "m.onnx", recipe=recipe, valid=None, **QUIET)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    # A limit on the size of files, which is what a full disk does to a write.
    code = """
import resource, signal, sys
from pathlib import Path
import torch
from imgret.errors import TrainingError
from imgret.train import checkpoint
path = Path(sys.argv[1])
checkpoint.write(path, {"weights": torch.zeros(10)})
before = path.read_bytes()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoint.write(path, {"weights": torch.zeros(100_000)})
except TrainingError as error:
    assert "cannot be written" in str(error) and "is kept" in str(error), error
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    print("kept")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "last.pt")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "kept\n", done.stderr


def test_early_stopping(no_export, flowers, others, small, tmp_path):
    recipe = replace(small, epochs=30, lr=1e-7)  # nothing to be learned
    out = tmp_path / "model.onnx"
    report = train(flowers, out, recipe=recipe, valid=others, patience=2, validate_every=1, **QUIET)
    assert len(report.history) < 30
    scores = [epoch.valid["map5"] for epoch in report.history]
    assert max(scores[:-2]) >= max(scores[-2:])


def test_the_best_weights_are_the_ones_exported(no_export, flowers, others, small, tmp_path):
    out = tmp_path / "model.onnx"
    report = train(
        flowers, out, recipe=replace(small, epochs=3), valid=others, validate_every=1, **QUIET
    )
    best = checkpoint.read(out.with_suffix(".training") / "best.pt")
    scores = [epoch.valid["map5"] for epoch in report.history]
    assert best["history"][-1]["valid"]["map5"] == max(scores)
    for name, value in report.average.items():
        assert torch.equal(value, best["average"][name]), name


def test_a_teacher_is_asked_once_and_followed(no_export, flowers, small, tmp_path):
    out = tmp_path / "model.onnx"
    recipe = replace(small, epochs=4, distill=20.0)
    report = train(flowers, out, recipe=recipe, valid=None, teacher="general", **QUIET)
    assert report.history[-1].loss < report.history[0].loss
    (kept,) = out.with_suffix(".training").glob("teacher-*.npy")
    taught = np.load(kept)
    assert taught.shape == (24, 1280)
    np.testing.assert_allclose(np.linalg.norm(taught, axis=1), 1, atol=1e-5)


def test_a_teacher_of_crops_is_followed(no_export, flowers, small, tmp_path):
    """It embeds what the network is shown, at a side of its own, if it takes that side."""
    out = tmp_path / "model.onnx"
    recipe = replace(small, epochs=4, distill=20.0, teach_side=96)
    train(flowers, out, recipe=recipe, valid=None, teacher="flowers102", epochs=2, **QUIET)
    assert not list(out.with_suffix(".training").glob("teacher-*.npy"))
    with pytest.raises(TrainingError, match="of the same teacher, found different data"):
        train(
            flowers,
            out,
            recipe=replace(recipe, epochs=2),
            valid=None,
            teacher="general",
            resume=out.with_suffix(".training") / "last.pt",
            **QUIET,
        )


def test_other_weights_to_start_from(no_export, flowers, small, tmp_path):
    train(flowers, tmp_path / "first.onnx", recipe=small, valid=None, **QUIET)
    first = tmp_path / "first.training" / "last.pt"
    still = replace(small, epochs=1, lr=1e-9, backbone_lr=1e-9)
    train(flowers, tmp_path / "second.onnx", recipe=still, valid=None, init=first, **QUIET)
    name = "module.trained.0.0.conv.weight"
    torch.testing.assert_close(
        weights(tmp_path / "second.onnx")[name],
        weights(tmp_path / "first.onnx")[name],
        atol=1e-4,
        rtol=0,
    )
    with pytest.raises(TrainingError, match="of the network 'compact', found 'reference'"):
        train(flowers, tmp_path / "third.onnx", recipe="compact", init=first, **QUIET)


@pytest.mark.parametrize("head", ["arcface", "subcenter", "softmax"])
def test_every_head_learns(no_export, head, flowers, small, tmp_path):
    recipe = replace(small, head=head, epochs=10)  # in five, the loss may still rise by chance
    report = train(flowers, tmp_path / "m.onnx", recipe=recipe, valid=None, **QUIET)
    losses = [epoch.loss for epoch in report.history]
    assert sum(losses[-3:]) < 0.95 * sum(losses[:3])


def test_pictures_that_cannot_be_read_are_reported(no_export, flowers, small, tmp_path):
    shutil.copytree(flowers, tmp_path / "some")
    (tmp_path / "some" / "rose" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    report = train(tmp_path / "some", tmp_path / "m.onnx", recipe=small, valid=None, **QUIET)
    assert [error.path.name for error in report.failed] == ["bad.jpg"]


def test_a_class_of_one_picture_is_learned_too(no_export, flowers, small, tmp_path):
    shutil.copytree(flowers, tmp_path / "some")
    (tmp_path / "some" / "iris").mkdir()
    shutil.copy(flowers / "rose" / "000.jpg", tmp_path / "some" / "iris")
    report = train(tmp_path / "some", tmp_path / "m.onnx", recipe=small, valid=0.2, **QUIET)
    assert "iris" in report.classes
    assert sorted(report.held.labels) == [0, 0, 2, 2, 3, 3]  # two of each other class


def test_an_earlier_run_is_not_written_over(no_export, flowers, small, tmp_path):
    train(flowers, tmp_path / "m.onnx", recipe=small, valid=None, **QUIET)
    with pytest.raises(InvalidInputError, match=r"last\.pt: expected no checkpoint .*--resume"):
        train(flowers, tmp_path / "m.onnx", recipe=small, valid=None, **QUIET)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lr": 1e-2}, r"same recipe, found lr 0\.001 \(now 0\.01\)"),
        ({"dim": 64}, r"same recipe, found dim 128 \(now 64\)"),
    ],
)
def test_a_run_is_resumed_as_it_was_begun(no_export, flowers, small, tmp_path, change, told):
    train(flowers, tmp_path / "m.onnx", recipe=small, valid=None, **QUIET)
    last = tmp_path / "m.training" / "last.pt"
    with pytest.raises(TrainingError, match=told):
        train(
            flowers,
            tmp_path / "m.onnx",
            recipe=replace(small, **change),
            valid=None,
            resume=last,
            **QUIET,
        )


def test_a_run_of_a_version_with_fewer_settings_is_resumed(no_export, flowers, small, tmp_path):
    out = tmp_path / "m.onnx"
    train(flowers, out, recipe=small, valid=None, **QUIET)
    last = tmp_path / "m.training" / "last.pt"
    state = checkpoint.read(last)
    del state["recipe"]["optimizer"], state["recipe"]["teach_side"]
    checkpoint.write(last, {name: v for name, v in state.items() if name != "format"})
    report = train(flowers, out, recipe=small, valid=None, resume=last, **QUIET)
    assert len(report.history) == small.epochs
    changed = replace(small, optimizer="muon")
    with pytest.raises(TrainingError, match=r"same recipe, found optimizer 'adamw' \(now 'muon'"):
        train(flowers, out, recipe=changed, valid=None, resume=last, **QUIET)


def test_another_teacher_or_other_pictures_are_no_way_to_go_on(no_export, flowers, small, tmp_path):
    out = tmp_path / "m.onnx"
    train(flowers, out, recipe=small, valid=None, teacher="general", **QUIET)
    last = tmp_path / "m.training" / "last.pt"
    options = {"recipe": small, "valid": None, "resume": last, **QUIET}
    for teacher, found in (((), r"one \(now none\)"), ("flowers102", "different data")):
        with pytest.raises(TrainingError, match=f"of the same teacher, found {found}; use the"):
            train(flowers, out, teacher=teacher, **options)
    shutil.copytree(flowers, tmp_path / "some")
    (tmp_path / "some" / "rose" / "000.jpg").rename(tmp_path / "some" / "rose" / "new.jpg")
    with pytest.raises(TrainingError, match="of the same images, found different data; use the"):
        train(tmp_path / "some", out, teacher="general", **options)


@pytest.mark.parametrize("wrong", [{"folder": "nowhere"}, {"teacher": "genral"}])
def test_a_mistake_leaves_nothing_behind(flowers, tmp_path, wrong):
    given = {"folder": flowers, "out": tmp_path / "m.onnx", **wrong}
    with pytest.raises((ImageNotFoundError, UnknownNameError)):
        train(**given)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_told(flowers, small, tmp_path):
    path = tmp_path / "last.pt"
    for data in (b"", b"no checkpoint", b"PK\x03\x04 and then nothing"):
        path.write_bytes(data)
        with pytest.raises(TrainingError, match="expected a checkpoint, found damage"):
            checkpoint.read(path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(TrainingError, match="expected a checkpoint"):
        checkpoint.read(path)
    with pytest.raises(TrainingError, match="found none there"):
        checkpoint.read(tmp_path / "nowhere.pt")


def test_no_place_for_checkpoints_is_told(flowers, small, tmp_path):
    (tmp_path / "model.training").write_bytes(b"in the way")
    with pytest.raises(TrainingError, match=r"model\.training: the folder .* cannot be created"):
        train(flowers, tmp_path / "model.onnx", recipe=small)


def test_arguments_are_checked_before_anything_is_read(flowers, tmp_path):
    with pytest.raises(InvalidInputError, match=r"an \.onnx file, found .*model\.pt"):
        train(flowers, tmp_path / "model.pt")
    with pytest.raises(InvalidInputError, match="expected a folder .*nowhere"):
        train(flowers, tmp_path / "nowhere" / "model.onnx")
    with pytest.raises(InvalidInputError, match="device: expected 'auto', 'cpu'"):
        train(flowers, tmp_path / "model.onnx", device="abacus")
    with pytest.raises(InvalidInputError, match="valid: expected a share"):
        train(flowers, tmp_path / "model.onnx", valid=1.5)


def test_the_command_does_the_same(flowers, others, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    words = ["train", str(flowers), "-o", str(out), "--recipe", "compact", "--valid", str(others)]
    words += ["--epochs", "1", "--batch-size", "12", "--dim", "32", "--no-int8", "--threads", "2"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert "compact: 1," in told.out
    assert "model.html" in told.err
    assert models.check(out).ok
    assert models.describe(out)["bundle"]["licence"] == "Apache-2.0"
    assert not out.with_suffix(".int8.onnx").exists()


def test_a_transformer_of_timm_is_trained_from_a_file(flowers, others, weights, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    words = ["train", str(flowers), "-o", str(out), "--network", "timm:test_vit"]
    words += ["--weights", str(weights("test_vit")), "--valid", str(others), "--epochs", "1"]
    words += ["--batch-size", "12", "--dim", "32", "--threads", "2"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert "int8 against fp32: top-1" in told.out
    assert ", mean cosine 0.9" in told.out
    facts = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["recipe"]["network"] == "timm:test_vit"
    assert facts["recipe"]["sides"] == [[0.0, 160]]
    assert facts["models"][0]["difference"] < 1e-4
    assert facts["models"][0]["cosine"] is None
    assert 0.9 < facts["models"][1]["cosine"] < 1
    for file in (out, out.with_suffix(".int8.onnx")):
        bundle = models.describe(file)["bundle"]
        assert bundle["input"]["size"] == 160
        assert bundle["dim"] == 32
        assert bundle["normalized"]
        assert bundle["licence"] == "NOASSERTION"  # that of the weights is not known
        assert not bundle["notice"]
        assert "starting from timm test_vit, weights test_vit.pth" in bundle["source"]
        assert models.check(file).ok
    small, large = (file.stat().st_size for file in (out.with_suffix(".int8.onnx"), out))
    assert small < 0.5 * large  # its matrix products are in 8 bits, too


def test_a_network_of_timm_is_resumed(no_export, flowers, small, weights, tmp_path):
    recipe = replace(small, epochs=2)
    options = {"network": "timm:test_resnet", "weights": weights("test_resnet"), "valid": None}
    options |= QUIET
    ends = {}
    for name in ("whole", "broken"):
        if name == "broken":
            with pytest.MonkeyPatch.context() as patch:
                step, steps = Trainer._step, []

                def interrupted(self, *given, step=step, steps=steps):
                    steps.append(1)
                    if len(steps) == 5:
                        raise KeyboardInterrupt
                    return step(self, *given)

                patch.setattr(Trainer, "_step", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    train(flowers, tmp_path / "broken.onnx", recipe=recipe, **options)
            options["resume"] = tmp_path / "broken.training" / "last.pt"
            with pytest.raises(TrainingError, match="of the same weights, found"):
                train(
                    flowers, tmp_path / "broken.onnx", recipe=recipe, **options | {"weights": None}
                )
        report = train(flowers, tmp_path / f"{name}.onnx", recipe=recipe, **options)
        ends[name] = report.average
    for name, value in ends["whole"].items():
        assert torch.equal(value, ends["broken"][name]), name


def test_training_starts_from_the_weights_given(no_export, flowers, small, weights, tmp_path):
    still = replace(small, epochs=1, lr=1e-9, backbone_lr=1e-9)
    path = weights("test_resnet")
    given = torch.load(path, weights_only=True)
    options = {"network": "timm:test_resnet", "recipe": still, "valid": None, **QUIET}
    ends = [
        train(flowers, tmp_path / f"{number}.onnx", weights=start, **options).average
        for number, start in enumerate((path, None))
    ]
    key = next(key for key in given if key.endswith("conv1.weight"))
    trained = [end[f"module.trained.0.network.{key}"] for end in ends]
    torch.testing.assert_close(trained[0], given[key], atol=1e-4, rtol=0)
    assert (trained[1] - given[key]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--network", "lite9"], "known: reference, compact, lite0, lite1, lite2, timm:NAME"),
        (["--network", "lite1", "--weights", "x.pth"], "weights: expected them for a network of"),
        (["--recipe", "compakt"], "known: reference, compact, finetune"),
        (["--head", "cosface"], "head: expected one of 'arcface'"),
        (["--epochs", "0"], "epochs: expected a whole number of at least 1"),
        (["--resume", "nowhere.pt"], "nowhere.pt: expected a checkpoint, found none there"),
    ],
)
def test_mistakes_get_one_line(words, told, flowers, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", str(flowers), "-o", str(tmp_path / "model.onnx"), *words])
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert told in err
    assert err.count("imgret: error") == 1
