"""What a picture file says about itself, read from its bytes without decoding them.

Specifications: JPEG ITU-T T.81; PNG W3C; GIF89a; WebP RFC 9649; TIFF 6.0 and BigTIFF; BMP as
in the Windows ``BITMAPINFOHEADER`` family; HEIF ISO/IEC 23008-12; AVIF AOMedia; the orientation
tag Exif 2.32.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import unpack_from
from typing import Literal, TypeAlias

from imgret.errors import ImageCorruptError, ImageFormatError
from imgret.images.exif import ORIENTATION, exif_orientation, tiff_tags
from imgret.images.ground import Alpha

__all__ = ["Format", "Header", "header"]

Format: TypeAlias = Literal["JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP", "AVIF", "HEIC"]

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn, less DHT, JPG, DAC
# EXIF orientation by HEIF mirror axis (None, top to bottom, left to right) and quarter turns.
_HEIF_ORIENTATIONS = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture file says about itself.

    Attributes
    ----------
    format : {"JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP", "AVIF", "HEIC"}
    width, height : int
        Pixels as stored, before the orientation is applied; at least 1. Of the first frame's
        canvas or the first page, where there are several.
    orientation : int
        EXIF orientation, 1 (upright) to 8.
    bits : int
        Per channel.
    alpha : {None, "straight", "premultiplied"}
        How the decoder delivers colour beside its alpha channel; None without alpha.
    transparent : int or None
        Grey level of a PNG, at its own bit depth, that stands for transparency.
    end : int or None
        Offset behind the last byte of the first picture; None where the data stop before.
        Where a format does not tell, the length of the data.
    exif : bytes
        EXIF block of a JPEG, PNG, WebP or TIFF; empty where there is none.
    """

    format: Format
    width: int
    height: int
    orientation: int = 1
    bits: int = 8
    alpha: Alpha | None = None
    transparent: int | None = None
    end: int | None = None
    exif: bytes = field(default=b"", repr=False, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the picture as shown, orientation applied."""
        shown = (self.width, self.height)
        return shown if self.orientation < 5 else shown[::-1]


def header(data: bytes, *, path: Path | None = None) -> Header:
    """Read the header of a picture.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : Path, optional
        Named in errors.

    Raises
    ------
    ImageFormatError
        Not a picture, or of an unknown format.
    ImageCorruptError
        No data, or a header that is cut short or contradicts itself.
    """
    if not data:
        raise ImageCorruptError("the file is empty (0 bytes)", path)
    name, parse = next(
        ((name, parse) for name, begins, parse in _FORMATS if begins.match(data)), ("", None)
    )
    if parse is None:
        raise ImageFormatError(
            f"expected a picture (JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF or HEIC), found data that "
            f"begin with {data[:16]!r}",
            path,
        )
    try:
        found = parse(data)
    except (struct.error, LookupError, ValueError, ArithmeticError, StopIteration) as error:
        raise ImageCorruptError(
            f"the {name} header is damaged or cut short after {len(data)} bytes", path
        ) from error
    if found.width < 1 or found.height < 1:
        raise ImageCorruptError(
            f"the {name} header gives a size of {found.width} x {found.height} pixels", path
        )
    return found


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, first byte and length of the contents of each chunk up to IEND.

    Ends early where the data do.
    """
    start = 8
    while start + 12 <= len(data):
        length, kind = unpack_from(">I4s", data, start)
        if start + 12 + length > len(data):
            return
        yield kind, start + 8, length
        if kind == b"IEND":
            return
        start += 12 + length


def _jpeg(data: bytes) -> Header:
    exif, frame, start = b"", None, 2
    while True:
        start = data.index(b"\xff", start)  # bytes between segments are skipped, as libjpeg does
        while data[start] == 0xFF:
            start += 1
        marker = data[start]
        start += 1
        if marker in {0x00, 0x01} or 0xD0 <= marker <= 0xD8:  # no segment follows
            continue
        if marker == 0xD9:
            raise ValueError
        length = int.from_bytes(data[start : start + 2], "big")
        if marker == 0xDA:
            break
        if marker in _JPEG_FRAMES:
            frame = unpack_from(">BHH", data, start + 2)
        elif marker == 0xE1 and data.startswith(b"Exif\0", start + 2):
            exif = data[start + 8 : start + length]
        start += length
    if frame is None:
        raise ValueError
    bits, height, width = frame
    # 0xFF is stuffed in the scans, so that this marker stands at the end only.
    complete = data.rfind(b"\xff\xd9", start) >= 0
    end = len(data) if complete else None
    return Header("JPEG", width, height, exif_orientation(exif), bits=bits, end=end, exif=exif)


def _png(data: bytes) -> Header:
    width, height, bits, color = unpack_from(">II2B", data, 16)
    if data[12:16] != b"IHDR":
        raise ValueError
    exif, transparent, end = b"", None, None
    has_alpha = color in {4, 6}
    for kind, start, length in png_chunks(data):
        if kind == b"eXIf":
            exif = data[start : start + length]
        elif kind == b"tRNS" and color == 0:  # which OpenCV leaves out
            transparent = int.from_bytes(data[start : start + 2], "big")
        elif kind == b"tRNS":
            has_alpha = True
        elif kind == b"IEND":
            end = start + 4
    alpha: Alpha | None = "straight" if has_alpha else None
    orientation = exif_orientation(exif)
    return Header("PNG", width, height, orientation, bits, alpha, transparent, end, exif)


def _webp(data: bytes) -> Header:
    width = height = 0
    exif, has_alpha, start = b"", False, 12
    stop = 8 + int.from_bytes(data[4:8], "little")
    while start + 8 <= min(stop, len(data)):
        kind, length = unpack_from("<4sI", data, start)
        start += 8
        if kind == b"VP8X":
            has_alpha = bool(data[start] & 0x10)
            width = 1 + int.from_bytes(data[start + 4 : start + 7], "little")
            height = 1 + int.from_bytes(data[start + 7 : start + 10], "little")
        elif kind == b"VP8L" and not width:
            (packed,) = unpack_from("<I", data, start + 1)
            width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
            has_alpha = bool(packed >> 28 & 1)
        elif kind == b"VP8 " and not width:
            width, height = (side & 0x3FFF for side in unpack_from("<HH", data, start + 6))
        elif kind == b"EXIF":
            exif = data[start : start + length]
        start += length + (length & 1)
    end = stop if stop <= len(data) else None
    alpha: Alpha | None = "straight" if has_alpha else None
    return Header("WebP", width, height, exif_orientation(exif), alpha=alpha, end=end, exif=exif)


def _gif(data: bytes) -> Header:
    width, height, flags = unpack_from("<HHB", data, 6)
    start = 13 + _gif_palette(flags)
    has_alpha, end = False, None
    while start < len(data) and end is None:
        block = data[start]
        if block == 0x2C:  # the first frame
            start += 11 + _gif_palette(data[start + 9])
        elif block == 0x21:
            if data[start + 1] == 0xF9:
                has_alpha = bool(data[start + 3] & 1)
            start += 2
        else:  # the trailer, before any frame
            break
        while start < len(data) and data[start]:
            start += 1 + data[start]
        start += 1
        if block == 0x2C and start <= len(data):
            end = start
    return Header("GIF", width, height, alpha="straight" if has_alpha else None, end=end)


def _gif_palette(flags: int) -> int:
    """Bytes of a colour table."""
    return 6 << (flags & 7) if flags & 0x80 else 0


def _tiff(data: bytes) -> Header:
    tags = tiff_tags(data)
    bits = max(tags.get(0x0102, (1,)))
    (photometric,) = tags.get(0x0106, (1,))[:1]
    (samples,) = tags.get(0x0115, (1,))[:1]
    extra = tags.get(0x0152, (0,))[0]
    alpha: Alpha | None = None
    # Of grey with alpha OpenCV delivers the grey only.
    if photometric == 2 and samples == 4 and extra in {1, 2}:
        # libtiff multiplies 8-bit colour by its alpha; deeper pictures come as stored.
        alpha = "straight" if extra == 2 and bits == 16 else "premultiplied"
    orientation = tags.get(ORIENTATION, (1,))[0]
    return Header(
        "TIFF",
        tags[0x0100][0],
        tags[0x0101][0],
        orientation if 1 <= orientation <= 8 else 1,
        # Where 0 is white, and in CMYK, only the decoder's own conversion to 8 bits is right.
        bits=8 if bits == 16 and photometric not in {1, 2} else bits,
        alpha=alpha,
        end=len(data),
        exif=data,
    )


def _bmp(data: bytes) -> Header:
    (size,) = unpack_from("<I", data, 14)
    if size == 12:
        width, height = unpack_from("<HH", data, 18)
        return Header("BMP", width, height, end=len(data))
    width, height, _, bits, compression = unpack_from("<iiHHI", data, 18)
    mask = unpack_from("<I", data, 66)[0] if size >= 56 and compression == 3 else 0
    return Header(  # a negative height: stored from the top
        "BMP", width, abs(height), alpha="straight" if mask and bits == 32 else None, end=len(data)
    )


def _avif(data: bytes) -> Header:
    return _heif(data, "AVIF")


def _heic(data: bytes) -> Header:
    return _heif(data, "HEIC")


def _heif(data: bytes, name: Format) -> Header:
    start, end = _box(data, 0, len(data), b"meta")
    start, end = _box(data, start + 4, end, b"iprp")
    properties = list(_boxes(data, *_box(data, start, end, b"ipco")))
    # A thumbnail, an alpha plane and tiles have sizes too; none is larger than the picture.
    sizes = [
        unpack_from(">II", data, start + 4) for kind, start, _ in properties if kind == b"ispe"
    ]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if name == "HEIC":  # libheif crops; libavif leaves it to others, who do not
        for start in (start for kind, start, _ in properties if kind == b"clap"):
            across, per_width, down, per_height = unpack_from(">4I", data, start)
            width, height = across // per_width, down // per_height
    turn = next((data[start] & 3 for kind, start, _ in properties if kind == b"irot"), 0)
    axis = next((data[start] & 1 for kind, start, _ in properties if kind == b"imir"), None)
    has_alpha = any(
        kind == b"auxC" and data[start + 4 : end].rstrip(b"\0").endswith((b":alpha", b":auxid:1"))
        for kind, start, end in properties
    )
    # High bit depth and twelve bits, in the configuration of the AV1 decoder.
    depths = {data[start + 2] >> 5 & 3 for kind, start, _ in properties if kind == b"av1C"}
    return Header(
        name,
        width,
        height,
        _HEIF_ORIENTATIONS[axis][turn],
        bits={2: 10, 3: 12}.get(max(depths, default=0), 8),
        alpha="straight" if has_alpha else None,
        end=len(data),
    )


def _boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, first byte and end of the contents of each ISO base media box."""
    while start + 8 <= stop:
        length, kind = unpack_from(">I4s", data, start)
        body = start + 8
        if length == 1:
            (length,) = unpack_from(">Q", data, body)
            body += 8
        end = start + length if length else stop
        if end < body:
            raise ValueError
        yield kind, body, min(end, stop)
        start = end


def _box(data: bytes, start: int, stop: int, wanted: bytes) -> tuple[int, int]:
    return next(box[1:] for box in _boxes(data, start, stop) if box[0] == wanted)


_FORMATS = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), _jpeg),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    ("WebP", re.compile(rb"(?s)RIFF.{4}WEBP"), _webp),
    ("GIF", re.compile(rb"GIF8[79]a"), _gif),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), _tiff),
    # Its own signature is two letters: ask for a header size that there is, too.
    ("BMP", re.compile(rb"(?s)BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"), _bmp),
    ("AVIF", re.compile(rb"(?s).{4}ftyp(?:.{4}){0,15}?avi[fs]"), _avif),
    ("HEIC", re.compile(rb"(?s).{4}ftyp(?:.{4}){0,15}?(?:hei[cmsx]|hev[cx]|mif1|msf1)"), _heic),
)
