"""The species of the sample gallery: the head and the growth of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from imgret.demo.brush import UP, Color, Head, Pixels, petal

__all__ = ["LEAF", "SPECIES", "Species"]


def _hue(rng: Generator, *choices: Color, spread: float = 0.05) -> NDArray[np.float64]:
    """Choose one of the colours and move it a little."""
    color = np.array(choices[rng.integers(len(choices))])
    return np.clip(color + rng.normal(size=3) * spread, 0, 1)


def _daisy(head: Head) -> None:
    color = _hue(head.rng, (0.97, 0.97, 0.98), (0.96, 0.72, 0.82), spread=0.02)
    texture = petal(color * (0.80, 0.82, 0.90), color, belly=0.45, point=0.18, turn=0.5)
    count = int(head.rng.integers(15, 22))
    head.ring(texture, count, 0.74, 0.24, start=0.2, shade=0.88)
    head.ring(texture, count, 0.68, 0.22, start=0.2, turn=math.pi / count)
    head.dome(0.27, (0.99, 0.85, 0.15), (0.93, 0.62, 0.05), seeds=90)


def _sunflower(head: Head) -> None:
    color = _hue(head.rng, (1.0, 0.80, 0.05), spread=0.03)
    texture = petal(color * (0.9, 0.55, 0.3), color, belly=0.5, point=0.55, veins=0.1, turn=0.6)
    count = int(head.rng.integers(17, 23))
    head.ring(texture, count, 0.62, 0.26, start=0.35, shade=0.82)
    head.ring(texture, count, 0.57, 0.24, start=0.35, turn=math.pi / count)
    head.dome(0.46, (0.30, 0.24, 0.08), (0.26, 0.12, 0.04), seeds=230)


def _poppy(head: Head) -> None:
    color = _hue(head.rng, (0.90, 0.10, 0.05), (0.97, 0.50, 0.10), (0.96, 0.78, 0.74))
    texture = petal(
        color * 0.8, color, belly=0.5, point=0.16, waves=0.03, rim=0.10, blotch=0.2, veins=0.05
    )
    turn = head.rng.uniform(0, math.pi)
    for half, shade in ((0.0, 0.85), (math.pi / 2, 1.0)):
        for angle in (turn + half, turn + half + math.pi):
            head.petal(texture, angle, 0.88, 1.38, shade=shade)
    for angle in head.rng.uniform(0, 2 * math.pi, 44):
        radius = head.rng.uniform(0.2, 0.33)
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        head.line([(0, 0), (x, y)], 0.012, (0.10, 0.06, 0.10))
        head.dot(x, y, 0.025, (0.13, 0.10, 0.13))
    head.dot(0, 0, 0.15, (0.35, 0.42, 0.20))
    for angle in np.arange(9) * 2 * math.pi / 9:
        ray = [(0, 0), (0.13 * math.cos(angle), 0.13 * math.sin(angle))]
        head.line(ray, 0.02, (0.20, 0.22, 0.10))


def _rose(head: Head) -> None:
    color = _hue(head.rng, (0.82, 0.07, 0.16), (0.97, 0.52, 0.62), (0.99, 0.84, 0.60))
    texture = petal(
        color * (0.55, 0.42, 0.45), color, belly=0.6, point=0.17, rim=0.16, veins=0.02, turn=1.2
    )
    turn = head.rng.uniform(0, math.pi)
    for ring in range(6):
        size = 0.94 * 0.76**ring
        count = 7 if ring < 2 else 5
        head.ring(texture, count, size, 6 * size / count, turn=turn, shade=1.0 - 0.035 * ring)
        turn += 0.66
    spiral = np.linspace(0, 4.5 * math.pi, 60)
    curl = np.stack([np.cos(spiral), np.sin(spiral)], axis=1) * (spiral * 0.012)[:, None]
    head.line(curl, 0.03, (color[0] * 0.5, color[1] * 0.4, color[2] * 0.42))


def _tulip(head: Head) -> None:
    color = _hue(head.rng, (0.90, 0.16, 0.14), (0.98, 0.75, 0.12), (0.72, 0.18, 0.50))
    texture = petal(
        color * 0.6 + (0.25, 0.22, 0.02), color, belly=0.45, point=0.42, turn=0.5, rim=0.1
    )
    foot = (0.0, 0.85)
    spread = head.rng.uniform(0.10, 0.24)
    for lean, width, shade in (
        (-0.5 * spread, 0.75, 0.64),
        (0.5 * spread, 0.75, 0.68),
        (-spread, 0.85, 0.92),
        (spread, 0.85, 0.86),
        (0.0, 0.78, 1.0),
    ):
        start = (foot[0] + lean, foot[1] - abs(lean) * 0.4)
        head.petal(texture, UP + lean, 1.6 - 0.2 * (not lean), width, start=start, shade=shade)


def _lavender(head: Head) -> None:
    color = _hue(head.rng, (0.48, 0.33, 0.78), (0.56, 0.40, 0.80), spread=0.03)
    texture = petal(color * 0.55, color * 1.12, belly=0.6, point=0.3)
    head.line([(0, 1), (0, -0.8)], 0.03, (0.40, 0.50, 0.30))
    whorls = int(head.rng.integers(9, 12))
    for whorl in range(whorls):
        height = 0.75 - 1.6 * whorl / whorls
        size = 0.30 * (1 - 0.45 * whorl / whorls)
        for lean in (-1.15, 1.15, -0.8, 0.8, -0.4, 0.4, 0.0):
            shade = head.rng.uniform(0.72, 1.12)
            head.petal(
                texture, UP + lean, size, size * 0.55, start=(lean * 0.03, height), shade=shade
            )


def _bluebell(head: Head) -> None:
    color = _hue(head.rng, (0.36, 0.40, 0.88), (0.42, 0.38, 0.85), spread=0.03)
    texture = petal(color * 0.7, color * 1.12, belly=0.25, point=0.32, veins=0.08, rim=0.14)
    curl = petal(color, color * 1.2, belly=0.5, point=0.5)
    side = int(head.rng.choice([-1, 1]))
    arc = np.linspace(0, 1, 24)
    stem = np.stack([side * (0.95 * arc**2.4 - 0.35), 1 - 1.9 * np.sin(arc * 1.7)], axis=1)
    head.line(stem, 0.05, (0.33, 0.47, 0.22))
    bells = int(head.rng.integers(6, 9))
    for bell in range(bells):
        x, y = stem[7 + round(16 * bell / (bells - 1))]
        out = side if bell % 2 else -side
        x_bell, y_bell = x + out * 0.16, y + 0.07
        head.line([(x, y), (x_bell, y_bell)], 0.025, (0.36, 0.40, 0.45))
        down = -UP - out * 0.25
        tip = (x_bell + 0.47 * math.cos(down), y_bell + 0.47 * math.sin(down))
        for lean in (-1.25, 1.25):
            head.petal(curl, down + lean, 0.2, 0.12, start=tip, shade=0.9)
        for lean, shade in ((-0.24, 0.85), (0.24, 0.85), (0.0, 1.05)):
            head.petal(texture, down + lean, 0.58, 0.28, start=(x_bell, y_bell), shade=shade)


def _lily(head: Head) -> None:
    color = _hue(head.rng, (0.98, 0.50, 0.10), (0.97, 0.62, 0.70), spread=0.03)
    texture = petal(
        color * 0.72 + 0.12, color, belly=0.75, point=0.62, spots=11, rim=0.16, veins=0.05
    )
    for turn, width, shade in ((0.0, 0.42, 0.88), (math.pi / 3, 0.52, 1.0)):
        head.ring(texture, 3, 0.98, width, turn=turn, shade=shade)
    head.dot(0, 0, 0.07, (0.55, 0.65, 0.20))
    for number in range(6):
        angle = number * math.pi / 3 + head.rng.normal() * 0.12 + 0.4
        x, y = 0.42 * math.cos(angle), 0.42 * math.sin(angle)
        head.line([(0, 0), (x, y)], 0.022, (0.80, 0.80, 0.45))
        along = (-0.06 * math.sin(angle), 0.06 * math.cos(angle))
        head.line(
            [(x - along[0], y - along[1]), (x + along[0], y + along[1])], 0.06, (0.35, 0.13, 0.05)
        )


def _orchid(head: Head) -> None:
    color = _hue(head.rng, (0.80, 0.30, 0.66), (0.95, 0.88, 0.94), spread=0.03)
    sepal = petal(color * 0.9, color, belly=0.6, point=0.4, veins=0.09)
    wing = petal(color * (0.85, 0.75, 0.85), color, belly=0.55, point=0.18, veins=0.10, turn=0.6)
    lip = petal((0.95, 0.75, 0.15), (0.70, 0.08, 0.42), belly=0.7, point=0.5, turn=0.35)
    for angle in (UP, -UP - 0.75, -UP + 0.75):
        head.petal(sepal, angle, 0.92, 0.55, shade=0.88)
    for angle in (-0.22, math.pi + 0.22):
        head.petal(wing, angle, 0.95, 1.1)
    for lean, length in ((-0.95, 0.30), (0.95, 0.30), (0.0, 0.48)):
        head.petal(lip, -UP + lean, length, 0.28, start=(0, 0.03))
    head.dot(0, -0.01, 0.075, (0.97, 0.90, 0.93))
    head.dot(0, 0.08, 0.045, (0.92, 0.70, 0.12))


def _daffodil(head: Head) -> None:
    color = _hue(head.rng, (0.99, 0.90, 0.25), (0.98, 0.96, 0.82), spread=0.02)
    texture = petal(color * (0.88, 0.82, 0.6), color, belly=0.6, point=0.38, veins=0.06, turn=0.6)
    for turn, shade in ((0.0, 0.86), (math.pi / 3, 1.0)):
        head.ring(texture, 3, 0.97, 0.66, turn=turn, shade=shade)
    orange = _hue(head.rng, (0.98, 0.60, 0.06), (0.98, 0.75, 0.10), spread=0.02)
    frill = petal(orange * (0.75, 0.6, 0.5), orange, belly=0.3, point=0.12, rim=0.15)
    head.ring(frill, 14, 0.42, 0.2)
    for step in range(8):
        part = step / 7
        head.dot(0, 0, 0.30 * (1 - 0.75 * part), orange * (0.88 - 0.45 * part))
    head.ring(petal((0.8, 0.7, 0.2), (0.99, 0.9, 0.4)), 5, 0.12, 0.05)


@dataclass(frozen=True, slots=True)
class Species:
    """Head and growth of a species.

    Attributes
    ----------
    head : callable
        Function that draws one head.
    upright : bool
        If true, the head is seen from the side, with the stem below it; otherwise from above,
        with the stem behind it.
    sway : float or None
        Standard deviation of its tilt from the vertical, in radians; None means any direction.
    heads : tuple of int
        Smallest and largest number of heads in an image.
    size : tuple of float
        Smallest and largest width of the main head, as a fraction of the shorter side.
    leaf : tuple of float
        Length and width of a leaf, as fractions of the head's size.
    stem : float
        Thickness of the stem, as a fraction of the head's size.
    """

    head: Callable[[Head], None]
    upright: bool = False
    sway: float | None = None
    heads: tuple[int, int] = (1, 3)
    size: tuple[float, float] = (0.5, 0.85)
    leaf: tuple[float, float] = (0.7, 0.25)
    stem: float = 0.05

    def draw_head(self, rng: Generator) -> Pixels:
        """Draw a head: float32 of shape (384, 384, 4)."""
        head = Head(rng)
        self.head(head)
        return head.pixels


SPECIES = {
    "bluebell": Species(_bluebell, upright=True, sway=0.14, heads=(2, 4), leaf=(1.0, 0.1)),
    "daffodil": Species(_daffodil, leaf=(1.1, 0.1)),
    "daisy": Species(_daisy, heads=(1, 6), size=(0.35, 0.75), leaf=(0.5, 0.16)),
    "lavender": Species(
        _lavender,
        upright=True,
        sway=0.14,
        heads=(5, 9),
        size=(0.55, 0.75),
        leaf=(0.5, 0.05),
        stem=0.022,
    ),
    "lily": Species(_lily, leaf=(0.8, 0.16)),
    "orchid": Species(_orchid, sway=0.3, heads=(2, 5), size=(0.4, 0.6), leaf=(0.8, 0.3)),
    "poppy": Species(_poppy, heads=(1, 4), leaf=(0.6, 0.14)),
    "rose": Species(_rose, heads=(1, 2), leaf=(0.6, 0.36)),
    "sunflower": Species(_sunflower, heads=(1, 3), size=(0.5, 0.9), leaf=(0.6, 0.42)),
    "tulip": Species(
        _tulip, upright=True, sway=0.14, heads=(1, 4), size=(0.4, 0.65), leaf=(1.3, 0.22)
    ),
}

LEAF = petal((0.20, 0.38, 0.14), (0.34, 0.55, 0.22), belly=0.5, point=0.65, veins=0.04)
