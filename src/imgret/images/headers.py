"""Headers of image files: size, orientation and the like, read without decoding.

Specifications: JPEG ITU-T T.81; PNG W3C; GIF89a; WebP RFC 9649; TIFF 6.0 and BigTIFF; BMP as
in the Windows ``BITMAPINFOHEADER`` family; HEIF ISO/IEC 23008-12; AVIF AOMedia; the orientation
tag Exif 2.32.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from struct import unpack_from
from typing import Literal, TypeAlias

from imgret.errors import ImageCorruptError, ImageFormatError, ImageUnsupportedError
from imgret.images import bmp
from imgret.images.av1 import largest_frame
from imgret.images.exif import (
    ORIENTATION,
    exif_orientation,
    is_tiff,
    tiff_profile,
    tiff_tags,
)
from imgret.images.ground import Alpha
from imgret.images.heif import is_film, read_items
from imgret.images.icc import coded_profile
from imgret.images.jpeg import read_segments
from imgret.images.png import read_chunks
from imgret.images.raw import is_raw, open_raw
from imgret.images.tiff_page import HEADER_TAGS, alpha_band

__all__ = ["Format", "Header", "header", "preview_orientation"]

Format: TypeAlias = Literal["JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP", "AVIF", "HEIC", "RAW"]

_JPEG_KINDS = {0xC3: "lossless", 0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded progressive"}
# Kinds of items that libheif and libavif decode; items of old files have no kind.
_HEIF_KINDS = {
    "HEIC": {b"", b"hvc1", b"hev1", b"av01", b"grid", b"iden", b"iovl"},
    "AVIF": {b"", b"av01", b"grid"},
}
# EXIF orientation by HEIF mirror axis (None, top to bottom, left to right) and quarter turns.
_HEIF_ORIENTATIONS = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}


@dataclass(frozen=True, slots=True)
class Header:
    """Header of an image file.

    Attributes
    ----------
    format : {"JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP", "AVIF", "HEIC", "RAW"}
    width, height : int
        Size in pixels as stored, before the orientation is applied; at least 1. With several
        frames or pages, that of the first frame's canvas or the first page.
    orientation : int
        EXIF orientation, 1 (upright) to 8.
    bits : int
        Bits per channel.
    alpha : {None, "straight", "premultiplied"}
        Form in which the decoder returns colour with alpha; None without alpha.
    transparent : int or None
        Grey level of a PNG, at its own bit depth, that stands for transparency.
    end : int or None
        Offset after the last byte of the first image; None if the data end before it. For a
        format that does not say, the length of the data.
    exif : bytes
        EXIF block of a JPEG, PNG, WebP, TIFF, AVIF or HEIC, the first if there are several;
        empty if there is none.
    profile : bytes
        ICC profile of the colours, or one made from other data in the file (``cICP``,
        ``gAMA`` and ``cHRM`` of PNG, ``nclx`` of AVIF and HEIC); empty for sRGB.
    channels : int
        1 for grey, 3 for colour, 4 for CMYK, alpha not counted.
    buffered : bool
        Whether a decoder must hold all of a JPEG at any scale, as for progressive JPEGs and those
        with several scans.
    scans : int
        Number of scans of a JPEG that a decoder reads, each of which goes over the whole image.
    coded : tuple of int
        Width and height in pixels of the largest frame in an AVIF, if it is larger than the
        container says: a decoder allocates it before it notices. Otherwise ``(0, 0)``.
    unsupported : str
        Description of a kind of file that no decoder is known to support; empty for a file of
        an ordinary kind.
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
    profile: bytes = field(default=b"", repr=False, compare=False)
    channels: int = 3
    buffered: bool = False
    scans: int = 1
    coded: tuple[int, int] = (0, 0)
    unsupported: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the image as shown, orientation applied."""
        shown = (self.width, self.height)
        return shown if self.orientation < 5 else shown[::-1]


def header(data: bytes, *, path: Path | str | None = None) -> Header:
    """Read the header of an image.

    Parameters
    ----------
    data : bytes
        The whole file.
    path : Path, optional
        Path to name in errors.

    Raises
    ------
    ImageFormatError
        The data are not an image, or are of an unknown format.
    ImageUnsupportedError
        The image may be valid, but is a JPEG that gives its height after the first scan, or an
        AVIF or HEIC with only an image sequence.
    ImageCorruptError
        There are no data, or the header is truncated or contradicts itself.
    MissingExtraError
        The image is a RAW photograph and ``rawpy`` is not installed.
    """
    if not data:
        raise ImageCorruptError("the file is empty (0 bytes)", path)
    name, parse = next(
        ((name, parse) for name, begins, parse in _FORMATS if begins.match(data)), ("", None)
    )
    if name not in _NEVER_RAW and is_raw(data):
        return _raw(data, path)
    if parse is None:
        raise ImageFormatError(
            f"expected an image (JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, HEIC or RAW), found data "
            f"that begin with {data[:16]!r}",
            path,
        )
    try:
        found = parse(data)
    except (struct.error, LookupError, ValueError, ArithmeticError, StopIteration) as error:
        if name in {"AVIF", "HEIC"} and is_film(data):
            raise ImageUnsupportedError(
                f"expected an {name} of a still image, found one with only a sequence of "
                f"images; save the frame you want as PNG or JPEG",
                path,
            ) from error
        raise ImageCorruptError(
            f"the {name} header is damaged or cut short after {len(data)} bytes", path
        ) from error
    if found.format == "JPEG" and found.width and not found.height:
        raise ImageUnsupportedError(
            "expected a JPEG that gives its height in the frame header, found one that gives it "
            "after the first scan; save it as PNG or JPEG",
            path,
        )
    if found.width < 1 or found.height < 1:
        raise ImageCorruptError(
            f"the {name} header gives a size of {found.width} x {found.height} pixels", path
        )
    return found


def _raw(data: bytes, path: Path | str | None) -> Header:
    """Return the header of what is decoded: of the preview, or of the developed image."""
    from imgret.images.isolation import active  # noqa: PLC0415  # which asks this module

    exif = data if is_tiff(data) else b""
    if (workers := active()) is not None:
        found = workers.header(data, path=path)
        return replace(found, exif=found.exif or exif)
    raw = open_raw(data, path=path)
    if not raw.preview:
        return Header("RAW", *raw.size, end=len(data), exif=exif)
    preview = header(raw.preview, path=path)
    return replace(
        preview,
        format="RAW",
        orientation=preview_orientation(preview, raw.orientation),
        end=len(data),
        exif=exif or preview.exif,
    )


def preview_orientation(preview: Header, otherwise: int) -> int:
    """Return the orientation of an embedded preview, which may have none of its own."""
    try:
        tiff_tags(preview.exif.removeprefix(b"Exif\0\0"))[ORIENTATION]
    except (struct.error, LookupError, OverflowError):
        is_upright = otherwise > 4 and preview.width < preview.height
        return 1 if is_upright else otherwise
    return preview.orientation


def _jpeg(data: bytes) -> Header:
    found = read_segments(data)
    bits, height, width, channels = found.frame
    unsupported = ""
    if found.kind not in {0xC0, 0xC1, 0xC2}:
        unsupported = f"{_JPEG_KINDS.get(found.kind, 'hierarchical')} JPEG"
    elif bits != 8:
        unsupported = f"JPEG of {bits} bits per channel"
    elif channels not in {1, 3, 4}:
        unsupported = f"JPEG of {channels} channels"
    return Header(
        "JPEG",
        width,
        height,
        exif_orientation(found.exif, found.xmp),
        bits=bits,
        end=len(data) if found.complete else None,
        exif=found.exif,
        profile=found.profile,
        channels=channels,
        buffered=found.is_buffered,
        scans=found.scans,
        unsupported=unsupported,
    )


def _png(data: bytes) -> Header:
    width, height, bits, color = unpack_from(">II2B", data, 16)
    if data[12:16] != b"IHDR":
        raise ValueError
    found = read_chunks(data)
    level = found.first.get(b"tRNS")
    has_level = level is not None and color == 0  # OpenCV drops this transparency
    has_alpha = color in {4, 6} or (level is not None and not has_level)
    return Header(
        "PNG",
        width,
        height,
        exif_orientation(found.exif, found.xmp),
        bits,
        "straight" if has_alpha else None,
        int.from_bytes(level[:2], "big") if level is not None and has_level else None,
        found.end,
        found.exif,
        found.profile,
        channels=1 if color in {0, 4} else 3,
    )


def _webp(data: bytes) -> Header:
    width = height = 0
    exif, xmp, profile, has_alpha, start = b"", b"", b"", False, 12
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
            exif = exif or data[start : start + length]
        elif kind == b"XMP ":
            xmp = xmp or data[start : start + length]
        elif kind == b"ICCP":
            profile = profile or data[start : start + length]
        start += length + (length & 1)
    return Header(
        "WebP",
        width,
        height,
        exif_orientation(exif, xmp),
        alpha="straight" if has_alpha else None,
        end=stop if stop <= len(data) else None,
        exif=exif,
        profile=profile,
    )


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
    """Return the size of a colour table in bytes."""
    return 6 << (flags & 7) if flags & 0x80 else 0


def _tiff(data: bytes) -> Header:
    tags = tiff_tags(data, HEADER_TAGS)
    orientation, alpha = tags.get(ORIENTATION, (1,))[0], alpha_band(tags)
    return Header(
        "TIFF",
        tags[0x0100][0],
        tags[0x0101][0],
        orientation if 1 <= orientation <= 8 else 1,
        bits=max(tags.get(0x0102, (1,))),
        alpha=alpha[1] if alpha else None,
        end=len(data),
        exif=data,
        profile=tiff_profile(data),
        channels={0: 1, 1: 1, 5: 4}.get(tags.get(0x0106, (2,))[0], 3),
    )


def _bmp(data: bytes) -> Header:
    (size,) = unpack_from("<I", data, 14)
    if size == 12:
        width, height, _, bits = unpack_from("<HHHH", data, 18)
        return Header("BMP", width, height, end=len(data), unsupported=_bmp_kind(bits, 0, size))
    width, height, _, bits, compression = unpack_from("<iiHHI", data, 18)
    return Header(
        "BMP",
        width,
        abs(height),  # negative if stored from the top
        alpha="straight" if bmp.alpha_mask(data) else None,
        end=len(data),
        unsupported=_bmp_kind(bits, compression, size),
    )


def _bmp_kind(bits: int, compression: int, size: int) -> str:
    """Return what is unusual about a BMP."""
    fits = {0: {1, 4, 8, 16, 24, 32}, 1: {8}, 2: {4}, 3: {16, 32}, 6: {16, 32}}
    if size != 64 and compression in fits:
        return "" if bits in fits[compression] else f"BMP of {bits} bits per pixel"
    if size == 64 and compression in {0, 1, 2}:
        return ""
    name = {4: "RLE24" if size == 64 else "JPEG", 5: "PNG", 11: "CMYK", 12: "CMYK", 13: "CMYK"}
    return f"BMP of compression {name.get(compression, compression)}, {bits} bits per pixel"


def _avif(data: bytes) -> Header:
    return _heif(data, "AVIF")


def _heic(data: bytes) -> Header:
    return _heif(data, "HEIC")


def _heif(data: bytes, name: Format) -> Header:
    items = read_items(data)
    properties, own = items.properties, items.of(items.primary)
    # A thumbnail, an alpha plane and tiles have sizes too; none is larger than the image.
    sizes = [
        unpack_from(">II", data, start + 4) for kind, start, _ in properties if kind == b"ispe"
    ]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if name == "HEIC":  # libheif crops; libavif leaves it to its caller, which does not
        for start in (start for kind, start, _ in own if kind == b"clap"):
            across, per_width, down, per_height = unpack_from(">4I", data, start)
            width, height = across // per_width, down // per_height
    # These count, and libheif applies them; an orientation in EXIF is for information only.
    turn = next((data[start] & 3 for kind, start, _ in own if kind == b"irot"), 0)
    axis = next((data[start] & 1 for kind, start, _ in own if kind == b"imir"), None)
    has_alpha = any(
        kind == b"auxC" and data[start + 4 : end].rstrip(b"\0").endswith((b":alpha", b":auxid:1"))
        for kind, start, end in properties
    )
    # The configuration of the AV1 decoder flags high bit depth, twelve bits and monochrome.
    depths = {data[start + 2] >> 5 & 3 for kind, start, _ in properties if kind == b"av1C"}
    grays = {
        data[start + 2] >> 4 & 1
        for item in items.shown
        for kind, start, _ in items.of(item)
        if kind == b"av1C"
    }
    kind = items.kinds.get(items.primary, b"")
    frames, left = [], 2 * len(data)
    for item, coding in items.kinds.items():
        if coding in {b"av01", b""}:  # old files do not say
            stream = items.contents(data, item)
            left -= len(stream)
            # Items of ordinary files do not share their data, so they are in here once.
            frames.append(largest_frame(stream) if left >= 0 else (1 << 16, 1 << 16))
            if left < 0:
                break
    coded = max(frames, key=lambda size: size[0] * size[1], default=(0, 0))
    is_usual = kind in _HEIF_KINDS[name]
    return Header(
        name,
        width,
        height,
        _HEIF_ORIENTATIONS[axis][turn],
        bits={2: 10, 3: 12}.get(max(depths, default=0), 8),
        alpha="straight" if has_alpha else None,
        end=len(data),
        exif=items.exif(data),
        profile=_heif_profile(data, own),
        channels=1 if grays == {1} else 3,
        coded=coded if coded[0] * coded[1] > width * height else (0, 0),
        unsupported="" if is_usual else f"{name} of an item of kind {kind.decode('latin-1')!r}",
    )


def _heif_profile(data: bytes, properties: list[tuple[bytes, int, int]]) -> bytes:
    profile = b""
    for kind, start, end in properties:
        if kind == b"colr" and data[start : start + 4] in {b"prof", b"rICC"}:
            return data[start + 4 : end]  # takes precedence over code points
        if kind == b"colr" and data[start : start + 4] == b"nclx":
            profile = coded_profile(*unpack_from(">HH", data, start + 4))
    return profile


_FORMATS = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), _jpeg),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    ("WebP", re.compile(rb"(?s)RIFF.{4}WEBP"), _webp),
    ("GIF", re.compile(rb"GIF8[79]a"), _gif),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), _tiff),
    # Its signature is only two letters, so a known header size is required, too.
    ("BMP", re.compile(rb"(?s)BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"), _bmp),
    ("AVIF", re.compile(rb"(?s).{4}ftyp(?:.{4}){0,15}?avi[fs]"), _avif),
    ("HEIC", re.compile(rb"(?s).{4}ftyp(?:.{4}){0,15}?(?:hei[cmsx]|hev[cx]|mif1|msf1)"), _heic),
)
_NEVER_RAW = {"JPEG", "PNG", "WebP", "GIF", "BMP"}
