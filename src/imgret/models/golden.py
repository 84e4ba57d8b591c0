"""Test images drawn with integer formulas: the same bytes on every machine."""

from __future__ import annotations

import numpy as np

from imgret.errors import UnknownNameError
from imgret.types import Image

__all__ = ["draw"]


def draw(name: str, size: int) -> Image:
    """Draw a test image.

    Parameters
    ----------
    name : {"golden-1"}
        Name of the image. Its formula is never changed; a better one gets a new name.
    size : int
        Side in pixels.

    Returns
    -------
    uint8 array of shape (size, size, 3)
        RGB.
    """
    if name != "golden-1":
        raise UnknownNameError(f"golden image: no {name!r}; known: golden-1")
    # Coordinates in 1/256 of the side, so that every size shows the same scene.
    y, x = np.mgrid[:size, :size].astype(np.int64) * 256 // size
    # Sky over ground, a flower of two rings, and a fence: edges, colours and a texture.
    red, green, blue = 90 + x // 4, 140 + y // 4, 255 - y // 2
    ground = y > 168
    texture = (x * 7 + y * 13 + (x * y) // 16) % 32
    red = np.where(ground, 70 + texture, red)
    green = np.where(ground, 100 + y // 4 - texture, green)
    blue = np.where(ground, 40 + texture // 2, blue)
    distance = (x - 120) ** 2 + (y - 104) ** 2
    petals = (distance < 72**2) & (((x - 120) * (y - 104)) // 256 % 3 != 1)
    core = distance < 24**2
    fence = ground & (x % 40 < 10)
    for mask, color in ((petals, (214, 40, 96)), (core, (250, 204, 60)), (fence, (176, 132, 92))):
        red, green, blue = (
            np.where(mask, level - distance // 512 % 24, channel)
            for level, channel in zip(color, (red, green, blue), strict=True)
        )
    return np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8)
