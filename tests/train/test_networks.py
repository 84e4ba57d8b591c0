"""The networks: shapes, sizes, weights, what is frozen, what folding must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imgret import OnnxEmbedder, images
from imgret.demo import samples
from imgret.errors import UnknownNameError
from imgret.train.networks import NETWORKS, build, count_parameters, fold
from imgret.train.networks.efficientnet import lite_blocks
from imgret.train.networks.residual import reference_blocks


def noisy_statistics(network):
    """Give each batch normalisation other statistics, as after some training."""
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            part.running_mean.add_(torch.randn(part.running_mean.shape, generator=generator) * 0.1)
            part.running_var.mul_(torch.rand(part.running_var.shape, generator=generator) + 0.5)
            part.weight.data.mul_(torch.rand(part.weight.shape, generator=generator) + 0.5)
            part.bias.data.add_(torch.randn(part.bias.shape, generator=generator) * 0.1)


@pytest.mark.parametrize("name", ["reference", "compact", "lite0"])
def test_any_size_goes_in_and_an_embedding_comes_out(name):
    network = build(name, dim=32).eval()
    for side in (64, 96):
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 32)


def test_reference_is_the_network_it_is_called_after():
    widths = [32, 32, 64, 64, 128, 128]
    expected, before = 0, 3
    for width in widths:
        # A convolution and two blocks of two, each with the two numbers of its normalisation.
        expected += 9 * before * width + 4 * 9 * width * width + 5 * 2 * width
        before = width
    expected += 128 * 128 + 2 * 128
    network = build("reference", dim=128)
    assert count_parameters(network) == expected
    x = torch.zeros(1, 3, 384, 384)
    for stage, width in enumerate(widths, 1):
        x = reference_blocks()[stage - 1](torch.zeros(1, x.shape[1], *x.shape[2:]))
        assert x.shape == (1, width, 384 >> stage, 384 >> stage)


def test_compact_has_under_two_million_parameters():
    network = build("compact", dim=128)
    fold(network)
    assert count_parameters(network) < 2_000_000


def test_lite0_answers_as_the_model_that_is_shipped():
    # Two ways from the same weights: this network in 32 bits, and general.onnx in 8.
    picture = samples.draw("rose", 1, size=(224, 224))
    x = torch.from_numpy((picture.astype(np.float32) - 127) / 128).permute(2, 0, 1)[None]
    with torch.no_grad():
        for block in lite_blocks(0):
            x = block.eval()(x)
    vector = x.mean((2, 3)).numpy().ravel() ** 0.7
    embedder = OnnxEmbedder(
        "general",
        preprocess={
            "size": 224,
            "resize": "squash",
            "layout": "NHWC",
            "dtype": "uint8",
            "scaling": None,
        },
    )
    (shipped,) = embedder.embed([picture])
    assert vector @ shipped / np.linalg.norm(vector) > 0.97


def test_an_unknown_network_gets_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"'lite3'.*known: reference, compact"):
        build("lite3", dim=8)


def test_what_is_frozen_does_not_change():
    torch.manual_seed(0)
    network = build("compact", dim=16, freeze=4).train()
    before = {name: value.clone() for name, value in network.frozen.state_dict().items()}
    moving = {name: value.clone() for name, value in network.trained.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(torch.randn(4, 3, 64, 64)).square().sum().backward()
    optimizer.step()
    for name, value in network.frozen.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert any(not torch.equal(v, moving[n]) for n, v in network.trained.state_dict().items())


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_folding_changes_nothing(name):
    torch.manual_seed(0)
    network = build(name, dim=16).eval()
    network.use_bfloat16 = False
    noisy_statistics(network)
    photo = images.resize(samples.draw("tulip", 3), 64, 64)
    x = torch.from_numpy((photo.astype(np.float32) - 127) / 128).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = network(x)
        fold(network)
        folded = network(x)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    np.testing.assert_allclose(folded, expected, atol=2e-4 * float(expected.abs().max()))


def test_bfloat16_stays_close():
    torch.manual_seed(0)
    network = build("reference", dim=16).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        fast = network(x)
        network.use_bfloat16 = False
        exact = network(x)
    assert torch.cosine_similarity(fast, exact).min() > 0.99
