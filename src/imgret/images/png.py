"""Chunks of a PNG and the metadata in them (W3C PNG, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import unpack_from

from imgret.images.exif import is_tiff
from imgret.images.icc import MOST_BYTES, SRGB, Primaries, coded_profile, make_profile

__all__ = ["Chunks", "png_chunks", "read_chunks"]

_FIRST = {b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", b"tRNS"}
_RAW_EXIF = {b"Raw profile type exif", b"Raw profile type APP1"}
_XMP = b"XML:com.adobe.xmp"
_TEXT_BYTES = 1 << 20  # limit for an unpacked text


@dataclass(slots=True)
class Chunks:
    """Contents of the chunks of a PNG.

    Attributes
    ----------
    first : dict of bytes to bytes
        Contents of the first chunk of each kind that is used.
    xmp : bytes
    end : int or None
        Offset after the last byte; None if the data end before it.
    """

    first: dict[bytes, bytes] = field(default_factory=dict)
    xmp: bytes = b""
    end: int | None = None
    _raw_exif: bytes = b""

    @property
    def exif(self) -> bytes:
        """The EXIF block from ``eXIf``, or else from a text, where old ImageMagick wrote it."""
        return self.first.get(b"eXIf") or self._raw_exif

    @property
    def profile(self) -> bytes:
        """The ICC profile, or one made from other chunks; empty for sRGB.

        The order of precedence is ``cICP``, ``iCCP``, ``sRGB``, then ``gAMA`` and ``cHRM``.
        """
        try:
            if b"cICP" in self.first:
                return coded_profile(*unpack_from("BB", self.first[b"cICP"]))
            if b"iCCP" in self.first:
                packed = self.first[b"iCCP"].partition(b"\0")[2][1:]
                return _inflate(packed, MOST_BYTES)
            if b"sRGB" in self.first or b"gAMA" not in self.first:
                return b""
            return self._made_profile()
        except (struct.error, ValueError, ArithmeticError):
            return b""

    def _made_profile(self) -> bytes:
        """Return a profile made from ``gAMA`` and ``cHRM``."""
        gamma = 100_000 / unpack_from(">I", self.first[b"gAMA"])[0]
        points: Primaries = SRGB
        if b"cHRM" in self.first:
            white_x, white_y, *colors = (
                n / 100_000 for n in unpack_from(">8I", self.first[b"cHRM"])
            )
            told = (*colors, white_x, white_y)
            if max(abs(a - b) for a, b in zip(told, SRGB, strict=True)) > 0.005:
                points = told
        # Most files that say 1/2.2 mean the curve of sRGB; libpng also ignores differences of 5 %.
        curve = None if abs(gamma / 2.2 - 1) < 0.05 else gamma
        if (curve is None and points == SRGB) or not 0.2 < gamma < 5:
            return b""
        return make_profile(points, curve)

    def take_text(self, kind: bytes, body: bytes) -> None:
        """Read a text, if its keyword is one that is used."""
        name, _, rest = body.partition(b"\0")
        if name not in _RAW_EXIF and name != _XMP:
            return
        packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
        if kind == b"zTXt":
            rest = rest[1:]
        elif kind == b"iTXt":
            rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # language and translation
        text = _inflate(rest, _TEXT_BYTES) if packed else rest
        if name == _XMP:
            self.xmp = self.xmp or text
        else:
            self._raw_exif = self._raw_exif or _from_digits(text)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, first byte and length of the contents of each chunk up to IEND.

    Ends early if the data do.
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


def read_chunks(data: bytes) -> Chunks:
    """Read the chunks that are used."""
    found = Chunks()
    for kind, start, length in png_chunks(data):
        if kind in _FIRST:
            found.first.setdefault(kind, data[start : start + length])
        elif kind in {b"tEXt", b"zTXt", b"iTXt"}:
            found.take_text(kind, data[start : start + length])
        elif kind == b"IEND":
            found.end = start + 4
    return found


def _inflate(data: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return b""


def _from_digits(text: bytes) -> bytes:
    """Return the EXIF block of a raw profile: its name, its length, hexadecimal digits."""
    try:
        _, _, digits = text.strip().split(b"\n", 2)
        block = bytes.fromhex(digits.decode("ascii")).removeprefix(b"Exif\0\0")
    except ValueError:
        return b""
    return block if is_tiff(block) else b""
