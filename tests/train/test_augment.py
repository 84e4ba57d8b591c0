"""Augmentation: what it may change and what it must leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imgret.demo import samples
from imgret.train import Augmentation
from imgret.train.augment import augment, mix

OFF = {"color": 0.0, "turn": 0.0, "erase": 0.0}


def photos(n: int = 6) -> torch.Tensor:
    drawn = [samples.draw("rose", seed, size=(48, 40)) for seed in range(n)]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_off_means_off():
    pixels = photos()
    assert torch.equal(augment(pixels, Augmentation(**OFF), generator()), pixels)


@pytest.mark.parametrize("change", [{"color": 1.0}, {"turn": 45.0}, {"erase": 1.0}])
def test_each_change_changes_and_keeps_pixels_pixels(change):
    pixels = photos()
    kept = pixels.clone()
    changed = augment(pixels, Augmentation(**(OFF | change)), generator())
    assert torch.equal(pixels, kept)
    assert changed.shape == pixels.shape
    assert not torch.equal(changed, pixels)
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 255.01
    again = augment(pixels, Augmentation(**(OFF | change)), generator())
    assert torch.equal(again, changed)
    assert not torch.equal(augment(pixels, Augmentation(**(OFF | change)), generator(1)), changed)


def test_grey_pictures_stay_grey():
    grey = photos().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    changed = augment(grey, Augmentation(**(OFF | {"color": 0.8})), generator())
    assert float((changed.amax(1) - changed.amin(1)).max()) < 0.01


def test_erasing_takes_a_twentieth_to_a_quarter():
    white = torch.full((64, 3, 50, 50), 255.0)
    erased = augment(white, Augmentation(**(OFF | {"erase": 1.0})), generator())
    share = (erased == 127).float().mean((1, 2, 3))
    assert float(share.min()) > 0.03
    assert float(share.max()) < 0.28


def test_mixing_tells_what_is_left_of_the_first():
    chance = generator()
    values = torch.arange(8.0)
    pixels = (values * 30)[:, None, None, None].expand(-1, 3, 20, 20)
    for _ in range(20):
        mixed, partner, share = mix(pixels, chance)
        expected = share * values * 30 + (1 - share) * values[partner] * 30
        torch.testing.assert_close(mixed.mean((1, 2, 3)), expected)
        assert sorted(partner.tolist()) == list(range(8))
