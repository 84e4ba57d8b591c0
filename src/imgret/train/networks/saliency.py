"""The saliency network: the first blocks of EfficientNet-Lite0 and a decoder to a map.

The output of each level of the trunk is reduced to few channels and added to the upsampled output
of the level below (T.-Y. Lin et al., "Feature Pyramid Networks for Object Detection", 2017). The
lowest level also gets the mean over the whole image, because a subject stands out against all the
rest (J.-J. Liu et al., "A Simple Pooling-Based Design for Real-Time Salient Object Detection",
2019).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from imgret.train.networks.efficientnet import lite_blocks
from imgret.train.networks.layers import ConvNorm, fold

__all__ = ["SaliencyNetwork"]

# End of the blocks of Lite0 that work at 1/4, 1/8, 1/16 and 1/32 of the image's side, their output
# channels, and the channels these are reduced to.
_ENDS = (4, 6, 12, 14)
_CHANNELS = (24, 40, 112, 192)
_WIDTHS = (24, 40, 64, 96)


class Separable(nn.Module):
    """A 5x5 depthwise convolution, followed by a 1x1 convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(channels_in, channels_in, 5, groups=channels_in)
        self.pointwise = ConvNorm(channels_in, channels_out, 1, activation=nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h, w)."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


class SaliencyNetwork(nn.Module):
    """Network from pixels to the logits of a saliency map with a quarter of the side.

    Parameters
    ----------
    freeze : int
        Number of first blocks of the trunk that keep their weights.
    """

    def __init__(self, *, freeze: int = 0) -> None:
        super().__init__()
        blocks = lite_blocks(0)[: _ENDS[-1]]
        starts = (0, *_ENDS[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(*blocks[start:end]) for start, end in zip(starts, _ENDS, strict=True)
        )
        self._frozen = tuple(blocks[:freeze])
        for block in self._frozen:
            block.requires_grad_(requires_grad=False)
        self.across = nn.ModuleList(
            ConvNorm(there, width, 1, activation=nn.ReLU(inplace=True))
            for there, width in zip(_CHANNELS, _WIDTHS, strict=True)
        )
        lowest = _WIDTHS[-1]
        self.whole = nn.Sequential(nn.Conv2d(_CHANNELS[-1], lowest, 1), nn.ReLU(inplace=True))
        self.context = nn.Sequential(Separable(lowest, lowest), Separable(lowest, lowest))
        self.narrow = nn.ModuleList(Separable(below, above) for above, below in pairwise(_WIDTHS))
        self.joined = nn.ModuleList(Separable(width, width) for width in _WIDTHS[:-1])
        self.map = nn.Conv2d(_WIDTHS[0], 1, 3, padding=1)

    @property
    def decoder(self) -> list[nn.Module]:
        """Modules that start from random weights."""
        return [self.across, self.whole, self.context, self.narrow, self.joined, self.map]

    def forward(self, x: Tensor) -> Tensor:
        """Map scaled pixels (n, 3, h, w) to logits (n, 1, h / 4, w / 4)."""
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        y = self.across[-1](x) + self.whole(x.mean((2, 3), keepdim=True))
        y = self.context(y)
        for level in reversed(range(len(levels) - 1)):
            side = self.across[level](levels[level])
            y = interpolate(
                self.narrow[level](y), size=side.shape[2:], mode="bilinear", align_corners=False
            )
            y = self.joined[level](y + side)
        logits: Tensor = self.map(y)
        return logits

    def train(self, mode: bool = True) -> SaliencyNetwork:  # noqa: FBT001, FBT002  # torch's own
        """Switch between training and inference mode; frozen blocks stay in inference mode."""
        super().train(mode)
        for block in self._frozen:
            block.eval()
        return self

    def fold(self) -> None:
        """Fold every batch normalisation into the convolution before it."""
        fold(self)


class Saliency(nn.Module):
    """Network for inference, from pixels to a map from 0 to 1 with half the side."""

    def __init__(self, network: SaliencyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Map scaled pixels (n, 3, h, w) to (n, 1, h / 2, w / 2)."""
        logits = self.network(pixels)
        return torch.sigmoid(
            interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
        )
