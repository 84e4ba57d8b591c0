"""Loading of images from paths, bytes, file objects, arrays and PIL images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imgret.errors import (
    ImageCorruptError,
    ImageUnsupportedError,
    InvalidInputError,
)
from imgret.files import Url, is_url, read_bytes
from imgret.images.color import cmyk_to_srgb, to_srgb
from imgret.images.decoding import MAX_PIXELS, check_size, decode, orient
from imgret.images.exif import ORIENTATION
from imgret.images.ground import over_ground
from imgret.support.checks import check_count
from imgret.types import Image, ImageLike

__all__ = ["load", "read"]


def load(source: ImageLike, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Image:
    """Load an image from a path, bytes, a file object, an array or a PIL image.

    Parameters
    ----------
    source : path, bytes, binary file object, array or PIL image
        Image to load; a path as in `read`. A file object is read from its current position to its
        end. An array must be uint8: RGB ``(H, W, 3)``, grey ``(H, W)`` or ``(H, W, 1)``, or RGBA
        ``(H, W, 4)``.
        Transparent images are composited as in `decode`, and a PIL image's profile is applied.
    max_pixels, min_side
        As in `decode`; ``min_side`` is for encoded images only.

    Returns
    -------
    uint8 array of shape (H, W, 3)
        RGB, C-contiguous, EXIF orientation applied. An array that already has this form is
        returned itself, not a copy.

    Raises
    ------
    ImageError
        As in `read` and `decode`.
    InvalidInputError
        ``source`` is of a type that cannot hold an image, or an array of another dtype or shape.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Url(source) if is_url(source) else Path(source)
        return decode(read(path), path=path, max_pixels=max_pixels, min_side=min_side).image
    if isinstance(source, np.ndarray):
        return _from_array(source)
    data = encoded(source)
    if data is not None:
        return decode(data, max_pixels=max_pixels, min_side=min_side).image
    if _is_pil(source):
        return _from_pil(source, max_pixels)
    raise InvalidInputError(
        f"source: expected a path, bytes, a binary file object, a uint8 array or a PIL image, "
        f"found {type(source).__name__}"
    )


def encoded(source: Any) -> bytes | None:
    """Return the contents of a buffer or a file object; None for any other source.

    Raises
    ------
    InvalidInputError
        The file is opened in text mode.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if (
        isinstance(source, np.ndarray)
        or _is_pil(source)
        or not callable(getattr(source, "read", None))
    ):
        return None
    data = source.read()
    if not isinstance(data, bytes):
        raise InvalidInputError(
            f"source: expected a file opened in binary mode, found one that reads "
            f"{type(data).__name__}; open it with mode 'rb'"
        )
    return data


def _is_pil(source: Any) -> bool:
    return callable(getattr(source, "convert", None)) and callable(getattr(source, "getexif", None))


def read(path: str | os.PathLike[str]) -> bytes:
    """Return the contents of an image file.

    Parameters
    ----------
    path : path
        A file, a member of an archive (``photos.zip/2019/a.jpg``), or an address
        (``s3://bucket/a.jpg``), which needs the extra ``imgret[remote]``.

    Raises
    ------
    ImageNotFoundError
        The file does not exist, is a directory or cannot be read.
    ImageCorruptError
        The file is empty, or damaged in its archive.
    ImageTooLargeError, ImageUnsupportedError
        The member of an archive unpacks to far more than an image would, or is encrypted.
    MissingExtraError
        The path is an address, and what reads addresses is not installed.
    """
    return read_bytes(path)


def _from_array(array: Any) -> Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    if (
        array.dtype != np.uint8
        or array.ndim not in {2, 3}
        or channels not in {1, 3, 4}
        or array.size == 0
    ):
        raise InvalidInputError(
            f"source: expected a uint8 array of shape (H, W, 3) in RGB, (H, W) or (H, W, 4), "
            f"found {array.dtype} of shape {array.shape}"
        )
    array = np.ascontiguousarray(array)
    if channels == 1:
        array = cv2.cvtColor(array, cv2.COLOR_GRAY2RGB)
    elif channels == 4:
        array = over_ground(array[:, :, :3], array[:, :, 3], "straight")
    return array  # type: ignore[no-any-return]  # checked above


def _from_pil(picture: Any, max_pixels: int) -> Image:
    """Read a PIL image without importing PIL."""
    check_size(picture.size, check_count(max_pixels, "max_pixels"), None)
    if picture.mode in {"F", "La"}:  # F has no known range; PIL cannot convert La
        raise InvalidInputError(
            f"source: expected a PIL image that converts to RGB, found one of mode {picture.mode}"
        )
    try:
        picture.load()  # PIL rotates a TIFF here and removes its orientation
        rgb, alpha = _pil_pixels(picture)
        orientation = picture.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError) as error:  # PIL decodes on first use
        path = getattr(picture, "filename", None)
        # PIL's words for a decoder that it was built without.
        kind = ImageUnsupportedError if "not available" in str(error) else ImageCorruptError
        raise kind(f"PIL cannot decode the image: {error}", Path(path) if path else None) from error
    if alpha is not None:
        rgb = over_ground(rgb, alpha, "straight")
    return np.ascontiguousarray(orient(rgb, orientation))


def _pil_pixels(picture: Any) -> tuple[Any, Any]:
    """Return the sRGB pixels of a PIL image, and its straight alpha or None."""
    profile = picture.info.get("icc_profile")
    profile = profile if isinstance(profile, bytes) else b""
    if picture.mode == "CMYK" and profile:
        rgb = cmyk_to_srgb(np.asarray(picture), profile)
        if rgb is not None:
            return rgb, None
    alpha = None
    if picture.mode.startswith("I"):  # 16 bits, which convert() would clip
        deep = np.clip(np.asarray(picture), 0, 0xFFFF).astype(np.uint16)
        rgb = _from_array(cv2.convertScaleAbs(deep, alpha=1 / 257))
    elif picture.mode in {"RGBA", "LA", "PA", "RGBa"} or "transparency" in picture.info:
        pixels = np.asarray(picture.convert("RGBA"))
        rgb, alpha = np.ascontiguousarray(pixels[:, :, :3]), pixels[:, :, 3]
    else:
        rgb = np.asarray(picture.convert("RGB"))
    gray = picture.mode in {"1", "L", "LA"} or picture.mode.startswith("I")
    return to_srgb(rgb, profile, gray=gray), alpha
