"""Parts of the loop that a whole run would not show."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from imgret.errors import UnknownNameError
from imgret.train.course import running_mean, scaled
from imgret.train.heads import make_head, set_margin

DATA = Path(__file__).parents[1] / "data"


def test_the_mean_of_few_steps_is_not_where_they_began():
    model = torch.nn.BatchNorm1d(4)
    average = AveragedModel(model, multi_avg_fn=running_mean(0.998), use_buffers=True)
    for step in range(60):
        model.weight.data.fill_(step)
        model.num_batches_tracked.fill_(step)
        average.update_parameters(model)
    assert 40 < float(average.module.weight[0].detach()) < 59
    assert int(average.module.num_batches_tracked) == 59


def test_the_mean_of_many_steps_goes_far_back():
    model = torch.nn.Linear(1, 1)
    average = AveragedModel(model, multi_avg_fn=running_mean(0.9))
    weights = torch.rand(500)
    expected = None
    for value in weights:
        model.weight.data.fill_(value)
        average.update_parameters(model)
    for value in weights[-100:]:
        expected = value if expected is None else 0.9 * expected + 0.1 * value
    torch.testing.assert_close(average.module.weight.detach()[0, 0], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("head", ["arcface", "subcenter"])
def test_more_margin_is_more_loss(head, small):
    torch.manual_seed(0)
    made = make_head(replace(small, head=head), 5)
    embeddings, labels = torch.randn(20, 128), torch.arange(20) % 5
    found = []
    for degrees in (0.0, 10.0, 30.0):
        set_margin(made, degrees)
        found.append(made(embeddings, labels).item())
    assert found == sorted(found)
    assert len(set(found)) == 3
    fresh = make_head(replace(small, head=head, margin=30.0), 5)
    assert fresh.margin == pytest.approx(math.radians(30.0))


def test_pixels_are_scaled_as_a_model_file_scales_them(flowers):
    from imgret import images
    from imgret.models import Preprocess

    picture = images.load(flowers / "rose" / "000.jpg")
    for scaling in ("per-image", {"mean": [127] * 3, "std": [128] * 3}):
        preprocess = Preprocess(size=64, scaling=scaling)
        raw = Preprocess(size=64, scaling=None, dtype="uint8")
        pixels = torch.from_numpy(raw.prepare([picture])).float()
        found = scaled(pixels, preprocess.scaling)
        torch.testing.assert_close(
            found, torch.from_numpy(preprocess.prepare([picture])), atol=1e-4, rtol=0
        )


def test_teachers_embed_at_the_side_they_are_shown_if_they_can(tmp_path):
    from imgret.embedders import OnnxEmbedder
    from imgret.models import write_bundle
    from imgret.train.teacher import Teachers

    fixed = tmp_path / "fixed.onnx"  # takes 8 x 8 pixels only
    plain = {"size": 8, "resize": "squash", "scaling": None}
    write_bundle(DATA / "fixed.onnx", fixed, preprocess=plain, licence="MIT")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    teachers = Teachers(["flowers102", fixed], side=96)
    found = teachers.embed(pixels)
    parts = [OnnxEmbedder("flowers102", size=96), OnnxEmbedder(fixed)]
    expected = [part.embed(list(pixels)) for part in parts]
    expected = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in expected]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), atol=1e-6)
    assert teachers.fingerprint != Teachers(["flowers102", fixed]).fingerprint
    with pytest.raises(UnknownNameError, match="flowers201"):
        Teachers(["flowers201"], side=96)
