"""Pillow as the second decoder, for images that OpenCV cannot decode or decodes wrongly.

Plugins are called directly, because `PIL.Image.open` applies a pixel limit that is a setting of the
whole process, and warns about it.
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgret.images.headers import Header

__all__ = ["pillow_decode", "pillow_reads"]

_PLUGINS = {
    "JPEG": "JpegImagePlugin.JpegImageFile",
    "PNG": "PngImagePlugin.PngImageFile",
    "WebP": "WebPImagePlugin.WebPImageFile",
    "GIF": "GifImagePlugin.GifImageFile",
    "BMP": "BmpImagePlugin.BmpImageFile",
    "AVIF": "AvifImagePlugin.AvifImageFile",
}


def pillow_decode(
    data: bytes, head: Header, *, factor: int = 1, cmyk: bool = False
) -> NDArray[np.uint8] | None:
    """Decode with Pillow, orientation not applied.

    Parameters
    ----------
    data : bytes
    head : Header
        Header of the data.
    factor : {1, 2, 4, 8}
        Factor by which a JPEG is reduced.
    cmyk : bool
        Whether CMYK is returned without conversion.

    Returns
    -------
    uint8 array of shape (H, W, 3) or (H, W, 4), or None
        RGB, RGBA with straight alpha, or CMYK. None if Pillow cannot decode it, does not know
        the format, or finds a different size from the header's.
    """
    if head.format not in _PLUGINS:
        return None
    from PIL import ImageFile  # noqa: PLC0415  # few images need it

    # A setting of the process that accepts half an image; AVIF and JPEG are checked in other ways.
    if ImageFile.LOAD_TRUNCATED_IMAGES and head.format not in {"AVIF", "JPEG"}:
        return None
    module, _, name = _PLUGINS[head.format].partition(".")
    try:
        with getattr(import_module(f"PIL.{module}"), name)(io.BytesIO(data)) as image:
            if image.size != (head.width, head.height):
                return None
            if factor > 1:
                image.draft(None, (head.width // factor, head.height // factor))
            image.load()
            return _pixels(image, cmyk=cmyk)
    except Exception:  # noqa: BLE001  # whatever damaged data lead to
        return None


def pillow_reads(name: str) -> bool:
    """Whether this build of Pillow reads a format; some lack AVIF."""
    return bool(getattr(import_module(f"PIL.{_PLUGINS[name].split('.')[0]}"), "SUPPORTED", True))


def _pixels(image: Any, *, cmyk: bool) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip
        gray: Any = cv2.convertScaleAbs(np.asarray(image).astype(np.uint16), alpha=1 / 257)
        rgb: NDArray[np.uint8] = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
        return rgb
    if cmyk and image.mode == "CMYK":
        return np.asarray(image)
    has_alpha = image.mode in {"RGBA", "LA", "PA", "RGBa"} or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
