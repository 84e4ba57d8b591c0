"""Resizing, cropping, drawing and encoding of images, for embedders, croppers and pages."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.support.checks import check_count
from imgret.types import Box, Image

__all__ = [
    "blur",
    "connected",
    "draw_box",
    "encode",
    "letterbox",
    "resample",
    "resize",
    "resize_center_crop",
    "sharpness",
    "thumbnail",
    "tint",
    "to_gray",
]

Map: TypeAlias = NDArray[np.float32]

# Least side of the result, in pixels, at which the remainder of a division into blocks is small.
_BLOCKS_FROM = 64

_Pixels = TypeVar("_Pixels", NDArray[np.uint8], NDArray[np.float32])


def resize(image: _Pixels, width: int, height: int) -> _Pixels:
    """Resize to ``width`` x ``height``, without keeping the aspect ratio.

    An axis that shrinks is averaged over whole blocks of pixels until it is less than twice its
    final length. The rest, and any enlargement, is interpolated linearly. Small images are averaged
    over exact areas instead. Neither method aliases; blocks are about four times as fast.

    Parameters
    ----------
    image : uint8 or float32 array of shape (H, W) or (H, W, C)
    width, height : int
        Size of the result in pixels, at least 1.

    Returns
    -------
    array of shape (height, width) or (height, width, C)
        Resized image of the same dtype; the same object if it already has the size.
    """
    width, height = check_count(width, "width"), check_count(height, "height")
    rows, columns = image.shape[:2]
    small = min(width, columns), min(height, rows)
    resized: Any = image
    if min(small) < _BLOCKS_FROM:
        if small != (columns, rows):
            resized = cv2.resize(resized, small, interpolation=cv2.INTER_AREA)
    elif (blocks := (columns // small[0], rows // small[1])) != (1, 1):
        # What does not fill a block at the far edge, less than 1/64 of the axis, is dropped.
        across, down = columns // blocks[0], rows // blocks[1]
        whole = resized[: down * blocks[1], : across * blocks[0]]
        resized = cv2.resize(whole, (across, down), interpolation=cv2.INTER_AREA)
    if resized.shape[:2] != (height, width):
        resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(height, width, *image.shape[2:])  # type: ignore[no-any-return]  # OpenCV drops an axis of one channel


def resample(
    image: Image,
    width: int,
    height: int,
    method: Literal["bilinear", "bicubic", "lanczos"],
    *,
    window: tuple[int, int, int, int] | None = None,
) -> Image:
    """Resize with a filter as wide as the reduction, as Pillow does it.

    Most published networks were trained on images that were resized this way, which is two to
    five times slower than `resize`.

    Parameters
    ----------
    image : uint8 array of shape (H, W, 3)
    width, height : int
        Size of the result in pixels, at least 1.
    method : {"bilinear", "bicubic", "lanczos"}
    window : tuple of int, optional
        Part ``(x0, y0, x1, y1)`` of the result that is wanted; the rest is not computed.

    Returns
    -------
    uint8 array of shape (height, width, 3), or of the window's
        The same object if all of it is wanted and the size is right already.
    """
    import PIL.Image  # noqa: PLC0415  # slow to import

    width, height = check_count(width, "width"), check_count(height, "height")
    rows, columns = image.shape[:2]
    x0, y0, x1, y1 = (0, 0, width, height) if window is None else window
    if (rows, columns) == (height, width):
        return image[y0:y1, x0:x1]
    filters = {
        "bilinear": PIL.Image.Resampling.BILINEAR,
        "bicubic": PIL.Image.Resampling.BICUBIC,
        "lanczos": PIL.Image.Resampling.LANCZOS,
    }
    if method not in filters:
        expected = ", ".join(map(repr, filters))
        raise InvalidInputError(f"method: expected one of {expected}, found {method!r}")
    across, down = columns / width, rows / height
    box = x0 * across, y0 * down, x1 * across, y1 * down
    resized = PIL.Image.fromarray(image).resize((x1 - x0, y1 - y0), filters[method], box=box)
    pixels: Image = np.asarray(resized)
    return pixels


def resize_center_crop(image: _Pixels, side: int, size: int) -> _Pixels:
    """Resize the shorter side to ``side``, then crop the ``size`` square in the middle.

    This is the usual test-time preprocessing of an image classifier. The crop is done first, which
    gives the same result up to rounding to whole pixels, but does not resize what is cut off: the
    cost does not depend on the aspect ratio.

    Parameters
    ----------
    image : uint8 or float32 array of shape (H, W) or (H, W, C)
    side, size : int
        Lengths in pixels, ``1 <= size <= side``.

    Returns
    -------
    array of shape (size, size) or (size, size, C)
        Image of the same dtype.
    """
    side, size = check_count(side, "side"), check_count(size, "size")
    if size > side:
        raise InvalidInputError(f"size: expected at most side = {side}, found {size}")
    rows, columns = image.shape[:2]
    seen = max(1, round(min(rows, columns) * size / side))
    top, left = (rows - seen) // 2, (columns - seen) // 2
    return resize(image[top : top + seen, left : left + seen], size, size)


def letterbox(image: Image, size: int, *, fill: int = 0) -> Image:
    """Resize the longer side to ``size`` and pad the shorter one, keeping the aspect ratio.

    Parameters
    ----------
    image : uint8 array of shape (H, W, 3)
    size : int
        Side of the result in pixels.
    fill : int
        Grey level of the padding, 0 to 255.

    Returns
    -------
    uint8 array of shape (size, size, 3)
        Resized image in the middle of the padding.
    """
    size = check_count(size, "size")
    rows, columns = image.shape[:2]
    scale = size / max(rows, columns)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    top, left = (size - height) // 2, (size - width) // 2
    padded = np.full((size, size, image.shape[2]), fill, dtype=np.uint8)
    padded[top : top + height, left : left + width] = resize(image, width, height)
    return padded


def thumbnail(image: Image, max_side: int) -> Image:
    """Shrink so that no side is longer than ``max_side`` pixels; never enlarge.

    Returns
    -------
    uint8 array of shape (h, w, 3)
        Image of the same aspect ratio; the same object if it is already small enough.
    """
    max_side = check_count(max_side, "max_side")
    rows, columns = image.shape[:2]
    scale = min(1.0, max_side / max(rows, columns))
    return resize(image, max(1, round(columns * scale)), max(1, round(rows * scale)))


def to_gray(image: Image) -> Map:
    """Return the luma (ITU-R BT.601) of an image.

    Returns
    -------
    float32 array of shape (H, W)
        From 0 (black) to 1 (white).
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.multiply(gray, np.float32(1 / 255), dtype=np.float32)


def sharpness(image: Image) -> float:
    """Return how sharp an image is: the variance of the Laplacian of its luma.

    Blurred and enlarged images have a low one (Pech-Pacheco et al., "Diatom Autofocusing in
    Brightfield Microscopy: A Comparative Study", ICPR 2000). Only images of the same subject can be
    compared by it.

    Parameters
    ----------
    image : uint8 array of shape (H, W, 3)

    Returns
    -------
    float
        At least 0, for grey levels from 0 to 255.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(gray, cv2.CV_32F).var())


def blur(array: Map, sigma: float) -> Map:
    """Smooth with a Gaussian, mirroring at the border.

    Parameters
    ----------
    array : float32 array of shape (H, W)
    sigma : float
        Standard deviation in pixels, above 0.

    Returns
    -------
    float32 array of shape (H, W)
    """
    if not 0 < sigma < math.inf:
        raise InvalidInputError(f"sigma: expected a finite number above 0, found {sigma!r}")
    blurred: Any = cv2.GaussianBlur(array, (0, 0), sigma)
    return blurred  # type: ignore[no-any-return]  # of the dtype it was given


def draw_box(
    image: Image, box: Box, *, color: tuple[int, int, int] = (255, 64, 64), thickness: int = 2
) -> Image:
    """Return a copy with the outline of ``box`` drawn inside it.

    Parameters
    ----------
    image : uint8 array of shape (H, W, 3)
    box : Box
        Box to draw; parts outside the image are not drawn.
    color : tuple of int
        RGB, 0 to 255.
    thickness : int
        Width of the line in pixels, at least 1.
    """
    thickness = check_count(thickness, "thickness")
    drawn = image.copy()
    x0, y0, x1, y1 = box.clip(image.shape[1], image.shape[0])
    drawn[y0:y1, x0:x1] = color
    inner = np.s_[y0 + thickness : y1 - thickness, x0 + thickness : x1 - thickness]
    if y1 - y0 > 2 * thickness and x1 - x0 > 2 * thickness:
        drawn[inner] = image[inner]
    return drawn


def connected(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Label the connected parts of a mask; pixels that touch at a corner are connected.

    Parameters
    ----------
    mask : bool array of shape (H, W)

    Returns
    -------
    int32 array of shape (H, W)
        Label of the part at each pixel, from 1; 0 outside the mask.
    """
    _, numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return np.asarray(numbers, dtype=np.int32)


def tint(
    image: Image, strength: Map, *, color: tuple[int, int, int] = (255, 64, 64), most: float = 0.6
) -> Image:
    """Return a copy with a colour mixed in, at a strength given for each pixel.

    Parameters
    ----------
    image : uint8 array of shape (H, W, 3)
    strength : float32 array of shape (H, W)
        Strength from 0 (image unchanged) to 1.
    color : tuple of int
        RGB, 0 to 255.
    most : float
        Share of the colour where the strength is 1, from 0 to 1.
    """
    if strength.shape != image.shape[:2]:
        raise InvalidInputError(
            f"strength: expected shape {image.shape[:2]}, as the image has, found {strength.shape}"
        )
    share = (np.clip(strength, 0, 1) * np.float32(most))[:, :, None]
    mixed = image * (1 - share) + np.array(color, dtype=np.float32) * share
    tinted: Image = np.rint(mixed).astype(np.uint8)
    return tinted


def encode(image: Image, format: Literal["jpeg", "png"] = "jpeg", *, quality: int = 85) -> bytes:  # noqa: A002  # the word that Pillow and others use
    """Encode an image.

    Parameters
    ----------
    image : uint8 array of shape (H, W, 3)
        RGB.
    format : {"jpeg", "png"}
    quality : int
        Quality of a JPEG, 1 to 100; ignored for PNG, which is lossless.

    Raises
    ------
    InvalidInputError
        The format is unknown, ``quality`` is out of range, or a JPEG would have a side of more than
        65500 pixels.
    """
    if format not in {"jpeg", "png"}:
        raise InvalidInputError(f"format: expected 'jpeg' or 'png', found {format!r}")
    if not 1 <= quality <= 100:
        raise InvalidInputError(f"quality: expected 1 to 100, found {quality!r}")
    height, width = image.shape[:2]
    if max(height, width) > 65_500 and format == "jpeg":
        raise InvalidInputError(
            f"image: expected at most 65500 pixels per side, the limit of JPEG, found "
            f"{width} x {height}; make a thumbnail first"
        )
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality] if format == "jpeg" else []
    _, data = cv2.imencode(f".{format}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)
    return data.tobytes()
