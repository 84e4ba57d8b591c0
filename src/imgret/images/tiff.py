"""TIFF decoder: the first page to uint8 RGB and alpha, a band of rows at a time.

`tiff_page` lists what can be decoded; `tiff_data` decompresses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imgret.errors import ImageCorruptError, ImageError
from imgret.images.tiff_data import take, unpack
from imgret.images.tiff_page import CMYK, PALETTE, RGB, WHITE, YCBCR, Page, read_page

__all__ = ["decode_tiff"]

_BAND_NUMBERS = 1 << 20  # limits the memory that NumPy needs beyond the image


def decode_tiff(
    data: bytes, *, path: Path | str | None = None, from_cmyk: Callable[[Any], Any] | None = None
) -> tuple[Any, Any | None]:
    """Decode the first page of a TIFF whose size has been checked.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : Path, optional
        Path to name in errors.
    from_cmyk : callable, optional
        Function that converts uint8 CMYK ``(rows, width, 4)``, 255 for full ink, to uint8 RGB
        ``(rows, width, 3)`` with a profile, or returns None if it cannot. By default each colour is
        what the inks leave of white paper, ``(255 - ink) * (255 - black) / 255``.

    Returns
    -------
    rgb : uint8 array of shape (height, width, 3)
        Pixels as stored, before the orientation is applied.
    alpha : uint8 array of shape (height, width), or None
        Straight or premultiplied as `alpha_band` says.

    Raises
    ------
    ImageUnsupportedError
        The TIFF is of a kind that is not decoded.
    ImageCorruptError
        The data are truncated or damaged, or the tags contradict each other.
    """
    try:
        page = read_page(data)
    except ImageError as error:
        raise type(error)(error.reason, path) from error
    except (struct.error, LookupError, ArithmeticError, ValueError) as error:
        raise ImageCorruptError("the TIFF header is damaged or cut short", path) from error
    rgb = np.empty((page.height, page.width, 3), np.uint8)
    alpha = np.empty((page.height, page.width), np.uint8) if page.has_alpha else None
    try:
        for top, samples in _bands(data, page):
            bottom = top + len(samples)
            if alpha is not None:
                alpha[top:bottom] = _to_8_bits(samples[:, :, -1:], page.bits)[:, :, 0]
                samples = samples[:, :, :-1]  # noqa: PLW2901  # of colour
            rgb[top:bottom] = _color(samples, page, from_cmyk)
    except ImageError as error:
        raise type(error)(error.reason, path) from error
    return rgb, alpha


def _bands(data: bytes, page: Page) -> Iterator[tuple[int, Any]]:
    """Yield the first row and the samples ``(rows, width, bands)`` of a few rows at a time."""
    view = memoryview(data)
    across, each = page.across, -(-page.chunk_height // page.unit[1])
    rows_in_band = max(1, _BAND_NUMBERS // (page.rows.width * page.rows.samples))
    # A row of tiles, or as many strips as make a band.
    step = across if across > 1 else max(1, rows_in_band // each)
    for start in range(0, len(page.planes[0]), step):
        stop = min(start + step, len(page.planes[0]))
        top = start // across * page.chunk_height
        total = each * (stop - start)
        if not page.is_tiled:  # the last strip may have fewer rows
            total = min(total, -(-(page.height - top) // page.unit[1]))
        planes = [page.planes[band] for band in page.bands] if len(page.planes) > 1 else page.planes
        unpacked = [
            unpack([view[at : at + size] for at, size in plane[start:stop]], page.rows, each, total)
            for plane in planes
        ]
        rows = total if across > 1 else rows_in_band
        for first in range(0, total, rows):
            last = min(first + rows, total)
            samples = _samples([take(part, first, last, page.rows) for part in unpacked], page)
            if across > 1:
                _, columns, channels = samples.shape
                tiles = samples.reshape(across, page.chunk_height, columns, channels)
                samples = tiles.swapaxes(0, 1).reshape(page.chunk_height, -1, channels)
            at = top + first * page.unit[1]
            if at < page.height:
                yield at, samples[: page.height - at, : page.width]


def _samples(planes: list[Any], page: Page) -> Any:
    """Convert bytes ``(rows, bytes)`` to numbers ``(rows, columns, bands)``."""
    if page.unit != (1, 1):
        return _subsampled(planes[0], page)
    found = []
    for packed in planes:
        shape = (len(packed), page.rows.width, page.rows.samples)
        if page.bits == 8:
            numbers = packed.reshape(shape)
        elif page.bits == 16:
            numbers = packed.view(page.order + "u2").astype(np.uint16, copy=False).reshape(shape)
        else:
            numbers = _bits(packed, shape[1] * shape[2], page.bits).reshape(shape)
        if page.is_predicted:
            numbers = np.cumsum(numbers, axis=1, dtype=numbers.dtype)
        found.append(numbers)
    if len(page.planes) > 1:
        return np.concatenate(found, axis=2)
    (numbers,) = found
    count = len(page.bands)
    return numbers[:, :, :count] if page.bands[-1] < count else numbers[:, :, page.bands]


def _bits(packed: Any, count: int, bits: int) -> Any:
    """Unpack numbers of ``bits`` bits, the highest first, from rows of bytes."""
    if bits == 1:
        return np.unpackbits(packed, axis=1, count=count)
    at = np.arange(count) * bits
    # A number lies within three bytes.
    padded = np.pad(packed, ((0, 0), (0, 2))).astype(np.uint32)
    three = padded[:, :-2] << 16 | padded[:, 1:-1] << 8 | padded[:, 2:]
    numbers = three[:, at // 8] >> (24 - bits - at % 8).astype(np.uint32) & (2**bits - 1)
    return numbers.astype(np.uint8 if bits < 8 else np.uint16)


def _subsampled(packed: Any, page: Page) -> Any:
    """Unpack YCbCr that is stored in blocks of several Y and one Cb and Cr."""
    across, down = page.unit
    blocks = packed.reshape(len(packed), -1, across * down + 2)
    shape = (len(packed), blocks.shape[1], down, across)
    y = blocks[:, :, :-2].reshape(shape).swapaxes(1, 2).reshape(len(packed) * down, -1)
    chroma = blocks[:, :, -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.dstack([y, chroma])[:, : page.rows.width]


def _to_8_bits(numbers: Any, bits: int) -> Any:
    if bits == 8:
        return numbers
    scaled = cv2.convertScaleAbs(np.ascontiguousarray(numbers), alpha=255 / (2**bits - 1))
    return scaled.reshape(numbers.shape)  # OpenCV drops a single channel


def _color(samples: Any, page: Page, from_cmyk: Callable[[Any], Any] | None) -> Any:
    """Convert colour samples to uint8 RGB."""
    if page.photometric == PALETTE:
        colors = np.array(page.palette, np.uint16).reshape(3, -1).T
        # Some writers store 8-bit values; libtiff accepts them, too.
        palette = colors.astype(np.uint8) if colors.max() < 256 else _to_8_bits(colors, 16)
        return palette[samples[:, :, 0]]
    samples = _to_8_bits(samples, page.bits)
    if page.photometric == YCBCR:
        return _from_ycbcr(samples, page)
    if page.photometric == CMYK:
        samples = np.ascontiguousarray(samples)
        converted = None if from_cmyk is None else from_cmyk(samples)
        if converted is not None:
            return converted
        paper = cv2.bitwise_not(samples)
        return cv2.multiply(paper[:, :, :3], np.repeat(paper[:, :, 3:], 3, axis=2), scale=1 / 255)
    if page.photometric == RGB:
        return samples
    grey = cv2.cvtColor(np.ascontiguousarray(samples), cv2.COLOR_GRAY2RGB)
    return cv2.bitwise_not(grey) if page.photometric == WHITE else grey


def _from_ycbcr(samples: Any, page: Page) -> Any:
    red, green, blue = page.luma
    low, high = np.array(page.levels, np.float32).reshape(3, 2).T
    scaled = (samples - low) / (high - low) * np.array([255, 127, 127], np.float32)
    y, cb, cr = np.moveaxis(scaled, 2, 0)
    r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
    g = (y - r * red - b * blue) / green
    return np.clip(np.rint(np.dstack([r, g, b])), 0, 255).astype(np.uint8)
