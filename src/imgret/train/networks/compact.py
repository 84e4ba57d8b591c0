"""The compact network: EfficientNet-Lite0 without most of its last blocks.

The last blocks have most of Lite0's 4.0 million parameters before the classifier, and represent
ImageNet's classes rather than images in general. The compact network keeps the stem and the first
thirteen blocks. Of the last block it keeps the part before the narrowing convolution, so that the
mean over the image is taken over many channels, which are either active or zero. It has under
1.8 million parameters with a 128-d embedding. See docs/decisions/0011-compact-is-cut-from-lite0.md.
"""

from __future__ import annotations

from torch import nn

from imgret.train.networks.efficientnet import InvertedResidual, lite_blocks

__all__ = ["compact_blocks"]

_KEPT = 14  # the stem and blocks 0 to 12


def compact_blocks() -> list[nn.Module]:
    """Return the blocks with Lite0's weights; the last one outputs 1152 channels."""
    blocks = lite_blocks(0)
    last = blocks[-2]
    assert isinstance(last, InvertedResidual)  # noqa: S101  # for the reader and the type checker
    return [*blocks[:_KEPT], nn.Sequential(last.expand, last.depthwise)]
