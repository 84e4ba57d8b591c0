"""A gallery of drawn flowers, to try imgret without images of your own.

Each image is a small scene: a background out of focus, flowers of one species in some
pose, light, and the marks of a camera. It depends only on the species, the seed and the size.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from imgret.demo.brush import UP, Pixels, shaded, stamp, stamp_petal
from imgret.demo.flowers import LEAF, SPECIES, Species
from imgret.errors import InvalidInputError, UnknownNameError
from imgret.images.transform import encode
from imgret.support.checks import check_count
from imgret.types import Image

__all__ = ["draw", "species", "write_gallery", "write_queries"]

_Matrix = NDArray[np.float64]

_SIDES = (320, 360, 400, 480, 560, 640)

# Colours of each background: top, bottom, blobs of light.
_BACKGROUNDS = (
    ((0.36, 0.55, 0.25), (0.16, 0.32, 0.12), (0.60, 0.75, 0.35)),  # meadow
    ((0.20, 0.30, 0.16), (0.08, 0.14, 0.07), (0.30, 0.45, 0.20)),  # wood
    ((0.45, 0.66, 0.92), (0.78, 0.87, 0.95), (0.97, 0.98, 1.00)),  # sky
    ((0.42, 0.31, 0.21), (0.25, 0.17, 0.11), (0.50, 0.40, 0.28)),  # soil
    ((0.82, 0.78, 0.70), (0.70, 0.65, 0.57), (0.90, 0.87, 0.80)),  # wall
    ((0.06, 0.07, 0.15), (0.03, 0.03, 0.06), (0.55, 0.45, 0.25)),  # night
    ((0.93, 0.62, 0.42), (0.45, 0.28, 0.38), (1.00, 0.85, 0.55)),  # dusk
)


def species() -> tuple[str, ...]:
    """Return the names of the species that can be drawn, in alphabetical order."""
    return tuple(SPECIES)


def draw(species: str, seed: int, *, size: tuple[int, int] | None = None) -> Image:
    """Draw an image of one or several flowers of a species.

    Parameters
    ----------
    species : str
        Name of a species, one of `species`.
    seed : int
        Seed of the image, at least 0.
    size : tuple of int, optional
        Width and height in pixels; by default chosen by the seed, from 320 to 640.

    Returns
    -------
    uint8 array of shape (H, W, 3)
        RGB.

    Raises
    ------
    UnknownNameError
        The species is unknown; the message lists the known ones.
    InvalidInputError
        ``seed`` is below 0 or ``size`` below 1.
    """
    rng = _generator(species, seed)
    if size is None:
        long, short = sorted(rng.choice(_SIDES, 2), reverse=True)
        short = max(short, round(long * 0.62))
        width, height = (long, short) if rng.random() < 0.6 else (short, long)
    else:
        width, height = (check_count(side, "size") for side in size)
    picture = _background(rng, int(width), int(height))
    _plant(rng, picture, SPECIES[species])
    return _photograph(rng, picture)


def write_gallery(directory: str | Path, *, per_species: int = 15, seed: int = 0) -> list[Path]:
    """Write a gallery of JPEG files, one folder per species: ``daisy/daisy-001.jpg``.

    Parameters
    ----------
    directory : path
        Folder to write into, created if missing. Files of the same names are overwritten.
    per_species : int
        Number of images of each species.
    seed : int
        Seed of the gallery, at least 0. Different seeds have no image in common.

    Returns
    -------
    list of Path
        The files, in order of species and number.
    """
    return _write(directory, "", per_species, seed, part=0)


def write_queries(directory: str | Path, *, per_species: int = 3, seed: int = 0) -> list[Path]:
    """Write images that are in no gallery: ``daisy/daisy-query-001.jpg``.

    Parameters and result are those of `write_gallery`.
    """
    return _write(directory, "query-", per_species, seed, part=1)


def _write(
    directory: str | Path, prefix: str, per_species: int, seed: int, part: int
) -> list[Path]:
    check_count(per_species, "per_species")
    _checked_seed(seed)
    paths = []
    for name in SPECIES:
        folder = Path(directory) / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(per_species):
            # Galleries take the even seeds and queries the odd ones.
            picture_seed = 2 * (seed * 1_000_000 + number) + part
            quality = int(_generator(name, picture_seed).integers(60, 96))
            path = folder / f"{name}-{prefix}{number + 1:03d}.jpg"
            path.write_bytes(encode(draw(name, picture_seed), quality=quality))
            paths.append(path)
    return paths


def _generator(name: str, seed: int) -> Generator:
    if name not in SPECIES:
        raise UnknownNameError(f"species: no {name!r}; known: {', '.join(SPECIES)}")
    return np.random.default_rng([zlib.crc32(name.encode()), _checked_seed(seed)])


def _checked_seed(seed: int) -> int:
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InvalidInputError(f"seed: expected a whole number of at least 0, found {seed!r}")
    return int(seed)


# -- the scene -------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Position of a head: its centre and width in pixels, its light and its sharpness."""

    x: float
    y: float
    size: float
    light: float
    sharpness: float


def _background(rng: Generator, width: int, height: int) -> Pixels:
    top, bottom, light = (
        np.clip(np.array(color) + rng.normal(size=3) * 0.04, 0, 1).astype(np.float32)
        for color in _BACKGROUNDS[rng.integers(len(_BACKGROUNDS))]
    )
    # It is out of focus, so a quarter of the pixels each way is enough.
    small = max(8, width // 4), max(8, height // 4)
    mix = np.linspace(0, 1, small[1], dtype=np.float32)[:, None, None]
    clouds = np.zeros(small[::-1], np.float32)
    for cells, strength in ((3, 0.5), (7, 0.3), (19, 0.2)):
        grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        clouds += strength * cv2.resize(grid, small, interpolation=cv2.INTER_CUBIC)
    canvas = (top + mix * (bottom - top)) * (1 + np.float32(0.30) * clouds[..., None])
    discs = np.zeros((*small[::-1], 1), np.float32)
    for _ in range(rng.integers(0, 22)):
        where = (int(rng.integers(small[0])), int(rng.integers(small[1])))
        radius = max(1, round(min(small) * rng.uniform(0.02, 0.12)))
        cv2.circle(discs, where, radius, rng.uniform(0.15, 0.6), -1, cv2.LINE_AA)
    canvas += discs * (light - canvas)
    blurred = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.8, 4.0)))
    large = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(large, np.float32)


def _plant(rng: Generator, picture: Pixels, kind: Species) -> None:
    """Draw the flowers, the far ones first."""
    height, width = picture.shape[:2]
    head = kind.draw_head(rng)
    heads = int(rng.integers(kind.heads[0], kind.heads[1] + 1))
    largest = min(height, width) * rng.uniform(*kind.size) * math.exp(rng.normal() * 0.25)
    for near in np.sort(np.append(rng.uniform(0.45, 0.85, heads - 1), 1.0)).tolist():
        reach = 0.34 if near < 1 else 0.12  # the nearest one stands close to the middle
        place = _Place(
            x=width * (0.5 + rng.uniform(-reach, reach)),
            y=height * (0.5 + rng.uniform(-reach, reach) * 0.8),
            size=largest * near,
            light=0.62 + 0.38 * near,
            sharpness=min(1.0, 0.2 + near * 0.9) if rng.random() < 0.5 else 1.0,
        )
        _flower(rng, picture, kind, head, place)


def _flower(rng: Generator, picture: Pixels, kind: Species, head: Pixels, place: _Place) -> None:
    side = head.shape[0]
    pose = _pose(rng, kind, side, place)
    foot = pose @ (side / 2, side * (0.97 if kind.upright else 0.5), 1)
    _stem(rng, picture, kind, foot[:2] / foot[2], place)

    # Shrunk close to the size it is shown at, so that nothing aliases.
    shown = min(side, max(16, round(place.size * 1.1)))
    texture = np.asarray(cv2.resize(head, (shown, shown), interpolation=cv2.INTER_AREA), np.float32)
    if place.sharpness < 1:
        texture = _blurred(texture, 0.3 + (1 - place.sharpness) * shown * 0.02)
    grow = np.diag([side / shown, side / shown, 1.0])
    _shadow(picture, texture, pose @ grow, place.size)
    stamp(picture, shaded(texture, place.light), pose @ grow)


def _shadow(picture: Pixels, texture: Pixels, matrix: _Matrix, size: float) -> None:
    """Darken what lies a little below and to the right of a texture."""
    margin = 12
    coarse = np.pad(texture[::4, ::4], ((margin, margin), (margin, margin), (0, 0)))
    to_texture = np.array([[4, 0, -4 * margin], [0, 4, -4 * margin], [0, 0, 1]])
    fall = np.array([[1, 0, size * 0.03], [0, 1, size * 0.05], [0, 0, 1]])
    dark = shaded(_blurred(coarse, 4.0), 0) * np.float32(0.28)
    stamp(picture, dark, fall @ matrix @ to_texture)


def _blurred(pixels: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.float32)


def _pose(rng: Generator, kind: Species, side: int, place: _Place) -> _Matrix:
    """Return the perspective that shows a head of ``side`` pixels at its place."""
    turn = rng.uniform(-math.pi, math.pi) if kind.sway is None else rng.normal() * kind.sway
    tilt = 1 - abs(rng.normal()) * (0.08 if kind.upright else 0.28)
    axis = 0.0 if kind.upright else rng.uniform(0, 2 * math.pi)
    scale = place.size / side
    lean = np.diag([scale, scale * max(tilt, 0.4), 1.0])
    lean[2, 1] = rng.normal() * 0.12 / side  # the near edge is larger
    to_middle = np.array([[1, 0, -side / 2], [0, 1, -side / 2], [0, 0, 1]])
    to_place = np.array([[1, 0, place.x], [0, 1, place.y], [0, 0, 1]])
    pose: _Matrix = to_place @ _rotation(turn - axis) @ lean @ _rotation(axis) @ to_middle
    return pose


def _rotation(angle: float) -> _Matrix:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _stem(rng: Generator, picture: Pixels, kind: Species, top: _Matrix, place: _Place) -> None:
    """Draw a stem from ``top`` down out of the image, and its leaves."""
    drop = picture.shape[0] * 1.1 - top[1]
    part = np.linspace(0, 1, 20)
    bend, drift = rng.normal(size=2) * place.size * 0.18
    curve = top + np.stack([drift * part + bend * np.sin(part * math.pi), drop * part], axis=1)
    green = np.array((0.28, 0.45, 0.18)) * place.light * rng.uniform(0.75, 1.2)
    thick = max(2, round(place.size * kind.stem))
    for width, shade, offset in ((thick, 0.7, 0.0), (max(1, thick // 2), 1.15, 0.2 * thick)):
        line = np.round((curve - (offset, 0)) * 16).astype(np.int32)
        color = (green * shade).tolist()
        cv2.polylines(
            picture,
            [line],
            isClosed=False,
            color=color,
            thickness=width,
            lineType=cv2.LINE_AA,
            shift=4,
        )
    lowest, highest = (4, 19) if kind.upright else (7, 16)
    for _ in range(rng.integers(1, 4)):
        x, y = curve[rng.integers(lowest, highest)].tolist()
        angle = UP + rng.choice([-1, 1]) * rng.uniform(0.25, 1.2)
        length, across = np.array(kind.leaf) * place.size * rng.uniform(0.7, 1.2, 2)
        shade = place.light * rng.uniform(0.65, 1.1)
        stamp_petal(picture, LEAF, (x, y), angle, (length, across), shade=shade)


def _photograph(rng: Generator, picture: Pixels) -> Image:
    """Add light and the marks of a camera."""
    height, width = picture.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    if rng.random() < 0.2:  # not quite in focus
        picture = _blurred(picture, rng.uniform(0.8, 2.2))
    angle = rng.uniform(0, 2 * math.pi)
    light = 1 + rng.uniform(0, 0.22) * (math.cos(angle) * x + math.sin(angle) * y)
    light = light * (1 - rng.uniform(0, 0.30) * (x**2 + y**2) / 2)  # vignette
    if rng.random() < 0.2:  # the edge of a shadow across the image
        edge = (math.cos(angle) * y - math.sin(angle) * x) * 9 + rng.uniform(-5, 5)
        light = light * (1 - 0.35 / (1 + np.exp(edge)))
    light = light * rng.uniform(0.75, 1.35)
    grain = rng.standard_normal((height, width), dtype=np.float32)
    grain *= np.float32(rng.uniform(0.003, 0.022) * 255)
    warm = rng.normal() * 0.08
    channels = [
        picture[..., channel] * (light * np.float32(255 * gain)) + grain
        for channel, gain in enumerate((1 + warm, 1.0, 1 - warm))
    ]
    return np.asarray(cv2.convertScaleAbs(np.maximum(cv2.merge(channels), 0)), np.uint8)
