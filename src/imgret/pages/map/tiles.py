"""Small images of many items, packed into a few large JPEGs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from imgret import images
from imgret.errors import ImgretError
from imgret.files import ItemFile
from imgret.types import Image, Json

__all__ = ["MOST_TILES", "read", "sheets"]

MOST_TILES = 20_000
_MOST_PREVIEWS = 2_000
_PREVIEW = 160
# Up to so many images, the side of a tile. JPEG encodes blocks of 16 pixels: with a multiple of
# 16, no tile bleeds into its neighbour.
_SIDES = ((5_000, 96), (10_000, 64), (MOST_TILES, 48))
_SHEET = 2048


class Tile(NamedTuple):
    """A small image, and a larger one as JPEG; either is None if there is none."""

    pixels: Image | None
    preview: bytes | None


def read(files: Sequence[ItemFile | None], *, threads: int, max_pixels: int) -> Iterator[Tile]:
    """Read images in parallel, in order; one that cannot be read does not stop the others.

    Parameters
    ----------
    files : sequence of ItemFile or None
        At most `MOST_TILES` files.
    threads : int
    max_pixels : int
        Images with more pixels are not read.
    """
    side = _side(len(files))
    previewed = len(files) <= _MOST_PREVIEWS
    least = _PREVIEW if previewed else side

    def one(file: ItemFile | None) -> Tile:
        if file is None:
            return Tile(None, None)
        try:
            image, _ = images.decode(
                file.read(), path=file.path, max_pixels=max_pixels, min_side=least
            )
        except ImgretError:
            return Tile(None, None)
        image = images.thumbnail(image, least)
        preview = images.encode(image, "jpeg", quality=75) if previewed else None
        return Tile(images.thumbnail(image, side), preview)

    with ThreadPoolExecutor(threads, thread_name_prefix="imgret") as pool:
        yield from pool.map(one, files)


def sheets(tiles: Iterable[Tile], n: int) -> Json:
    """Pack tiles into sheets.

    Parameters
    ----------
    tiles : iterable of Tile
    n : int
        Number of tiles, which sets their size.

    Returns
    -------
    dict
        ``side`` and ``columns`` of the sheets; ``sheets`` and ``previews``, JPEGs in base64; and
        for each tile ``[width, height]`` in ``sizes``, of 0 if there is no image.
    """
    side = _side(n)
    columns = _SHEET // side
    packed: list[str] = []
    sizes: list[list[int]] = []
    previews: list[str | None] = []
    sheet = np.zeros((0, 0, 3), np.uint8)
    for number, tile in enumerate(tiles):
        place = number % columns**2
        if place == 0:
            if number:
                packed.append(_jpeg(sheet))
            rows = min(columns, -(-(n - number) // columns))
            sheet = np.zeros((rows * side, columns * side, 3), np.uint8)
        sizes.append(
            _put(sheet, tile.pixels, place // columns * side, place % columns * side, side)
        )
        if n <= _MOST_PREVIEWS:
            previews.append(None if tile.preview is None else _base64(tile.preview))
    if sizes:
        packed.append(_jpeg(sheet))
    return {
        "side": side,
        "columns": columns,
        "sheets": packed if any(width for width, _ in sizes) else [],
        "sizes": sizes,
        "previews": previews,
    }


def _side(n: int) -> int:
    return next(side for most, side in _SIDES if n <= most)


def _put(sheet: Image, pixels: Image | None, top: int, left: int, side: int) -> list[int]:
    """Put a tile into its cell; return its width and height."""
    if pixels is None:
        return [0, 0]
    height, width = pixels.shape[:2]
    # The border is repeated, as JPEG would mix the edge with whatever lies beside it.
    margin = ((0, side - height), (0, side - width), (0, 0))
    sheet[top : top + side, left : left + side] = np.pad(pixels, margin, mode="edge")
    return [width, height]


def _jpeg(sheet: Image) -> str:
    return _base64(images.encode(sheet, "jpeg", quality=75))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
