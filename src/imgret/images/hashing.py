"""Perceptual hash of an image: 64 bits, nearly all of which copies have in common."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imgret.types import Image

__all__ = ["HASH_BYTES", "hash_array", "inside_border", "perceptual_hash", "turned_hashes"]

HASH_BYTES = 8

_LINES = 128  # rows and columns that are read, less than twice as many
_SIDE = 128  # pixels a side at which a border is looked for
_SMALL = 32  # pixels a side of what is transformed
_HIGHEST = 10  # highest sum of a vertical and a horizontal frequency
_FLAT = 10  # grey levels within which a border is of one colour
_LEAST = 0.5  # least share of the height and of the width that is left without the border


def _frequencies() -> NDArray[np.int64]:
    """Return the 64 lowest pairs of frequencies without that of the mean: shape (64, 2)."""
    pairs = [
        (down, across)
        for down in range(_HIGHEST + 1)
        for across in range(_HIGHEST + 1 - down)
        if down + across > 0 and (down, across) != (_HIGHEST // 2, _HIGHEST // 2)  # 65 without it
    ]
    return np.array(sorted(pairs, key=lambda pair: (sum(pair), pair)), dtype=np.int64)


_DOWN, _ACROSS = _frequencies().T
# Where the bit of the pair with its frequencies exchanged is.
_EXCHANGED = np.array(
    [
        np.flatnonzero((across == _DOWN) & (down == _ACROSS))[0]
        for down, across in zip(_DOWN, _ACROSS, strict=True)
    ]
)


def perceptual_hash(image: Image) -> bytes:
    """Return the perceptual hash of an image.

    A bit is the sign of a coefficient of the discrete cosine transform of the image, made grey
    and 32 pixels wide and high, at one of the 64 lowest frequencies (after Zauner,
    "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010; there, a bit tells
    whether a coefficient is above the median of an 8 x 8 block). A border of one colour is left
    out first. Copies at another size or quality, or in other light, differ in few of the bits;
    different photos differ in about half of them.

    As the bits are signs, the hash of the mirrored or turned image follows from the hash: see
    `turned_hashes`.

    Parameters
    ----------
    image : uint8 array of shape (H, W, 3)

    Returns
    -------
    bytes
        8 bytes.
    """
    # Of a large image some lines are enough: what is transformed are means of many pixels. The
    # luma (BT.601) is computed here, as OpenCV would wake threads for it, which costs more.
    down, across = (max(1, side // _LINES) for side in image.shape[:2])
    red, green, blue = (image[::down, ::across, n].astype(np.uint16) for n in range(3))
    gray = ((77 * red + 150 * green + 29 * blue) >> 8).astype(np.uint8)
    square = np.asarray(cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    small = cv2.resize(
        square[inside_border(square)], (_SMALL, _SMALL), interpolation=cv2.INTER_AREA
    )
    spectrum = cv2.dct(small.astype(np.float32))
    return np.packbits(spectrum[_DOWN, _ACROSS] > 0).tobytes()


def hash_array(hashes: list[bytes]) -> NDArray[np.uint8]:
    """Return hashes as an array of shape (n, 8)."""
    return np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, HASH_BYTES)


def turned_hashes(hashes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the hashes of images mirrored and turned by quarters.

    Mirroring changes the sign of every odd frequency across, flipping that of every odd frequency
    down, and exchanging rows and columns exchanges the frequencies of a pair.

    Parameters
    ----------
    hashes : uint8 array of shape (n, 8)

    Returns
    -------
    uint8 array of shape (8, n, 8)
        Hashes of the images: as they are, mirrored, upside down, turned by 180 degrees; and the
        same four with rows and columns exchanged first.
    """
    bits = np.unpackbits(hashes, axis=1)
    mirrored, flipped = (_ACROSS % 2).astype(np.uint8), (_DOWN % 2).astype(np.uint8)
    signs = [np.zeros_like(mirrored), mirrored, flipped, mirrored ^ flipped]
    return np.packbits(
        np.stack([kind ^ sign for kind in (bits, bits[:, _EXCHANGED]) for sign in signs]), axis=2
    )


def inside_border(gray: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Return the rows and columns inside a border of one colour; all if little is left of it."""
    every = slice(0, gray.shape[0]), slice(0, gray.shape[1])
    edges = (gray[0], gray[-1], gray[:, 0], gray[:, -1])
    if all(int(edge.max()) - int(edge.min()) > _FLAT for edge in edges):  # as in most photos
        return every
    rows = _inside(gray.min(axis=1).astype(int), gray.max(axis=1).astype(int))
    columns = _inside(gray.min(axis=0).astype(int), gray.max(axis=0).astype(int))
    inner = gray[rows, columns].shape
    enough = all(left >= _LEAST * side for left, side in zip(inner, gray.shape, strict=True))
    return (rows, columns) if enough else every


def _inside(low: NDArray[np.int64], high: NDArray[np.int64]) -> slice:
    """Return the lines between those at both ends that are of one grey level."""
    ends = []
    for step in (1, -1):
        least = np.minimum.accumulate(low[::step])
        most = np.maximum.accumulate(high[::step])
        width = int((most - least <= _FLAT).sum())
        ends.append(width + 1 if width else 0)  # the next line is a mixture of both
    return slice(ends[0], len(low) - ends[1])
