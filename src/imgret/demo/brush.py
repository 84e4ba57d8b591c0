"""Petals, and the brushes that put them onto a canvas.

Colours are float32 RGB between 0 and 1; textures and canvases are premultiplied RGBA.
Angles are in radians, 0 to the right, ``UP`` upwards.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

__all__ = ["UP", "Color", "Head", "Pixels", "petal", "shaded", "stamp", "stamp_petal"]

Pixels: TypeAlias = NDArray[np.float32]
Color: TypeAlias = tuple[float, float, float]

UP = -math.pi / 2
SIDE = 384  # of a head's canvas, in pixels
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def petal(
    base: ArrayLike,
    tip: ArrayLike,
    *,
    belly: float = 0.6,
    point: float = 0.4,
    veins: float = 0.06,
    turn: float = 1.0,
    rim: float = 0.0,
    spots: int = 0,
    waves: float = 0.0,
    blotch: float = 0.0,
) -> Pixels:
    """Draw the texture of a petal, its base at the bottom.

    Parameters
    ----------
    base, tip : colour
        Colours at the two ends.
    belly, point : float
        The outline is ``t**belly * (1 - t)**point`` for ``t`` from base to tip: a large
        ``belly`` narrows the base, a large ``point`` sharpens the tip.
    veins : float
        Strength of the lines along the petal.
    turn : float
        Position of the colour change: below 1 near the base, above 1 near the tip.
    rim : float
        Brightness along the edge.
    spots : int
        Number of dark freckles on the lower half.
    waves : float
        Strength of the crinkles of the outline.
    blotch : float
        Length of a dark blotch at the base, as a fraction of the petal.

    Returns
    -------
    float32 array of shape (128, 72, 4)
    """
    height, width = 128, 72
    t = np.linspace(1.02, -0.02, height, dtype=np.float32)[:, None]
    s = np.linspace(-1.05, 1.05, width, dtype=np.float32)[None]
    inside = np.clip(t, 0, 1)
    if waves:
        inside = np.clip(inside * (1 + waves * (np.cos(9 * s) + np.cos(23 * s + 1))), 0, 1)
    peak = belly / (belly + point)
    outline = inside**belly * (1 - inside) ** point / (peak**belly * (1 - peak) ** point)
    gap = outline - np.abs(s)
    alpha = np.clip(gap * width / 3, 0, 1) * ((t >= 0) & (t <= 1))
    across = s / np.maximum(outline, 0.05)
    blend = np.clip(t, 0, 1) ** turn
    color = np.asarray(base, np.float32) + blend[..., None] * np.subtract(tip, base)
    light = 0.94 + veins * np.cos(across * 17) * (1 - blend / 2) - 0.10 * across**2
    light = light - 0.16 * np.exp(-((across * 7) ** 2)) * (1 - t)  # the groove in the middle
    light = light + rim * np.clip(1 - gap * 9, 0, 1) - 0.25 * np.clip(0.25 - t, 0, 1)
    if blotch:
        light = light * (1 - 0.93 / (1 + np.exp((t - blotch) * 30 - 2 * np.cos(5 * s))))
    texture = np.dstack([color * light[..., None], np.ones_like(light)]).astype(np.float32)
    for spot in range(spots):
        x = math.sin(spot * 2.4) * 0.55 * width / 2 + width / 2
        y = height * (0.93 - 0.55 * (spot + 1) / spots)
        dark = (0.30, 0.05, 0.04, 1.0)
        cv2.circle(texture, (round(x * 8), round(y * 8)), 14, dark, -1, cv2.LINE_AA, 3)
    return np.clip(texture, 0, 1) * np.float32(alpha[..., None])


def stamp(canvas: Pixels, texture: Pixels, matrix: NDArray[np.float64]) -> None:
    """Lay a texture over a canvas of RGBA or RGB, in place.

    ``matrix`` of shape (3, 3) maps points of the texture to points of the canvas, in pixels.
    """
    rows, columns = texture.shape[:2]
    corners = matrix @ np.array([[0, columns, columns, 0], [0, 0, rows, rows], [1, 1, 1, 1]])
    corners = corners[:2] / corners[2]
    size = canvas.shape[1::-1]
    x0, y0 = np.clip(np.floor(corners.min(axis=1)), 0, size).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(corners.max(axis=1)) + 1, 0, size).astype(int).tolist()
    if x0 >= x1 or y0 >= y1:
        return
    moved = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]]) @ matrix
    piece = cv2.warpPerspective(texture, moved, (x1 - x0, y1 - y0))
    area = canvas[y0:y1, x0:x1]
    area *= cv2.merge([1 - piece[..., 3]] * canvas.shape[2])  # far faster than broadcasting
    area += piece if canvas.shape[2] == 4 else cv2.cvtColor(piece, cv2.COLOR_RGBA2RGB)


def stamp_petal(
    canvas: Pixels,
    texture: Pixels,
    start: tuple[float, float],
    angle: float,
    size: tuple[float, float],
    *,
    shade: float = 1.0,
) -> None:
    """Lay a petal over a canvas: from ``start`` along ``angle``, ``size`` long and wide.

    Positions and sizes are in pixels; ``shade`` scales the brightness.
    """
    rows, columns = texture.shape[:2]
    along = np.array([math.cos(angle), math.sin(angle)]) * size[0] / rows
    across = np.array([-math.sin(angle), math.cos(angle)]) * size[1] / columns
    matrix = np.eye(3)
    matrix[:2, 0] = across
    matrix[:2, 1] = -along
    matrix[:2, 2] = np.array(start) + along * rows - across * columns / 2
    stamp(canvas, shaded(texture, shade), matrix)


def shaded(texture: Pixels, shade: float) -> Pixels:
    """Return the texture with its brightness scaled."""
    return np.asarray(cv2.multiply(texture, np.array((shade, shade, shade, 1.0))), np.float32)


class Head:
    """A canvas of one flower head, 384 x 384 pixels, that spans -1..1 both ways, y downwards."""

    def __init__(self, rng: Generator) -> None:
        self.pixels: Pixels = np.zeros((SIDE, SIDE, 4), np.float32)
        self.rng = rng

    def petal(
        self,
        texture: Pixels,
        angle: float,
        length: float,
        width: float,
        *,
        start: tuple[float, float] = (0.0, 0.0),
        shade: float = 1.0,
    ) -> None:
        """Lay a petal from ``start`` along ``angle``, each one a little different."""
        jitter = self.rng.normal(size=4) * (0.03, 0.04, 0.05, 0.04)
        stamp_petal(
            self.pixels,
            texture,
            ((start[0] + 1) * SIDE / 2, (start[1] + 1) * SIDE / 2),
            angle + jitter[0],
            (length * (1 + jitter[1]) * SIDE / 2, width * (1 + jitter[2]) * SIDE / 2),
            shade=shade * (1 + jitter[3]) * (1 + 0.07 * math.cos(angle + 2.2)),
        )

    def ring(
        self,
        texture: Pixels,
        count: int,
        length: float,
        width: float,
        *,
        start: float = 0.0,
        turn: float = 0.0,
        shade: float = 1.0,
    ) -> None:
        """Lay petals in a circle, each starting ``start`` away from the centre."""
        for number in self.rng.permutation(count):
            angle = turn + 2 * math.pi * number / count
            where = (math.cos(angle) * start, math.sin(angle) * start)
            self.petal(texture, angle, length, width, start=where, shade=shade)

    def dot(self, x: float, y: float, radius: float, color: ArrayLike) -> None:
        """Draw a filled circle."""
        center = (round((x + 1) * SIDE * 8), round((y + 1) * SIDE * 8))
        red, green, blue = np.clip(color, 0, 1).tolist()
        cv2.circle(
            self.pixels,
            center,
            round(radius * SIDE * 8),
            (red, green, blue, 1.0),
            -1,
            cv2.LINE_AA,
            4,
        )

    def line(self, points: ArrayLike, width: float, color: Color) -> None:
        """Draw a line through points of shape (n, 2)."""
        dots = np.round((np.asarray(points) + 1) * SIDE * 8).astype(np.int32)
        thickness = max(1, round(width * SIDE / 2))
        cv2.polylines(
            self.pixels,
            [dots],
            False,
            (*color, 1.0),
            thickness,
            cv2.LINE_AA,
            4,
        )

    def dome(self, radius: float, inner: Color, outer: Color, *, seeds: int) -> None:
        """Draw a round centre with its seeds in a sunflower spiral."""
        self.dot(0, 0, radius, np.multiply(outer, 0.7))
        for seed in range(seeds, 0, -1):
            part = math.sqrt(seed / seeds)
            x, y = (part * radius * wave(seed * GOLDEN_ANGLE) for wave in (math.cos, math.sin))
            color = np.add(inner, part * np.subtract(outer, inner))
            light = self.rng.uniform(0.8, 1.15) * (1 - 0.25 * (x + y) / radius)
            self.dot(x, y, 0.9 * radius / math.sqrt(seeds), color * light)
