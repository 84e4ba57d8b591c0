"""Loading: a picture from a path, bytes, a file object, an array or a PIL image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from imgret.abc.checks import check_count
from imgret.errors import ImageCorruptError, ImageNotFoundError, InvalidInputError
from imgret.images.decode import MAX_PIXELS, check_size, decode, orient, over_white
from imgret.images.exif import ORIENTATION
from imgret.types import Image, ImageLike

__all__ = ["load", "read"]


def load(source: ImageLike, *, max_pixels: int = MAX_PIXELS, min_side: int | None = None) -> Image:
    """Read a picture from wherever it is.

    Parameters
    ----------
    source : path, bytes, binary file object, array or PIL image
        A file is read from where it stands to its end. An array is uint8: RGB ``(H, W, 3)``,
        grey ``(H, W)`` or ``(H, W, 1)``, or RGBA ``(H, W, 4)``. Alpha is laid over white.
    max_pixels, min_side
        As in `decode`; ``min_side`` is for encoded pictures only.

    Returns
    -------
    uint8 array of shape (H, W, 3)
        RGB, C-contiguous, EXIF orientation applied. An array that is so already is returned
        itself, not a copy.

    Raises
    ------
    ImageError
        As in `read` and `decode`.
    InvalidInputError
        ``source`` is nothing that could hold a picture, or an array of another kind.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return decode(read(path), path=path, max_pixels=max_pixels, min_side=min_side).image
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode(bytes(source), max_pixels=max_pixels, min_side=min_side).image
    if callable(getattr(source, "convert", None)) and callable(getattr(source, "getexif", None)):
        return _from_pil(source, max_pixels)
    if callable(getattr(source, "read", None)):
        data = source.read()
        if not isinstance(data, bytes):
            raise InvalidInputError(
                f"source: expected a file opened in binary mode, found one that reads "
                f"{type(data).__name__}; open it with mode 'rb'"
            )
        return decode(data, max_pixels=max_pixels, min_side=min_side).image
    raise InvalidInputError(
        f"source: expected a path, bytes, a binary file object, a uint8 array or a PIL image, "
        f"found {type(source).__name__}"
    )


def read(path: str | os.PathLike[str]) -> bytes:
    """Return the contents of a picture file.

    Raises
    ------
    ImageNotFoundError
        There is no file, or it is a directory or may not be read.
    ImageCorruptError
        The file is empty.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageNotFoundError("there is no such file", path) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        if os.path.isdir(path):  # noqa: PTH112  # which raises nothing where it may not look
            raise ImageNotFoundError("expected a picture file, found a directory", path) from None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageNotFoundError(f"the file cannot be read: {reason}", path) from error
    if not data:
        raise ImageCorruptError("the file is empty (0 bytes)", path)
    return data


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
        array = over_white(array[:, :, :3], array[:, :, 3], "straight")
    return array  # type: ignore[no-any-return]  # checked above


def _from_pil(picture: Any, max_pixels: int) -> Image:
    """Read a PIL image without importing PIL."""
    check_size(picture.size, check_count(max_pixels, "max_pixels"), None)
    if picture.mode in {"F", "La"}:  # of no known range; which PIL itself cannot convert
        raise InvalidInputError(
            f"source: expected a PIL image that converts to RGB, found one of mode {picture.mode}"
        )
    try:
        orientation = picture.getexif().get(ORIENTATION, 1)
        if picture.mode.startswith("I"):  # 16 bits, which convert() would clip
            deep = np.clip(np.asarray(picture), 0, 0xFFFF).astype(np.uint16)
            pixels: Any = cv2.convertScaleAbs(deep, alpha=1 / 257)
        else:
            has_alpha = picture.mode in {"RGBA", "LA", "PA", "RGBa"}
            has_alpha = has_alpha or "transparency" in picture.info
            pixels = np.asarray(picture.convert("RGBA" if has_alpha else "RGB"))
    except (OSError, SyntaxError) as error:  # PIL decodes on first use
        path = getattr(picture, "filename", None)
        raise ImageCorruptError(
            f"PIL cannot decode it: {error}", Path(path) if path else None
        ) from error
    return orient(_from_array(pixels), orientation)  # type: ignore[no-any-return]  # an Image, turned
