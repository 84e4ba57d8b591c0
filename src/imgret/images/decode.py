"""Decoding: the bytes of a picture file to uint8 RGB.

The header is read first, so that a picture that is too large, cut short or none at all is
refused before memory is spent on it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from imgret.abc.checks import check_count
from imgret.abc.locks import ReadWriteLock, RLock, renew_in_child
from imgret.errors import (
    ImageCorruptError,
    ImageFormatError,
    ImageTooLargeError,
    MissingExtraError,
)
from imgret.images.header import Alpha, Header, header, png_chunks
from imgret.types import Image

__all__ = ["MAX_PIXELS", "Decoded", "decode"]

MAX_PIXELS = 100_000_000
"""Default pixel limit: 300 MB of RGB."""

# OpenCV's own limits, which it reports in words that name neither the file nor the size.
_OPENCV_PIXELS, _OPENCV_SIDE = 1 << 30, 1 << 20

# libjpeg scales while it decodes. The names say grey; the bits only say how much, and go
# together with IMREAD_COLOR_RGB, which the names that say colour do not.
_REDUCED = (
    (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
)
# What must remain beside min_side. libjpeg's smaller picture is a little sharper than an average
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
    """A decoded picture.

    Attributes
    ----------
    image : uint8 array of shape (h, w, 3)
        RGB, EXIF orientation applied; smaller than ``size`` where it was decoded at
        reduced scale.
    size : tuple of int
        Width and height in pixels of the picture at full resolution, orientation applied.
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
    """Decode a JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF or HEIC picture.

    Of several frames or pages the first is decoded. Alpha is laid over white (OpenCV delivers
    none for grey TIFF with alpha, which is seen over black); deeper channels are scaled to 8
    bits; colour profiles are not applied. HEIC needs the extra ``imgret[heic]``.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : Path, optional
        Named in errors.
    max_pixels : int
        A picture whose header announces more is refused before it is decoded.
    min_side : int, optional
        Shorter side, in pixels, to which the caller will shrink the picture. A larger JPEG
        is then decoded at 1/2, 1/4 or 1/8 of its size, which saves time and memory, but
        never below 3 times ``min_side``, so that shrinking gives nearly the same pixels.
        By default the picture is decoded in full.

    Returns
    -------
    Decoded
        The picture and its full size.

    Raises
    ------
    ImageFormatError
        Not a picture, or of a kind that cannot be read here.
    ImageCorruptError
        Empty, truncated or damaged.
    ImageTooLargeError
        More than ``max_pixels``.
    MissingExtraError
        A HEIC picture, and ``pillow-heif`` is not installed.
    """
    max_pixels = check_count(max_pixels, "max_pixels")
    min_side = None if min_side is None else check_count(min_side, "min_side")
    head = header(data, path=path)
    check_size(head.size, max_pixels, path)
    if head.end is None:
        raise ImageCorruptError(
            f"truncated: the {head.format} data stop after {len(data)} bytes, before their end",
            path,
        )
    if head.format == "HEIC":
        return _decode_heic(data, max_pixels, path)
    flags, is_reduced = _flags(head, min_side)
    try:
        with _opencv_silenced():
            pixels: Any = cv2.imdecode(np.frombuffer(_to_decode(data, head, path), np.uint8), flags)
    except cv2.error as error:
        raise ImageCorruptError(
            f"damaged {head.format} data: OpenCV reports {error.err!r}", path
        ) from error
    if pixels is None:
        raise ImageCorruptError(
            f"damaged or unusual {head.format} data ({head.width} x {head.height} pixels, "
            f"{head.bits} bits): OpenCV cannot decode them",
            path,
        )
    if flags == cv2.IMREAD_UNCHANGED:
        pixels = _flatten(pixels, head, path)
    if head.format != "TIFF":  # where libtiff has done so
        pixels = orient(pixels, head.orientation)
    height, width = pixels.shape[:2]
    return Decoded(np.ascontiguousarray(pixels), head.size if is_reduced else (width, height))


def check_size(size: tuple[int, int], max_pixels: int, path: Path | None) -> None:
    """Raise an error where there are too many pixels."""
    width, height = size
    if width * height > min(max_pixels, _OPENCV_PIXELS) or max(width, height) > _OPENCV_SIDE:
        raise ImageTooLargeError(
            f"expected at most {min(max_pixels, _OPENCV_PIXELS):,} pixels (max_pixels) and "
            f"{_OPENCV_SIDE:,} a side, found {width} x {height} = {width * height:,}",
            path,
        )


def _flags(head: Header, min_side: int | None) -> tuple[int, bool]:
    """Return OpenCV's flags, and whether they mean reduced scale."""
    if head.bits > 8 or head.alpha is not None or head.transparent is not None:
        return cv2.IMREAD_UNCHANGED, False
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    if head.format != "JPEG" or min_side is None:
        return flags, False
    enough = min(head.size) / (_MARGIN * min_side)
    reduced = next((flag for factor, flag in _REDUCED if factor <= enough), 0)
    return flags | reduced, reduced != 0


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
def _opencv_silenced() -> Iterator[None]:
    """Keep OpenCV from logging; what goes wrong is told by an exception.

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
    """Make RGB of 8 bits over white from what OpenCV decoded unchanged: grey, BGR or BGRA."""
    alpha = None
    if head.transparent is not None and pixels.ndim == 2:
        scale = 1 if head.bits in {8, 16} else 255 // (2**head.bits - 1)
        alpha = np.where(pixels == head.transparent * scale, 0, 255).astype(np.uint8)
    if pixels.dtype == np.uint16 and 8 < head.bits <= 16:
        white = 2**head.bits - 1
        if head.format == "TIFF":  # 10, 12 and 14 bits fill 16 from the top
            white <<= 16 - head.bits
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / white)
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
    return rgb if alpha is None else over_white(rgb, alpha, head.alpha or "straight")


def over_white(rgb: Any, alpha: Any, kind: Alpha) -> Any:
    """Lay uint8 colour ``(H, W, 3)`` over white by its alpha ``(H, W)``."""
    weight = cv2.cvtColor(np.ascontiguousarray(alpha), cv2.COLOR_GRAY2RGB)
    if kind == "straight":
        rgb = cv2.multiply(rgb, weight, scale=1 / 255)
    return cv2.add(rgb, cv2.bitwise_not(weight))  # white shines through by 255 - alpha


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


def _decode_heic(data: bytes, max_pixels: int, path: Path | None) -> Decoded:
    try:
        import pillow_heif  # noqa: PLC0415  # an extra
    except ImportError:
        what = "reading HEIC pictures" if path is None else f"{path}: reading a HEIC picture"
        raise MissingExtraError.of(what, extra="heic") from None
    try:
        picture = pillow_heif.open_heif(data)  # the header only
        check_size(picture.size, max_pixels, path)
        pixels = np.asarray(picture)  # decoded here, mirrored and turned by libheif
    except ImageTooLargeError:
        raise
    except Exception as error:  # pillow-heif lets through whatever damaged data lead to
        raise ImageCorruptError(f"damaged HEIC data: libheif reports {error}", path) from error
    if pixels.ndim == 3 and pixels.shape[2] in {2, 4}:
        kind: Alpha = "premultiplied" if picture.premultiplied_alpha else "straight"
        color = np.ascontiguousarray(pixels[:, :, :-1])
        rgb = cv2.cvtColor(color, cv2.COLOR_GRAY2RGB) if color.shape[2] == 1 else color
        pixels = over_white(rgb, pixels[:, :, -1], kind)
    elif pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return Decoded(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0]))
