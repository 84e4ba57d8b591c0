"""Training what a saliency cropper sees with: pairs, batches, a whole run, mistakes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from imgret import images, models
from imgret.cli import main
from imgret.croppers import SaliencyCropper
from imgret.errors import ImageNotFoundError, ImageTooLargeError, InvalidInputError, TrainingError
from imgret.train import SaliencyRecipe, checkpoint, draw_masks, train_saliency
from imgret.train.networks import count_parameters
from imgret.train.networks.saliency import Saliency, SaliencyNetwork
from imgret.train.saliency.data import find_pairs, masked_batches, paste
from imgret.train.saliency.trainer import SaliencyTrainer, measure
from imgret.types import Box

SMALL = SaliencyRecipe(size=96, sides=((0.0, 64),), epochs=2, batch_size=4, freeze=4)
QUIET = {"threads": 2, "progress": False}


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Bright discs on dark noise, with true masks; an image without one; a broken one."""
    root = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    for kind in ("pictures", "masks"):
        (root / kind / "some").mkdir(parents=True)
    y, x = np.mgrid[:80, :100]
    for n in range(14):
        picture = rng.integers(0, 70, (80, 100, 3), dtype=np.uint8)
        disc = (x - rng.integers(20, 80)) ** 2 + (y - rng.integers(20, 60)) ** 2 < 15**2
        picture[disc] = (240, 200, rng.integers(0, 255))
        mask = np.repeat(disc[:, :, None].astype(np.uint8) * 255, 3, axis=2)
        (root / "pictures" / "some" / f"{n:02d}.jpg").write_bytes(images.encode(picture, "jpeg"))
        (root / "masks" / "some" / f"{n:02d}.png").write_bytes(images.encode(mask, "png"))
    (root / "masks" / "some" / "13.png").unlink()
    (root / "pictures" / "some" / "12.jpg").write_bytes(b"\xff\xd8\xff")
    return root


@pytest.fixture(scope="module")
def trained(discs, tmp_path_factory):
    out = tmp_path_factory.mktemp("saliency") / "discs.onnx"
    report = train_saliency(
        discs / "pictures", discs / "masks", out, recipe=SMALL, valid=0.2, validate_every=1, **QUIET
    )
    return out, report


def test_the_network_keeps_its_bounds():
    network = SaliencyNetwork()
    assert count_parameters(network) < 1_500_000
    pixels = torch.randn(2, 3, 96, 128)
    assert network(pixels).shape == (2, 1, 24, 32)
    network.eval()
    before = network(pixels)
    network.fold()
    torch.testing.assert_close(network(pixels), before, rtol=1e-3, atol=1e-3)
    shown = Saliency(network)(pixels)
    assert shown.shape == (2, 1, 48, 64)
    assert 0 <= shown.min() < shown.max() <= 1


def test_frozen_blocks_stay_as_they_are(discs):
    pairs = find_pairs(discs / "pictures", discs / "masks").select(range(8))
    trainer = SaliencyTrainer(SMALL, pairs, device=torch.device("cpu"), seed=0, threads=1)
    state = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run_epoch()
    changed = {
        name
        for name, value in trainer.network.state_dict().items()
        if not torch.equal(value, state[name])
    }
    assert not any(name.startswith("stages.0.") for name in changed)
    assert any(name.startswith("stages.1.") for name in changed)
    assert any(name.startswith("map.") for name in changed)


def test_pairs_go_by_their_paths(discs):
    pairs = find_pairs(discs / "pictures", discs / "masks")
    assert len(pairs) == 13  # one has no mask
    assert all(
        picture.stem == mask.stem for picture, mask in zip(pairs.photos, pairs.masks, strict=True)
    )


def test_batches_show_pictures_and_masks_alike(discs):
    pairs = find_pairs(discs / "pictures", discs / "masks").select(range(8))
    recipe = replace(SMALL, paste=0.0, batch_size=8)
    shown = [
        list(
            masked_batches(
                pairs, np.arange(8), side=64, recipe=recipe, seed=[3, 0], threads=threads
            )
        )
        for threads in (1, 3)
    ]
    (pixels, masks), (again, masks_again) = shown[0][0], shown[1][0]
    np.testing.assert_array_equal(pixels, again)
    np.testing.assert_array_equal(masks, masks_again)
    assert pixels.shape == (8, 64, 64, 3)
    assert masks.shape == (8, 32, 32)
    bright = pixels[:, ::2, ::2, 0] > 140
    agree = (bright == (masks > 127)).mean()
    assert agree > 0.95  # what is bright is the disc, however it was cut


def test_a_subject_is_pasted_with_its_mask():
    picture = np.full((64, 64, 3), 30, dtype=np.uint8)
    picture[20:44, 16:48] = 250
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:44, 16:48] = 255
    ground = np.full((64, 64, 3), 100, dtype=np.uint8)
    empty, full = np.zeros_like(mask), np.full_like(mask, 255)
    rng = np.random.default_rng(0)
    pasted, its_mask = paste(picture, mask, ground, empty, rng)
    np.testing.assert_array_equal(pasted[its_mask > 250], 250)
    np.testing.assert_array_equal(pasted[its_mask == 0], 100)
    assert 0 < (its_mask > 127).sum() < (mask > 127).sum()
    # Nowhere to paste to, nothing to paste: the image as it was.
    for subject, its_ground in ((mask, full), (empty, empty)):
        kept, kept_mask = paste(picture, subject, ground, its_ground, rng)
        assert kept is picture
        assert kept_mask is subject


def test_what_was_trained_finds_the_discs(trained, discs):
    out, report = trained
    assert report.n_images == 10
    assert len(report.failed) == 1
    assert "12.jpg" in report.failed[0]
    facts = models.describe(out)["bundle"]
    assert (facts["kind"], facts["threshold"], facts["calibrated"]) == ("saliency", 0.3, True)
    for path in (out, out.with_suffix(".int8.onnx")):
        cropper = SaliencyCropper(path)
        assert cropper.threshold == 0.3
        picture = images.load(discs / "pictures" / "some" / "00.jpg")
        assert cropper.saliency(picture).shape == (80, 100)
        assert models.check(path).ok
    assert "box_iou" in str(report)
    told = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert [epoch["epoch"] for epoch in told["history"]] == [1, 2]
    assert "agree least" in out.with_suffix(".html").read_text(encoding="utf-8")


def test_the_file_answers_as_the_network(trained, discs):
    """What is measured while training is measured of the file too, but for rounding."""
    _, report = trained
    held = report.variants[0].agreement
    last = report.history[-1].valid
    assert held["mae"] == pytest.approx(last["mae"], abs=0.03)
    int8 = report.variants[1].agreement
    assert int8["mae"] == pytest.approx(held["mae"], abs=0.03)


def test_an_interrupted_run_ends_the_same(discs, tmp_path):
    pairs = find_pairs(discs / "pictures", discs / "masks").select(range(8))

    def trainer():
        return SaliencyTrainer(SMALL, pairs, device=torch.device("cpu"), seed=0, threads=1)

    whole, first = trainer(), trainer()
    whole.run_epoch()
    first.run_epoch()
    checkpoint.write(tmp_path / "last.pt", first.state())
    second = trainer()
    second.load(checkpoint.read(tmp_path / "last.pt"), tmp_path / "last.pt")
    assert whole.run_epoch().loss == second.run_epoch().loss
    for name, value in whole.averaged_network().state_dict().items():
        assert torch.equal(value, second.averaged_network().state_dict()[name]), name


def test_a_checkpoint_of_other_pictures_is_refused(discs, tmp_path):
    pairs = find_pairs(discs / "pictures", discs / "masks")
    first = SaliencyTrainer(
        SMALL, pairs.select(range(4)), device=torch.device("cpu"), seed=0, threads=1
    )
    other = SaliencyTrainer(
        SMALL, pairs.select(range(5)), device=torch.device("cpu"), seed=0, threads=1
    )
    with pytest.raises(TrainingError, match="expected a checkpoint of the same images"):
        other.load(first.state(), tmp_path / "last.pt")


def test_a_perfect_map_measures_perfectly(discs):
    pairs = find_pairs(discs / "pictures", discs / "masks").select(range(3))

    class Perfect(torch.nn.Module):
        """Looks the masks up, in order."""

        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            masks = [pairs.load_mask(row) for row in range(len(pairs))]
            maps = [images.resize(mask.astype(np.float32), 100, 80) / 255 for mask in masks]
            return torch.from_numpy(np.stack(maps))[:, None] * 40 - 20

    found = measure(
        Perfect(),
        pairs,
        models.Preprocess(size=96, resize="squash", scaling="per-image"),
        0.5,
        device=torch.device("cpu"),
        threads=1,
    )
    assert found["mae"] < 0.02
    assert found["box_iou"] > 0.93


def test_masks_are_drawn_once(discs, tmp_path):
    teacher = SaliencyCropper("spectral")
    (failed,) = draw_masks(discs / "pictures", tmp_path / "drawn", teacher, progress=False)
    assert "12.jpg" in str(failed)
    drawn = sorted((tmp_path / "drawn" / "some").glob("*.png"))
    assert len(drawn) == 13
    mask = images.load(drawn[0])
    assert max(mask.shape) == 160
    times = [path.stat().st_mtime_ns for path in drawn]
    draw_masks(discs / "pictures", tmp_path / "drawn", teacher, progress=False)
    assert [path.stat().st_mtime_ns for path in drawn] == times


def test_images_of_too_many_pixels_are_left_out(discs, tmp_path):
    folders = discs / "pictures", discs / "masks"
    with pytest.raises(InvalidInputError, match="found 0 and 13 that are not readable"):
        train_saliency(*folders, tmp_path / "x.onnx", max_pixels=99, **QUIET)
    pairs = find_pairs(*folders, max_pixels=7_999).select([3, 5])
    with pytest.raises(ImageTooLargeError):
        pairs.load(0)
    with pytest.raises(ImageTooLargeError):
        pairs.load_mask(1)
    teacher = SaliencyCropper("spectral")
    failed = draw_masks(folders[0], tmp_path, teacher, max_pixels=7_999, progress=False)
    assert len(failed) == 14


def test_mistakes_are_told(discs, tmp_path):
    pictures, masks = discs / "pictures", discs / "masks"
    with pytest.raises(InvalidInputError, match="expected a mask for each image"):
        train_saliency(pictures, tmp_path, tmp_path / "x.onnx", **QUIET)
    with pytest.raises(ImageNotFoundError):
        train_saliency(tmp_path / "none", masks, tmp_path / "x.onnx", **QUIET)
    with pytest.raises(InvalidInputError, match=r"out: expected the path of an \.onnx"):
        train_saliency(pictures, masks, tmp_path / "x.pt", **QUIET)
    with pytest.raises(InvalidInputError, match="valid: expected a share"):
        train_saliency(pictures, masks, tmp_path / "x.onnx", valid=1.5, **QUIET)
    with pytest.raises(InvalidInputError, match="device"):
        train_saliency(pictures, masks, tmp_path / "x.onnx", device="gpu9", **QUIET)
    with pytest.raises(InvalidInputError, match="paste: expected a number from 0 to 1"):
        SaliencyRecipe(paste=2)
    assert not list(tmp_path.iterdir())  # nothing was begun


def test_the_command(discs, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "train-saliency",
                str(discs / "pictures"),
                str(discs / "masks"),
                "-o",
                str(tmp_path / "no" / "x.onnx"),
            ]
        )
    assert ended.value.code == 1
    assert "expected a folder" in capsys.readouterr().err


def test_boxes_overlap():
    a, b = Box(0, 0, 10, 10), Box(5, 5, 15, 15)
    assert a.iou(a) == 1
    assert a.iou(b) == b.iou(a) == pytest.approx(25 / 175)
    assert a.iou(Box(10, 0, 20, 10)) == 0
