"""Muon: the size and the directions of its steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from imgret.train.muon import Muon, is_dense_convolution


def step(weight, gradient, **options):
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    Muon([parameter], **options).step()
    return parameter.detach() - weight


@pytest.mark.parametrize("shape", [(32, 16, 3, 3), (96, 2, 3, 3), (16, 64)])
def test_a_step_is_equally_large_in_all_directions(shape):
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    gradient[0] *= 30  # one direction outweighs all others
    change = step(torch.randn(shape), gradient, lr=0.01).flatten(1)
    values = torch.linalg.svdvals(change)
    assert values.max() / values.min() < 2
    before = torch.linalg.svdvals(gradient.flatten(1))
    assert before.max() / before.min() > 20
    # Downhill, and as far as a step of AdamW on average.
    assert (change * gradient.flatten(1)).sum() < 0
    size = change.square().mean().sqrt() / 0.01
    assert 0.12 < size < 0.24


def test_weights_of_one_shape_do_not_mix():
    torch.manual_seed(0)
    weights = [torch.randn(8, 4, 3, 3) for _ in range(3)]
    gradients = [torch.randn(8, 4, 3, 3) * 10**n for n in range(3)]
    together = [nn.Parameter(weight.clone()) for weight in weights]
    for parameter, gradient in zip(together, gradients, strict=True):
        parameter.grad = gradient
    Muon(together, lr=0.1).step()
    for parameter, weight, gradient in zip(together, weights, gradients, strict=True):
        expected = weight + step(weight, gradient, lr=0.1)
        torch.testing.assert_close(parameter.detach(), expected, atol=1e-5, rtol=0)


def test_weights_decay_and_those_without_a_gradient_stay():
    torch.manual_seed(0)
    weight, gradient = torch.randn(8, 8), torch.randn(8, 8)
    plain = step(weight, gradient, lr=0.1)
    decayed = step(weight, gradient, lr=0.1, weight_decay=0.5)
    torch.testing.assert_close(decayed, plain - 0.05 * weight, atol=1e-5, rtol=0)
    still = nn.Parameter(weight.clone())
    Muon([still], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(still.detach(), weight)
    assert step(weight, torch.zeros(8, 8), lr=0.1).abs().max() == 0


def test_the_loss_is_computed_again_if_asked():
    weight = nn.Parameter(torch.ones(4, 4))
    made = Muon([weight], lr=0.1)

    def again():
        made.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert made.step(again).item() == 16
    assert weight.square().sum().item() < 16


def test_only_convolutions_that_mix_channels_are_matrices():
    kinds = {
        nn.Conv2d(8, 16, 3): True,
        nn.Conv2d(8, 16, 1): True,
        nn.Conv2d(8, 8, 3, groups=8): False,
        nn.Linear(8, 8): False,
    }
    for layer, dense in kinds.items():
        assert is_dense_convolution(layer.weight) is dense
