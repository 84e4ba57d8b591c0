"""Compositing of transparent images over a background."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from imgret.types import Image

__all__ = ["Alpha", "over_ground"]

Alpha: TypeAlias = Literal["straight", "premultiplied"]

# Levels of 255 by which an outline must differ from the background in some channel, at full
# opacity. `general` tells shapes of 248 from a background of 255 (cosine 0.48 to 0.67), those of
# 252 badly.
_NEAR = 24
# Share of the outline that may vanish in the background before another one is chosen.
_VANISHING = 0.25
_ENOUGH = 1 << 20  # pixels in which the outline is searched for
_BAND = 1 << 20  # pixels composited at a time
_WHITE, _GRAY, _BLACK = 255, 128, 0


def over_ground(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], kind: Alpha) -> Image:
    """Composite colour over a plain background.

    The background is white, like a page, unless more than a quarter of the outline would vanish in
    it, as with a white icon. Then it is mid-grey (128), or black if that hides less. The outline
    is where alpha changes, weighted by how much it changes and by how opaque the pixel is, so that
    the colour of fully transparent pixels never counts. It vanishes where every channel is within
    24 levels of the background. White, black and coloured shapes therefore stay distinguishable,
    and the same shape gets the same background at any scale.

    Parameters
    ----------
    rgb : uint8 array of shape (H, W, 3)
    alpha : uint8 array of shape (H, W)
        Opacity, from 0 (transparent) to 255 (opaque).
    kind : {"straight", "premultiplied"}
        Whether ``rgb`` has been multiplied by alpha.

    Returns
    -------
    uint8 array of shape (H, W, 3)
        ``rgb`` itself if every pixel is opaque.
    """
    alpha = np.ascontiguousarray(alpha)
    if alpha.min() == 255:
        return rgb
    level = _ground(rgb, alpha, kind)
    shown = np.empty(rgb.shape, np.uint8)
    rows = max(1, _BAND // alpha.shape[1])  # copies of a large image would fill memory
    for top in range(0, len(alpha), rows):
        band = slice(top, top + rows)
        weight: Any = cv2.cvtColor(alpha[band], cv2.COLOR_GRAY2RGB)
        color = _weighted(rgb[band], weight, kind)
        if level != _BLACK:
            through = cv2.bitwise_not(weight)  # the background shines through by 255 - alpha
            if level != _WHITE:
                through = cv2.convertScaleAbs(through, alpha=level / 255)
            color = cv2.add(color, through)
        shown[band] = color
    return shown


def _weighted(rgb: Any, weight: Any, kind: Alpha) -> Any:
    """Return colour multiplied by alpha, which is given for each channel."""
    return cv2.multiply(rgb, weight, scale=1 / 255) if kind == "straight" else rgb


def _ground(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], kind: Alpha) -> int:
    """Return the grey level of the background."""
    around: Any = cv2.morphologyEx(alpha, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    seen = cv2.min(around, alpha)
    for step in (1 + alpha.size // _ENOUGH, 1):  # some rows of a large image are enough
        rows, columns = np.nonzero(seen[::step])
        if len(rows):
            break
    else:  # nothing is visible, or nothing has an outline
        return _WHITE
    opacity = alpha[::step][rows, columns].astype(np.float32) / 255
    weight = around[::step][rows, columns] * opacity
    outline = np.ascontiguousarray(rgb[::step][rows, columns])
    of_each = np.repeat(alpha[::step][rows, columns][:, None], 3, axis=1)
    outline = _weighted(outline, of_each, kind).astype(np.float32)
    total = float(weight.sum())

    def hidden(level: int) -> float:
        contrast = np.abs(outline - level * opacity[:, None]).max(axis=1)
        return float(weight[contrast < _NEAR * opacity].sum()) / total

    for level in (_WHITE, _GRAY, _BLACK):
        if hidden(level) <= _VANISHING:
            return level
    return min((_WHITE, _GRAY, _BLACK), key=hidden)
