"""Segments of a JPEG before its first scan (ITU-T T.81; Exif 2.32; ICC.1 annex B.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from struct import unpack_from

from imgret.images.exif import is_tiff

__all__ = ["Segments", "read_segments"]

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn, less DHT, JPG, DAC
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_ICC = b"ICC_PROFILE\0"
_FEW_SCANS = 30
# What ends the data of a scan: neither an escaped 0xFF nor a restart.
_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])")


@dataclass(slots=True)
class Segments:
    """Contents of the segments of a JPEG.

    Attributes
    ----------
    kind : int
        Marker of the frame: 0xC0 and 0xC1 sequential, 0xC2 progressive.
    frame : tuple of int
        Bits per channel, height, width, number of channels.
    first_scan : int
        Number of channels in the first scan.
    scans : int
        Number of scans that a decoder reads.
    complete : bool
        Whether the data contain the end of the image.
    exif : bytes
        The first EXIF block, joined with the segments that continue it.
    xmp : bytes
    """

    kind: int = 0
    frame: tuple[int, int, int, int] = (0, 0, 0, 0)
    first_scan: int = 0
    scans: int = 1
    complete: bool = False
    exif: bytes = b""
    xmp: bytes = b""
    _profile: dict[int, bytes] = field(default_factory=dict)
    _parts: int = 0
    _continues: bool = True

    @property
    def is_buffered(self) -> bool:
        """Whether a decoder reads several scans, and holds the whole image meanwhile."""
        return self.kind in _PROGRESSIVE or self.first_scan < self.frame[3]

    @property
    def profile(self) -> bytes:
        """The ICC profile, its parts in the order of their numbers; empty if one is missing."""
        numbers = range(1, self._parts + 1)
        if any(number not in self._profile for number in numbers):
            return b""
        return b"".join(self._profile[number] for number in numbers)

    def take(self, marker: int, body: bytes) -> None:
        """Read a segment."""
        if marker in _FRAMES:
            self.kind, self.frame = marker, unpack_from(">BHHB", body)
        elif marker == 0xE1 and body.startswith(b"Exif\0"):
            self._take_exif(body[6:])
        elif marker == 0xE1 and body.startswith(_XMP):
            self.xmp = self.xmp or body[len(_XMP) :]
        elif marker == 0xE2 and body.startswith(_ICC) and len(body) > 14:
            self._profile.setdefault(body[12], body[14:])
            self._parts = self._parts or body[13]

    def _take_exif(self, body: bytes) -> None:
        """Read the first block, and the segments that continue it."""
        if is_tiff(body):
            self._continues = not self.exif
            self.exif = self.exif or body
        elif self.exif and self._continues:
            self.exif += body


def read_segments(data: bytes) -> Segments:
    """Read the segments up to the first scan.

    Raises
    ------
    ValueError, LookupError, struct.error
        There is no frame, or the data end before it.
    """
    found, start = Segments(), 2
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
        found.take(marker, data[start + 2 : start + length])
        start += length
    if not found.kind:
        raise ValueError
    found.first_scan = data[start + 2]
    if found.is_buffered:  # otherwise libjpeg ends after the first scan
        # More than in any usual file may be bytes of something else: then they are counted well.
        if (scans := 1 + data.count(b"\xff\xda", start)) > _FEW_SCANS:
            scans = _count_scans(data, start + length)
        found.scans = scans
    # Scans escape 0xFF, so this marker can only be at the end.
    found.complete = data.rfind(b"\xff\xd9", start) >= 0
    return found


def _count_scans(data: bytes, start: int) -> int:
    """Return the number of scans of the first image, from the data of its first scan on."""
    scans = 1
    while (marker := _MARKER.search(data, start)) is not None and marker[1] != b"\xd9":
        scans += marker[1] == b"\xda"
        start = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans
