"""The compact network: the residual blocks of EfficientNet-Lite0 that pay, and no more.

Of Lite0's 4.0 million parameters before the classifier, the last blocks take most and are the
ones that know ImageNet's classes rather than images. Kept are the stem and the first thirteen
blocks; of the last block only what comes before it narrows, so that the mean over the image
is taken of many channels, each there or not. Under 1.8 million parameters with a 128-d
embedding. See docs/decisions/0011-compact-is-cut-from-lite0.md.
"""

from __future__ import annotations

from torch import nn

from imgret.train.networks.efficientnet import InvertedResidual, lite_blocks

__all__ = ["compact_blocks"]

_KEPT = 14  # the stem and blocks 0 to 12


def compact_blocks() -> list[nn.Module]:
    """Return the blocks with Lite0's weights; the last puts out 1152 channels."""
    blocks = lite_blocks(0)
    last = blocks[-2]
    assert isinstance(last, InvertedResidual)  # noqa: S101  # for the reader and the type checker
    return [*blocks[:_KEPT], nn.Sequential(last.expand, last.depthwise)]
