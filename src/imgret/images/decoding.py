"""Decoding of image files to uint8 RGB.

The header is read first, so that data that are too large, truncated or not an image are refused
before memory is allocated.
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
from imgret.images.headers import Header, header
from imgret.images.icc import profile_space
from imgret.images.isolation import active
from imgret.images.limits import check_scans, decoding_bytes, decoding_memory
from imgret.images.png import png_chunks
from imgret.images.raw import develop, open_raw
from imgret.images.second import pillow_decode, pillow_reads
from imgret.images.tiff import decode_tiff
from imgret.support.checks import check_count
from imgret.support.locks import ReadWriteLock, RLock, renew_in_child
from imgret.types import Image

__all__ = ["MAX_PIXELS", "Decoded", "decode"]

MAX_PIXELS = 100_000_000
"""Default pixel limit: 300 MB of RGB."""

# OpenCV's own limits; its error messages name neither the file nor the size.
_OPENCV_PIXELS, _OPENCV_SIDE = 1 << 30, 1 << 20
_PIXEL_BYTES = 4  # of RGB with alpha; more count as several pixels

# libjpeg can scale while it decodes. In spite of their names these flags set only the scale, and
# can be combined with IMREAD_COLOR_RGB; the REDUCED_COLOR flags cannot.
_REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
}
# Least size of a reduced JPEG, in multiples of min_side, so that shrinking it further gives nearly
# what shrinking the whole image does.
_MARGIN = 3.0
# The same of one that is decoded at 1/8 and then enlarged: see `_decoded_factor`.
_EIGHTH, _EIGHTH_MARGIN = 8, 1.4
_SILENT = 0  # cv::utils::logging::LOG_LEVEL_SILENT
# OpenCV 4 and 5 have it in different places; both return the previous level.
_set_log_level: Callable[[int], int] = (
    getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
)
_BAND_PIXELS = 1 << 20
_TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
_PNG_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


class Decoded(NamedTuple):
    """A decoded image.

    Attributes
    ----------
    image : uint8 array of shape (h, w, 3)
        RGB, EXIF orientation applied; smaller than ``size`` if it was decoded at
        reduced scale.
    size : tuple of int
        Width and height in pixels of the image at full resolution, orientation applied.
    """

    image: Image
    size: tuple[int, int]


def decode(
    data: bytes,
    *,
    path: Path | str | None = None,
    max_pixels: int = MAX_PIXELS,
    min_side: int | None = None,
) -> Decoded:
    """Decode a JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF or HEIC image, or a RAW photograph.

    Only the first frame or page is decoded. Transparent images are composited over white, unless
    more than a quarter of the outline would vanish in it, as with a white icon. The background is
    then mid-grey, or black if that hides less. Deeper channels are scaled to 8 bits. Colours are
    converted to sRGB with the embedded profile before alpha is applied. A profile that is damaged
    or does not fit is ignored, and high dynamic range (PQ, HLG) is not tone-mapped. The
    orientation comes from EXIF, or from XMP if EXIF has none; in AVIF and HEIC from the container.
    ``imgret.images.tiff_page`` lists the kinds of TIFF that are decoded. HEIC needs the extra
    ``imgret[heic]``.

    Of a RAW photograph (DNG, CR2, CR3, NEF, ARW, RAF and others; extra ``imgret[raw]``) the preview
    that the camera embedded is decoded, if its shorter side has at least 512 pixels. Otherwise the
    sensor data are developed with the camera's white balance, those of a sensor with 2,048 rows or
    more at half their resolution.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : Path, optional
        Path to name in errors.
    max_pixels : int
        Maximum number of pixels to decode; a larger image is refused before it is decoded. Pixels
        count at the decoded scale: with ``min_side``, a JPEG of 200 megapixels may count as 3. A
        progressive JPEG counts in full, because its decoder holds all of it at any scale. Pixels of
        16 bits per channel count as 1.5 with three channels, and as 2 with four.
    min_side : int, optional
        Shorter side, in pixels, to which the caller will shrink the image. A larger JPEG
        is then returned at 1/2, 1/4 or 1/8 of its size, which saves time and memory, but
        never below 3 times ``min_side``, so that shrinking gives nearly the same pixels. It is
        decoded at 1/8 and enlarged to that, where 1/8 is at least 1.4 times ``min_side``.
        By default the image is decoded in full.

    Returns
    -------
    Decoded
        The image and its full size.

    Raises
    ------
    ImageFormatError
        The data are not an image, or are of a kind that cannot be read.
    ImageUnsupportedError
        The image may be valid, but no available decoder supports it.
    ImageCorruptError
        The data are empty, truncated or damaged.
    ImageTooLargeError
        The image has more than ``max_pixels`` pixels, or is a JPEG of more scans than encoders
        write (30 for 100 megapixels, 1,000 for 3 and less).
    MissingExtraError
        The image is a HEIC and ``pillow-heif`` is not installed, or it is a RAW photograph and
        ``rawpy`` is not installed.
    """
    max_pixels = check_count(max_pixels, "max_pixels")
    min_side = None if min_side is None else check_count(min_side, "min_side")
    workers, head = active(), None
    if workers is not None and (head := workers.plain_header(data, path)) is None:
        return Decoded(*workers.decode(data, path=path, max_pixels=max_pixels, min_side=min_side))
    head = head or header(data, path=path)
    if head.format == "RAW":
        return _decode_raw(data, head, max_pixels, min_side, path)
    factor = _factor(head, min_side)
    # A buffered image is held in full at any scale.
    check_size(
        head.size,
        max_pixels,
        path,
        factor=1 if head.buffered else factor,
        pixel_bytes=(head.channels + (head.alpha is not None)) * (2 if head.bits > 8 else 1),
    )
    check_size(head.coded, max_pixels, path)
    if head.end is None:
        raise ImageCorruptError(
            f"truncated: the {head.format} data end after {len(data)} bytes, before the image ends",
            path,
        )
    check_scans(head, path)
    with decoding_memory.use(decoding_bytes(head, factor)):
        if head.format == "HEIC":
            return _decode_heic(data, head, max_pixels, path)
        decoded = _decoded_factor(head, min_side, factor)
        pixels = _decode_otherwise(data, head, decoded, path)
        if pixels is None:
            pixels = _decode_opencv(data, head, decoded, path)
        if decoded > factor and pixels.shape[:2] == _reduced(head, decoded):
            pixels = _enlarged(pixels, head, decoded // factor, factor)
        pixels = orient(pixels, head.orientation)
    height, width = pixels.shape[:2]
    check_size((width, height), max_pixels, path)  # where decoders read another header
    return Decoded(np.ascontiguousarray(pixels), head.size if factor > 1 else (width, height))


def check_size(
    size: tuple[int, int],
    max_pixels: int,
    path: Path | str | None,
    *,
    factor: int = 1,
    pixel_bytes: int = 3,
) -> None:
    """Raise an error if there are too many pixels with both sides divided by ``factor``.

    A pixel of more than 4 bytes counts as several.
    """
    width, height = size
    pixels = -(-width // factor) * -(-height // factor)
    counted = pixels * max(_PIXEL_BYTES, pixel_bytes) // _PIXEL_BYTES
    most = min(max_pixels, _OPENCV_PIXELS)
    fits = pixels <= _OPENCV_PIXELS and counted <= max_pixels
    if fits and width * height <= _OPENCV_PIXELS and max(width, height) <= _OPENCV_SIDE:
        return
    if counted > max_pixels:
        advice = (
            "; if there is memory for it, raise max_pixels, which Retriever, images.load and "
            "images.decode take (--max-pixels on the command line)"
        )
    else:
        most, advice = _OPENCV_PIXELS, "; larger images cannot be decoded: make it smaller"
    scaled = f", and {pixels:,} at 1/{factor} of that" if factor > 1 else ""
    if counted > pixels:
        scaled += f", which count as {counted:,}, as each has {pixel_bytes} bytes"
    raise ImageTooLargeError(
        f"expected at most {most:,} pixels to decode and {_OPENCV_SIDE:,} per side, found {width} "
        f"x {height} = {width * height:,}{scaled}{advice}",
        path,
    )


def _factor(head: Header, min_side: int | None) -> int:
    """Return the factor by which a JPEG may be reduced."""
    if head.format != "JPEG" or min_side is None:
        return 1
    enough = min(head.size) / (_MARGIN * min_side)
    return next((factor for factor in _REDUCED if factor <= enough), 1)


def _decoded_factor(head: Header, min_side: int | None, factor: int) -> int:
    """Return the factor by which a JPEG is reduced in the decoder: 8 where that is enough.

    At 1/8 the decoder has only averages of 8 x 8 pixels to make, which takes two thirds of the time
    that 1/2 takes. They hold all that is left after shrinking, but shrunk by a factor near
    1 they give other pixels than the whole image does: an average of areas takes parts of them.
    Enlarged smoothly to what ``factor`` would have given, they move the embedding of `general` by
    as much as that does: 0.0043 and 0.0045 in cosine on average with 4000 x 3000 pixels, 0.0067
    and 0.0066 with 6000 x 4000 (8 photos and 4 drawn ones, enlarged, with noise).
    """
    if (
        factor > 1
        and min_side is not None
        and min(head.size) >= _EIGHTH * _EIGHTH_MARGIN * min_side
    ):
        return _EIGHTH
    return factor


def _reduced(head: Header, factor: int) -> tuple[int, int]:
    """Return height and width of a JPEG in its file, divided by a factor."""
    return -(-head.height // factor), -(-head.width // factor)


def _enlarged(pixels: Image, head: Header, times: int, factor: int) -> Image:
    """Enlarge what was decoded to the size of the image divided by ``factor``."""
    height, width = _reduced(head, factor)
    larger: Image = cv2.resize(pixels, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)  # type: ignore[assignment]  # of any type, it says
    return larger[:height, :width]


def _decode_otherwise(data: bytes, head: Header, factor: int, path: Path | str | None) -> Any:
    """Return uint8 RGB of an image that OpenCV decodes wrongly; None for any other."""
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
            rgb, alpha = _split(decode_masks(data), head, None)
            return opaque_srgb(rgb, alpha, head)
    return None


def _decode_opencv(data: bytes, head: Header, factor: int, path: Path | str | None) -> Any:
    """Decode to uint8 RGB with OpenCV, or with Pillow if that fails."""
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
        # Pillow reads some damaged files of ordinary kinds, but wrongly.
        if second is None or not (head.unsupported or head.format == "BMP"):
            raise _refusal(head, path, is_read=second is not None) from problem
        return _from_pillow(second, head)
    alpha = None
    if flags == cv2.IMREAD_UNCHANGED:
        pixels, alpha = _split(pixels, head, path)
    return opaque_srgb(pixels, alpha, head)


def _from_pillow(pixels: Any, head: Header) -> Any:
    """Return uint8 RGB of what Pillow decoded."""
    alpha = pixels[:, :, 3] if pixels.shape[2] == 4 else None
    return opaque_srgb(np.ascontiguousarray(pixels[:, :, :3]), alpha, head, kind="straight")


def _refusal(head: Header, path: Path | str | None, *, is_read: bool) -> ImageError:
    """Return the error for an image that no decoder took, called damaged only if it surely is.

    Files of an unusual kind, and those that one of two decoders reads (``is_read``), may be valid.
    """
    if head.unsupported:
        return ImageUnsupportedError(
            f"expected an image that can be decoded, found a {head.unsupported}; save it as PNG "
            f"or JPEG",
            path,
        )
    what = f"{head.format} data ({head.width} x {head.height} pixels, {head.bits} bits)"
    if is_read:
        return ImageUnsupportedError(
            f"unusual or damaged {what}: one decoder reads them and another does not; if the image "
            f"looks right in other programs, save it as PNG or JPEG",
            path,
        )
    return ImageCorruptError(f"damaged {what}: neither OpenCV nor Pillow can decode them", path)


def opaque_srgb(
    rgb: Any, alpha: Any, head: Header, *, gray: bool | None = None, kind: Alpha | None = None
) -> Any:
    """Convert colours to sRGB with the image's profile, then composite them over a background.

    Parameters
    ----------
    rgb : uint8 array of shape (H, W, 3)
    alpha : uint8 array of shape (H, W), or None
    head : Header
    gray : bool, optional
        Whether the image is grey; by default as the header says.
    kind : {"straight", "premultiplied"}, optional
        Whether ``rgb`` has been multiplied by alpha; by default as the header says.
    """
    kind = kind or head.alpha or "straight"
    gray = head.channels == 1 if gray is None else gray
    fits = head.channels != 4  # not CMYK that the decoder has converted to RGB
    if fits and head.profile and differs(head.profile, gray=gray):
        if alpha is not None and kind == "premultiplied":
            weight = np.maximum(alpha, 1)[:, :, None].astype(np.float32)
            rgb, kind = np.clip(rgb * (255 / weight) + 0.5, 0, 255).astype(np.uint8), "straight"
        rgb = to_srgb(rgb, head.profile, gray=gray)
    return rgb if alpha is None else over_ground(rgb, alpha, kind)


def _to_decode(data: bytes, head: Header, path: Path | str | None) -> bytes:
    """Leave out parts that the pixels do not need and that decoders stumble over."""
    if head.format == "GIF":  # without later frames
        return data[: head.end] + b";"
    if head.format != "PNG":
        return data
    # Colour profiles make libpng print warnings, and animation chunks change what is decoded.
    # Checksums are verified here because libpng would print those errors, too.
    view, kept = memoryview(data), [(0, 8)]  # runs of bytes: first and behind the last
    for kind, start, length in png_chunks(data):
        if kind in _PNG_PIXEL_CHUNKS:
            stop = start + length
            if zlib.crc32(view[start - 4 : stop]) != int.from_bytes(data[stop : stop + 4], "big"):
                raise ImageCorruptError(
                    f"damaged PNG data: wrong checksum of the {kind.decode()} chunk at byte "
                    f"{start - 8}",
                    path,
                )
            before = kept.pop() if kept[-1][1] == start - 8 else (start - 8, 0)
            kept.append((before[0], stop + 4))
    if kept == [(0, len(data))]:  # without a copy of tens of megabytes
        return data
    return b"".join(view[first:behind] for first, behind in kept)


class _Silence:
    """Threads that are decoding, and the log level to restore after the last one."""

    decoding = ReadWriteLock(brief=True)  # OpenCV has locks, too: a fork waits for it
    lock = RLock(brief=True)
    threads: ClassVar[list[int]] = []
    level = 0

    @classmethod
    def renew(cls) -> None:
        """Restore the level in a forked child, which has at most one of these threads."""
        if cls.threads:
            cls.threads = [thread for thread in cls.threads if thread == get_ident()]
            if not cls.threads:
                _set_log_level(cls.level)


renew_in_child(_Silence)


@contextmanager
def suppress_opencv_log() -> Iterator[None]:
    """Keep OpenCV from logging; failures are raised as exceptions.

    The log level belongs to the process and is restored as soon as no thread is decoding. What
    libjpeg writes to stderr about damaged scans bypasses the log and cannot be suppressed.
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


def _split(pixels: Any, head: Header, path: Path | str | None) -> tuple[Any, Any]:
    """Convert what OpenCV decoded unchanged (grey, BGR or BGRA) to 8-bit RGB, and alpha or None."""
    if pixels.dtype != np.uint8 and not (pixels.dtype == np.uint16 and 8 < head.bits <= 16):
        raise ImageFormatError(
            f"expected a {head.format} of 1 to 16 bits per channel, found {pixels.dtype}; "
            f"save it as 8-bit PNG",
            path,
        )
    height, width = pixels.shape[:2]
    has_alpha = pixels.ndim == 3 and pixels.shape[2] == 4
    is_level = head.transparent is not None and pixels.ndim == 2
    scale = 1 if head.bits in {8, 16} else 255 // (2**head.bits - 1)
    level = (head.transparent or 0) * scale
    rgb = np.empty((height, width, 3), np.uint8)
    alpha = np.empty((height, width), np.uint8) if has_alpha or is_level else None
    rows = max(1, _BAND_PIXELS // width)  # copies of a large image would fill memory
    for top in range(0, height, rows):
        band, place = pixels[top : top + rows], slice(top, top + rows)
        if alpha is not None and is_level:
            alpha[place] = np.where(band == level, 0, 255)
        if band.dtype == np.uint16:
            band = cv2.convertScaleAbs(band, alpha=255 / (2**head.bits - 1))
        if alpha is not None and has_alpha:
            alpha[place] = band[:, :, 3]
        code = _TO_RGB[1 if band.ndim == 2 else band.shape[2]]
        rgb[place] = cv2.cvtColor(band, code)
    return rgb, alpha


def orient(pixels: Any, orientation: int) -> Any:
    """Rotate and mirror pixels as the EXIF orientation says."""
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


def _decode_raw(
    data: bytes, head: Header, max_pixels: int, min_side: int | None, path: Path | str | None
) -> Decoded:
    preview = open_raw(data, path=path).preview
    if not preview:
        pixels = develop(data, max_pixels, path=path)
        return Decoded(pixels, (pixels.shape[1], pixels.shape[0]))
    found = decode(preview, path=path, max_pixels=max_pixels, min_side=min_side)
    if head.orientation == header(preview).orientation:  # which is applied
        return found
    return Decoded(np.ascontiguousarray(orient(found.image, head.orientation)), head.size)


def _decode_heic(data: bytes, head: Header, max_pixels: int, path: Path | str | None) -> Decoded:
    try:
        import pillow_heif  # noqa: PLC0415  # an extra
    except ImportError:
        what = "reading HEIC images" if path is None else f"{path}: reading a HEIC image"
        raise MissingExtraError.of(what, extra="heic") from None
    try:
        picture = pillow_heif.open_heif(data)  # the header only
        check_size(picture.size, max_pixels, path)
        pixels = np.asarray(picture)  # decoded here; libheif applies the orientation
    except ImageTooLargeError:
        raise
    except Exception as error:  # pillow-heif lets any exception from damaged data through
        if head.unsupported or "nsupported" in str(error):
            kind = head.unsupported or "HEIC that libheif does not support"
            raise ImageUnsupportedError(
                f"expected an image that can be decoded, found a {kind}: libheif reports "
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
