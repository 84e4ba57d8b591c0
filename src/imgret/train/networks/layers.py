"""Layers shared by the networks, and the embedding network built from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["ConvNorm", "EmbeddingNetwork"]


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and activation, padded so that only a stride shrinks.

    A convolution of stride 2 pads one pixel more at the right and bottom than at the left and top,
    as TensorFlow does for even inputs and as its weights expect.

    Parameters
    ----------
    channels_in, channels_out, kernel : int
    stride : {1, 2}
    groups : int
        ``channels_in`` for a depthwise convolution.
    activation : nn.Module, optional
    epsilon, momentum : float
        Parameters of the batch normalisation.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: nn.Module | None = None,
        epsilon: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        near = (kernel - stride) // 2
        far = kernel - stride - near
        self.padding = (near, far, near, far)
        symmetric = near == far
        self.conv: nn.Conv2d = nn.Conv2d(
            channels_in,
            channels_out,
            kernel,
            stride,
            near if symmetric else 0,
            groups=groups,
            bias=False,
        )
        self.pads = not symmetric
        self.norm: nn.Module = nn.BatchNorm2d(channels_out, eps=epsilon, momentum=momentum)
        self.activation: nn.Module = nn.Identity() if activation is None else activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        if self.pads:
            x = pad(x, self.padding)
        y: Tensor = self.activation(self.norm(self.conv(x)))
        return y

    def fold(self) -> None:
        """Fold the current batch normalisation into the convolution."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv.eval(), self.norm.eval())
            self.norm = nn.Identity()


class EmbeddingNetwork(nn.Module):
    """Blocks, mean over the image, dropout, linear map and batch normalisation.

    Parameters
    ----------
    blocks : sequence of nn.Module
        Blocks in order; the first one takes scaled pixels (n, 3, h, w). The last one may pool, that
        is, return (n, channels).
    channels : int
        Number of output channels of the last block.
    dim : int
        Length of the embedding.
    dropout : float
    freeze : int
        Number of first blocks that keep their weights. Their batch normalisation is folded, and
        no gradient is computed for them.
    dense : bool
        Whether the convolutions are dense. On a CPU these train faster in bfloat16, while the
        backward pass of depthwise convolutions is slower.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        channels: int,
        *,
        dim: int,
        dropout: float,
        freeze: int,
        dense: bool,
    ) -> None:
        super().__init__()
        self.frozen = nn.Sequential(*blocks[:freeze])
        self.trained = nn.Sequential(*blocks[freeze:])
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Linear(channels, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        self.dense = dense
        self.use_bfloat16 = True  # only applies to devices where it is fast
        fold(self.frozen)
        self.frozen.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Embed scaled pixels: (n, 3, h, w) to (n, dim)."""
        device = x.device.type
        half = self.use_bfloat16 and _has_bfloat16(device)
        if len(self.frozen):
            with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=half):
                x = self.frozen(x)
        half = half and (self.dense or device != "cpu")
        with torch.autocast(device, torch.bfloat16, enabled=half):
            x = self.trained(x if half else x.float())
        x = x.float()
        if x.ndim > 2:
            x = x.mean((2, 3))
        return self.norm(self.embedding(self.dropout(x)))  # type: ignore[no-any-return]  # a Tensor

    def train(self, mode: bool = True) -> EmbeddingNetwork:  # noqa: FBT001, FBT002  # torch's own
        """Switch between training and inference mode; frozen blocks stay in inference mode."""
        super().train(mode)
        self.frozen.eval()
        return self


def fold(module: nn.Module) -> None:
    """Fold every batch normalisation that follows a convolution."""
    for part in module.modules():
        if isinstance(part, ConvNorm):
            part.fold()


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters, including those of batch normalisation."""
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def _has_bfloat16(device: str) -> bool:
    if device == "cpu":
        # Older releases of torch do not have this function.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("bf16"))
    return device == "cuda" and torch.cuda.is_bf16_supported()
