"""Tags of TIFF files and of EXIF blocks, which have the same layout (TIFF 6.0, Exif 2.32)."""

from __future__ import annotations

import struct
from struct import unpack_from

__all__ = ["ORIENTATION", "exif_orientation", "tiff_tags"]

ORIENTATION = 0x0112
# width, height, bits, photometric, samples, extra samples, orientation
_TIFF_TAGS = frozenset({0x0100, 0x0101, 0x0102, 0x0106, 0x0115, 0x0152, ORIENTATION})
_TIFF_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


def exif_orientation(exif: bytes) -> int:
    """Return the orientation of an EXIF block; 1 where it has none or is damaged."""
    try:
        orientation = tiff_tags(exif.removeprefix(b"Exif\0\0"))[ORIENTATION][0]
    except (struct.error, LookupError, OverflowError):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def tiff_tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """Return the tags of `_TIFF_TAGS` in the first directory."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    is_big = unpack_from(order + "H", data, 2)[0] == 43
    word, entry = ("Q", order + "HHQ8s") if is_big else ("I", order + "HHI4s")
    (start,) = unpack_from(order + word, data, 8 if is_big else 4)
    (entries,) = unpack_from(order + ("Q" if is_big else "H"), data, start)
    start += 8 if is_big else 2
    tags = {}
    for position in range(min(entries, 4096)):  # sorted: those of interest come early
        tag, kind, count, value = unpack_from(
            entry, data, start + position * struct.calcsize(entry)
        )
        if tag not in _TIFF_TAGS or kind not in _TIFF_INTEGERS or not 1 <= count <= 16:
            continue
        layout = f"{order}{count}{_TIFF_INTEGERS[kind]}"
        if struct.calcsize(layout) > len(value):  # too long to stand in its entry
            (at,) = unpack_from(order + word, value)
            tags[tag] = unpack_from(layout, data, at)
        else:
            tags[tag] = unpack_from(layout, value)
    return tags
