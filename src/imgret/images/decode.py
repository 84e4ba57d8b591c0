"""Decoding: the bytes of an image file to uint8 RGB.

The header is read first, so that an image that is too large, cut short or none at all is
refused before memory is spent on it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from imgret.errors import (
    ImageCorruptError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    ImageUnsupportedError,
    MissingExtraError,
)
from imgret.images.bmp import decode_masks, has_masks
from imgret.images.color import cmyk_to_srgb, differs, to_srgb
from imgret.images.ground import Alpha, over_ground
from imgret.images.header import Header, header
from imgret.images.icc import profile_space
from imgret.images.png import png_chunks
from imgret.images.second import pillow_decode, pillow_reads
from imgret.images.tiff import decode_tiff
from imgret.support.checks import check_count
from imgret.support.locks import ReadWriteLock, RLock, renew_in_child
from imgret.types import Image

__all__ = ["MAX_PIXELS", "Decoded", "decode"]

MAX_PIXELS = 100_000_000
"""Default pixel limit: 300 MB of RGB."""

# OpenCV's own limits, which it reports in words that name neither the file nor the size.
_OPENCV_PIXELS, _OPENCV_SIDE = 1 << 30, 1 << 20

# libjpeg scales while it decodes. The names say grey; the bits only say how much, and go
# together with IMREAD_COLOR_RGB, which the names that say colour do not.
_REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
}
# What must remain beside min_side. libjpeg's smaller image is a little sharper than an average
# of areas; with this much left to average, the embedding of `general` moves by 0.0013 in cosine
# on average and 0.0043 at most (26 photos enlarged two ways, with noise); with 2.25, by 0.017.
_MARGIN = 3.0
_SILENT = 0  # cv::utils::logging::LOG_LEVEL_SILENT
# OpenCV 4 has it here, OpenCV 5 there; both return the level before.
_set_log_level: Callable[[int], int] = (
    getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
)
_PNG_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


class Decoded(NamedTuple):
    """A decoded image.

    Attributes
    ----------
    image : uint8 array of shape (h, w, 3)
        RGB, EXIF orientation applied; smaller than ``size`` where it was decoded at
        reduced scale.
    size : tuple of int
        Width and height in pixels of the image at full resolution, orientation applied.
    """

    image: Image
    size: tuple[int, int]


def decode(
    data: bytes,
    *,
    path: Path | None = None,
    max_pixels: int = MAX_PIXELS,
    min_side: int | None = None,
) -> Decoded:
    """Decode a JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF or HEIC image.

    Of several frames or pages the first is decoded. Alpha is laid over white, unless more than a
    quarter of the outline would vanish in it, as that of a white icon would: then over mid-grey,
    or over black where that hides less. Deeper channels are scaled to 8 bits. Colours are
    converted to sRGB by the profile that the image carries, after which alpha is applied; a
    profile that is damaged or does not fit is ignored, and high dynamic range (PQ, HLG) is not
    mapped. The orientation is that of EXIF, or of XMP where EXIF gives none; in AVIF and HEIC
    that of the container. Which TIFFs are decoded says
    ``imgret.images.tiff_page``. HEIC needs the
    extra ``imgret[heic]``.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : Path, optional
        Named in errors.
    max_pixels : int
        An image that has more is refused before it is decoded. Those that will be decoded
        count: with ``min_side``, a JPEG of 200 megapixels may be one of 3. A progressive JPEG
        counts in full, as its decoder holds all of it at any scale.
    min_side : int, optional
        Shorter side, in pixels, to which the caller will shrink the image. A larger JPEG
        is then decoded at 1/2, 1/4 or 1/8 of its size, which saves time and memory, but
        never below 3 times ``min_side``, so that shrinking gives nearly the same pixels.
        By default the image is decoded in full.

    Returns
    -------
    Decoded
        The image and its full size.

    Raises
    ------
    ImageFormatError
        Not an image, or of a kind that cannot be read here.
    ImageUnsupportedError
        It may be valid, but is of a kind that no decoder here takes.
    ImageCorruptError
        Empty, truncated or damaged.
    ImageTooLargeError
        More than ``max_pixels``.
    MissingExtraError
        A HEIC image, and ``pillow-heif`` is not installed.
    """
    max_pixels = check_count(max_pixels, "max_pixels")
    min_side = None if min_side is None else check_count(min_side, "min_side")
    head = header(data, path=path)
    factor = _factor(head, min_side)
    # What a decoder must hold in full is not made smaller by the scale.
    check_size(head.size, max_pixels, path, factor=1 if head.buffered else factor)
    check_size(head.coded, max_pixels, path)
    if head.end is None:
        raise ImageCorruptError(
            f"truncated: the {head.format} data stop after {len(data)} bytes, before their end",
            path,
        )
    if head.format == "HEIC":
        return _decode_heic(data, head, max_pixels, path)
    pixels = _decode_otherwise(data, head, factor, path)
    if pixels is None:
        pixels = _decode_opencv(data, head, factor, path)
    pixels = orient(pixels, head.orientation)
    height, width = pixels.shape[:2]
    return Decoded(np.ascontiguousarray(pixels), head.size if factor > 1 else (width, height))


def check_size(
    size: tuple[int, int], max_pixels: int, path: Path | None, *, factor: int = 1
) -> None:
    """Raise an error where there are too many pixels, both sides divided by ``factor``."""
    width, height = size
    pixels = -(-width // factor) * -(-height // factor)
    most = min(max_pixels, _OPENCV_PIXELS)
    if pixels <= most and width * height <= _OPENCV_PIXELS and max(width, height) <= _OPENCV_SIDE:
        return
    if pixels > max_pixels:
        advice = (
            "; if there is memory for it, raise max_pixels, which Retriever, images.load and "
            "images.decode take (--max-pixels on the command line)"
        )
    else:
        most, advice = _OPENCV_PIXELS, "; more cannot be decoded here: make it smaller"
    scaled = f", and {pixels:,} at 1/{factor} of that" if factor > 1 else ""
    raise ImageTooLargeError(
        f"expected at most {most:,} pixels to decode and {_OPENCV_SIDE:,} a side, found {width} x "
        f"{height} = {width * height:,}{scaled}{advice}",
        path,
    )


def _factor(head: Header, min_side: int | None) -> int:
    """Return by how much a JPEG may be reduced while it is decoded."""
    if head.format != "JPEG" or min_side is None:
        return 1
    enough = min(head.size) / (_MARGIN * min_side)
    return next((factor for factor in _REDUCED if factor <= enough), 1)


def _decode_otherwise(data: bytes, head: Header, factor: int, path: Path | None) -> Any:
    """Return uint8 RGB of what OpenCV decodes wrongly; None of all else."""
    if head.format == "TIFF":
        has_inks = head.channels == 4 and profile_space(head.profile) == "CMYK"
        from_cmyk = partial(cmyk_to_srgb, profile=head.profile) if has_inks else None
        rgb, alpha = decode_tiff(data, path=path, from_cmyk=from_cmyk)
        return opaque_srgb(rgb, alpha, head)
    if head.format == "JPEG" and head.channels == 4 and profile_space(head.profile) == "CMYK":
        cmyk = pillow_decode(data, head, factor=factor, cmyk=True)
        return cmyk_to_srgb(cmyk, head.profile)
    if head.format == "AVIF" and head.channels == 1:  # limited range is not expanded
        pixels = pillow_decode(data, head)
        if pixels is None:
            raise _refusal(head, path, is_read=not pillow_reads(head.format))
        return _from_pillow(pixels, head)
    if head.format == "BMP" and has_masks(data):
        with suppress(ValueError, struct.error):
            return _flatten(decode_masks(data), head, None)
    return None


def _decode_opencv(data: bytes, head: Header, factor: int, path: Path | None) -> Any:
    """Return uint8 RGB as OpenCV decodes it, or else Pillow."""
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | _REDUCED.get(factor, 0)
    if head.bits > 8 or head.alpha is not None or head.transparent is not None:
        flags = cv2.IMREAD_UNCHANGED
    pixels: Any = None
    problem = None
    with suppress_opencv_log():
        try:
            pixels = cv2.imdecode(np.frombuffer(_to_decode(data, head, path), np.uint8), flags)
        except cv2.error as error:
            problem = error
    if pixels is None:
        second = pillow_decode(data, head, factor=factor)
        # Of an ordinary kind Pillow reads some files that are damaged, wrongly.
        if second is None or not (head.unsupported or head.format == "BMP"):
            raise _refusal(head, path, is_read=second is not None) from problem
        return _from_pillow(second, head)
    if flags == cv2.IMREAD_UNCHANGED:
        return _flatten(pixels, head, path)
    return opaque_srgb(pixels, None, head)


def _from_pillow(pixels: Any, head: Header) -> Any:
    """Return uint8 RGB of what Pillow decoded."""
    alpha = pixels[:, :, 3] if pixels.shape[2] == 4 else None
    return opaque_srgb(np.ascontiguousarray(pixels[:, :, :3]), alpha, head, kind="straight")


def _refusal(head: Header, path: Path | None, *, is_read: bool) -> ImageError:
    """Return the error for what is not decoded, which is called damaged only if it surely is.

    Files of an unusual kind, and those that one of two decoders takes (``is_read``), may be valid.
    """
    if head.unsupported:
        return ImageUnsupportedError(
            f"expected an image that can be decoded here, found a {head.unsupported}; save it as "
            f"PNG or JPEG",
            path,
        )
    what = f"{head.format} data ({head.width} x {head.height} pixels, {head.bits} bits)"
    if is_read:
        return ImageUnsupportedError(
            f"unusual or damaged {what}: one decoder here takes them and another does not; if the "
            f"image looks right elsewhere, save it as PNG or JPEG",
            path,
        )
    return ImageCorruptError(f"damaged {what}: neither OpenCV nor Pillow can decode them", path)


def opaque_srgb(
    rgb: Any, alpha: Any, head: Header, *, gray: bool | None = None, kind: Alpha | None = None
) -> Any:
    """Convert colours to sRGB by the image's profile, then lay them over a ground.

    Parameters
    ----------
    rgb : uint8 array of shape (H, W, 3)
    alpha : uint8 array of shape (H, W), or None
    head : Header
    gray : bool, optional
        Whether the image is grey; by default what the header says.
    kind : {"straight", "premultiplied"}, optional
        Of ``rgb``; by default what the header says.
    """
    kind = kind or head.alpha or "straight"
    gray = head.channels == 1 if gray is None else gray
    fits = head.channels != 4  # CMYK that a decoder has made RGB of
    if fits and head.profile and differs(head.profile, gray=gray):
        if alpha is not None and kind == "premultiplied":
            weight = np.maximum(alpha, 1)[:, :, None].astype(np.float32)
            rgb, kind = np.clip(rgb * (255 / weight) + 0.5, 0, 255).astype(np.uint8), "straight"
        rgb = to_srgb(rgb, head.profile, gray=gray)
    return rgb if alpha is None else over_ground(rgb, alpha, kind)


def _to_decode(data: bytes, head: Header, path: Path | None) -> bytes:
    """Leave out what the pixels do not need and decoders stumble over."""
    if head.format == "GIF":  # later frames
        return data[: head.end] + b";"
    if head.format != "PNG":
        return data
    # Colour profiles make libpng print warnings, and animation chunks change what is decoded.
    # A wrong checksum is found here because libpng would print that, too.
    parts = [data[:8]]
    for kind, start, length in png_chunks(data):
        if kind in _PNG_PIXEL_CHUNKS:
            stop = start + length
            chunk = memoryview(data)[start - 4 : stop]
            if zlib.crc32(chunk) != int.from_bytes(data[stop : stop + 4], "big"):
                raise ImageCorruptError(
                    f"damaged PNG data: wrong checksum of the {kind.decode()} chunk at byte "
                    f"{start - 8}",
                    path,
                )
            parts.append(data[start - 8 : stop + 4])
    return b"".join(parts)


class _Silence:
    """The threads that decode, and the log level to go back to after the last."""

    decoding = ReadWriteLock(brief=True)  # OpenCV has locks, too: a fork waits until it is done
    lock = RLock(brief=True)
    threads: ClassVar[list[int]] = []
    level = 0

    @classmethod
    def renew(cls) -> None:
        """Give the level back in a forked child, which has one thread of those at most."""
        if cls.threads:
            cls.threads = [thread for thread in cls.threads if thread == get_ident()]
            if not cls.threads:
                _set_log_level(cls.level)


renew_in_child(_Silence)


@contextmanager
def suppress_opencv_log() -> Iterator[None]:
    """Keep OpenCV from logging; what goes wrong is raised as an exception.

    The level is the process's: it is given back as soon as no thread decodes. What libjpeg
    writes to stderr about damaged scans goes by no log and cannot be stopped.
    """
    with _Silence.lock:
        if not _Silence.threads:
            _Silence.level = _set_log_level(_SILENT)
        _Silence.threads.append(get_ident())
    try:
        with _Silence.decoding.read():
            yield
    finally:
        with _Silence.lock:
            _Silence.threads.remove(get_ident())
            if not _Silence.threads:
                _set_log_level(_Silence.level)


def _flatten(pixels: Any, head: Header, path: Path | None) -> Any:
    """Make opaque RGB of 8 bits from what OpenCV decoded unchanged: grey, BGR or BGRA."""
    alpha = None
    if head.transparent is not None and pixels.ndim == 2:
        scale = 1 if head.bits in {8, 16} else 255 // (2**head.bits - 1)
        alpha = np.where(pixels == head.transparent * scale, 0, 255).astype(np.uint8)
    if pixels.dtype == np.uint16 and 8 < head.bits <= 16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / (2**head.bits - 1))
    elif pixels.dtype != np.uint8:
        raise ImageFormatError(
            f"expected a {head.format} of 1 to 16 bits per channel, found {pixels.dtype}; "
            f"save it as 8-bit PNG",
            path,
        )
    if pixels.ndim == 2:
        rgb = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    elif pixels.shape[2] == 3:
        rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    else:
        rgb, alpha = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), pixels[:, :, 3]
    return opaque_srgb(rgb, alpha, head)


def orient(pixels: Any, orientation: int) -> Any:
    """Turn and mirror by the EXIF orientation."""
    if orientation in {5, 7}:
        pixels = cv2.transpose(pixels)
    if orientation in {2, 4}:
        return cv2.flip(pixels, 1 if orientation == 2 else 0)
    turns = {
        3: cv2.ROTATE_180,
        6: cv2.ROTATE_90_CLOCKWISE,
        7: cv2.ROTATE_180,
        8: cv2.ROTATE_90_COUNTERCLOCKWISE,
    }
    return cv2.rotate(pixels, turns[orientation]) if orientation in turns else pixels


def _decode_heic(data: bytes, head: Header, max_pixels: int, path: Path | None) -> Decoded:
    try:
        import pillow_heif  # noqa: PLC0415  # an extra
    except ImportError:
        what = "reading HEIC images" if path is None else f"{path}: reading a HEIC image"
        raise MissingExtraError.of(what, extra="heic") from None
    try:
        picture = pillow_heif.open_heif(data)  # the header only
        check_size(picture.size, max_pixels, path)
        pixels = np.asarray(picture)  # decoded here, mirrored and turned by libheif
    except ImageTooLargeError:
        raise
    except Exception as error:  # pillow-heif lets through whatever damaged data lead to
        if head.unsupported or "nsupported" in str(error):
            kind = head.unsupported or "HEIC that libheif does not support"
            raise ImageUnsupportedError(
                f"expected an image that can be decoded here, found a {kind}: libheif reports "
                f"{error}; save it as PNG or JPEG",
                path,
            ) from error
        raise ImageCorruptError(f"damaged HEIC data: libheif reports {error}", path) from error
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    alpha = np.ascontiguousarray(pixels[:, :, -1]) if channels in {2, 4} else None
    rgb: Any = np.ascontiguousarray(pixels if alpha is None else pixels[:, :, :-1])
    gray = channels < 3
    if gray:
        rgb = cv2.cvtColor(rgb, cv2.COLOR_GRAY2RGB)
    kind_of: Alpha = "premultiplied" if picture.premultiplied_alpha else "straight"
    rgb = opaque_srgb(rgb, alpha, head, gray=gray, kind=kind_of)
    return Decoded(np.ascontiguousarray(rgb), (rgb.shape[1], rgb.shape[0]))
