"""Conversion of colours to sRGB with the ICC profile embedded in an image.

The conversion is done by LittleCMS, through Pillow's ``ImageCms``: relative colorimetric with black
point compensation. Profiles that do not differ visibly from sRGB cost only a cache look-up.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from imgret.images.icc import profile_space

__all__ = ["cmyk_to_srgb", "differs", "to_srgb"]

Pixels: TypeAlias = NDArray[np.uint8]

# A profile is applied only if it changes some colour by more than this, in levels of 255.
_INVISIBLE = 2
_STRIP = 1 << 20  # pixels converted at a time


class _Conversion(NamedTuple):
    transform: Any
    mode: Literal["RGB", "CMYK", "L"]


def to_srgb(rgb: Pixels, profile: bytes, *, gray: bool) -> Pixels:
    """Convert RGB, or grey stored as RGB, to sRGB.

    Parameters
    ----------
    rgb : uint8 array of shape (H, W, 3)
        Pixels, not multiplied by alpha.
    profile : bytes
        ICC profile. A damaged profile, or one for a different colour space than the image's, is
        ignored, as in browsers.
    gray : bool
        Whether the image is grey. A grey profile is applied only to a grey image.

    Returns
    -------
    uint8 array of shape (H, W, 3)
        ``rgb`` itself if the profile is sRGB, does not differ visibly from it, or is ignored.
    """
    how = _how(profile, gray=gray)
    if how is None:
        return rgb
    if isinstance(how, _Conversion):
        return _apply(how, rgb)
    return cv2.LUT(rgb, how)  # type: ignore[return-value]  # uint8, as the table


def differs(profile: bytes, *, gray: bool) -> bool:
    """Whether `to_srgb` changes colours visibly."""
    return _how(profile, gray=gray) is not None


def cmyk_to_srgb(cmyk: Pixels | None, profile: bytes) -> Pixels | None:
    """Convert CMYK, where 0 is no ink and 255 full ink, to sRGB.

    Parameters
    ----------
    cmyk : uint8 array of shape (H, W, 4), or None
    profile : bytes
        ICC profile.

    Returns
    -------
    uint8 array of shape (H, W, 3), or None
        None if there is no image, or the profile is not for CMYK or is damaged.
    """
    conversion = _transform(profile, "CMYK") if profile_space(profile) == "CMYK" else None
    return None if conversion is None or cmyk is None else _apply(conversion, cmyk)


def _how(profile: bytes, *, gray: bool) -> _Conversion | Pixels | None:
    space = profile_space(profile) if profile else ""
    if space == "RGB":
        return _visible(profile)
    if space == "GRAY" and gray:
        return _gray_table(profile)
    return None


@lru_cache(maxsize=32)
def _visible(profile: bytes) -> _Conversion | None:
    """Return the conversion from an RGB profile; None if it changes no colour visibly."""
    conversion = _transform(profile, "RGB")
    if conversion is None:
        return None
    levels = np.linspace(0, 255, 18).astype(np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(18, -1, 3)
    change = np.abs(_apply(conversion, colors).astype(int) - colors).max()
    return conversion if change > _INVISIBLE else None


@lru_cache(maxsize=32)
def _gray_table(profile: bytes) -> Pixels | None:
    """Return the sRGB level of each level of a grey profile; None if none changes visibly."""
    levels = np.arange(256, dtype=np.uint8)[None]
    conversion = _transform(profile, "L")
    if conversion is None:
        return None
    table = _apply(conversion, levels)[0, :, 1]
    return table if np.abs(table.astype(int) - levels[0]).max() > _INVISIBLE else None


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: Literal["RGB", "CMYK", "L"]) -> _Conversion | None:
    """Return the conversion to sRGB; None for a profile that LittleCMS cannot use."""
    from PIL import ImageCms  # noqa: PLC0415  # only images with a profile need it

    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if mode == "L":  # used once, for a table; optimised, its darkest levels are 9 off
        flags |= ImageCms.Flags.NOOPTIMIZE
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags,
        )
    except (ImageCms.PyCMSError, OSError):
        return None
    return _Conversion(transform, mode)


def _apply(conversion: _Conversion, pixels: Pixels) -> Pixels:
    """Convert strip by strip, which needs little memory beyond the result."""
    from PIL import Image  # noqa: PLC0415  # as above

    height, width = pixels.shape[:2]
    converted = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = np.ascontiguousarray(pixels[top : top + rows])
        size = width, len(strip)
        image = Image.frombuffer(conversion.mode, size, strip, "raw", conversion.mode, 0, 1)
        converted[top : top + rows] = conversion.transform.apply(image)
    return converted
