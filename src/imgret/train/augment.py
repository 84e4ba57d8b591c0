"""Augmentation of whole batches on the device of the network."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from imgret.train.schedule import Augmentation

__all__ = ["augment", "mix"]

_GREY = 127.0
# Share of red, green and blue in the luma (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)
_HUE_TURN = 2 * math.pi / 10


def augment(pixels: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Rotate, recolour and partly erase images, at random for each image.

    Parameters
    ----------
    pixels : float tensor of shape (n, 3, h, w), channels last in memory
        Values from 0 to 255. The tensor is not modified.
    how : Augmentation
    generator : torch.Generator
        Generator on the CPU, whatever the device of the pixels.
    """
    if how.turn:
        pixels = _turn(pixels, how.turn, generator)
    if how.color:
        pixels = _recolor(pixels, how.color, generator)
    if how.erase:
        pixels = _erase(pixels, how.erase, generator)
    return pixels


def mix(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Mix each image with another one of the batch, as a whole or in a rectangle.

    Returns
    -------
    pixels : Tensor
    partner : int64 tensor of shape (n,)
        Row of the image that each was mixed with.
    share : float
        Share of the original image.
    """
    n, _, rows, columns = pixels.shape
    partner = torch.randperm(n, generator=generator)
    share = float(torch.rand((), generator=generator))
    other = pixels[partner.to(pixels.device)]
    if torch.rand((), generator=generator) < 0.5:
        return share * pixels + (1 - share) * other, partner, share
    height, width = (max(1, round(side * math.sqrt(1 - share))) for side in (rows, columns))
    top = int(torch.randint(rows - height + 1, (), generator=generator))
    left = int(torch.randint(columns - width + 1, (), generator=generator))
    pixels = pixels.clone()
    window = (..., slice(top, top + height), slice(left, left + width))
    pixels[window] = other[window]
    return pixels, partner, 1 - height * width / (rows * columns)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _recolor(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Multiply the colours of each image by its own random matrix."""
    n = len(pixels)
    bright, contrast, saturation = (
        _uniform(n, 1 - strength, 1 + strength, generator)[:, None, None] for _ in range(3)
    )
    angle = _uniform(n, -strength, strength, generator) * _HUE_TURN
    luma = torch.tensor(_LUMA).expand(3, 3)
    # Rotation around the grey axis (Rodrigues' formula).
    axis = torch.full((3,), 1 / math.sqrt(3))
    cross = torch.linalg.cross(torch.eye(3), axis.expand(3, 3))
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    hue = cosine * torch.eye(3) + sine * cross + (1 - cosine) * torch.outer(axis, axis)
    matrix = (bright * contrast) * (saturation * torch.eye(3) + (1 - saturation) * luma) @ hue
    offset = (1 - contrast) * bright * _GREY
    matrix, offset = matrix.to(pixels.device), offset.to(pixels.device)
    rows = pixels.permute(0, 2, 3, 1).reshape(n, -1, 3)
    changed = torch.baddbmm(offset, rows, matrix.transpose(1, 2)).clamp_(0, 255)
    return changed.reshape(n, *pixels.shape[2:], 3).permute(0, 3, 1, 2)


def _turn(pixels: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Rotate and shear each image with probability 0.5."""
    chosen = torch.nonzero(torch.rand(len(pixels), generator=generator) < 0.5).ravel()
    if not len(chosen):
        return pixels
    most = math.radians(degrees)
    angle = _uniform(len(chosen), -most, most, generator)
    shear = _uniform(len(chosen), -most / 2, most / 2, generator).tan()
    matrix = torch.zeros(len(chosen), 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = angle.cos(), shear - angle.sin()
    matrix[:, 1, 0], matrix[:, 1, 1] = angle.sin(), angle.cos()
    rows = chosen.to(pixels.device)
    shape = [len(chosen), *pixels.shape[1:]]
    grid = affine_grid(matrix.to(pixels.device), shape, align_corners=False)
    turned = grid_sample(pixels[rows], grid, padding_mode="reflection", align_corners=False)
    pixels = pixels.clone()
    pixels[rows] = turned
    return pixels


def _erase(pixels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Paint grey rectangles (Z. Zhong et al., "Random Erasing", 2020)."""
    n, _, rows, columns = pixels.shape
    pixels = pixels.clone()
    for row in torch.nonzero(torch.rand(n, generator=generator) < share).ravel().tolist():
        part = math.sqrt(float(_uniform(1, 0.05, 0.25, generator)))
        height, width = max(1, round(rows * part)), max(1, round(columns * part))
        top = int(torch.randint(rows - height + 1, (), generator=generator))
        left = int(torch.randint(columns - width + 1, (), generator=generator))
        pixels[row, :, top : top + height, left : left + width] = _GREY
    return pixels
