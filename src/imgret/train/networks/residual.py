"""The reference network: plain residual blocks of 3x3 convolutions, from random weights.

Residual blocks: K. He et al., "Deep Residual Learning for Image Recognition" (2016).
"""

from __future__ import annotations

from torch import Tensor, nn

from imgret.train.networks.layers import ConvNorm

__all__ = ["ResidualBlock", "reference_blocks"]

_WIDTHS = (32, 32, 64, 64, 128, 128)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 3, activation=nn.ReLU(inplace=True))
        self.second = ConvNorm(channels, channels, 3)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, h, w) to the same shape."""
        y: Tensor = self.activation(x + self.second(self.first(x)))
        return y


def reference_blocks() -> list[nn.Module]:
    """Return six stages: a convolution, two residual blocks, 2x2 max-pooling.

    Widths are 32 x [1, 1, 2, 2, 4, 4].
    """
    blocks: list[nn.Module] = []
    before = 3
    for width in _WIDTHS:
        blocks.append(
            nn.Sequential(
                ConvNorm(before, width, 3, activation=nn.ReLU(inplace=True)),
                ResidualBlock(width),
                ResidualBlock(width),
                nn.MaxPool2d(2),
            )
        )
        before = width
    return blocks
