"""Tags of TIFF files and of EXIF blocks, which have the same layout (TIFF 6.0, Exif 2.32)."""

from __future__ import annotations

import re
import struct
from datetime import datetime
from struct import unpack_from
from typing import Any

__all__ = [
    "ORIENTATION",
    "exif_facts",
    "exif_orientation",
    "is_tiff",
    "tiff_profile",
    "tiff_tags",
]

ORIENTATION = 0x0112
_PROFILE = 0x8773
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
_TIFF_FRACTIONS = frozenset({529, 532})  # YCbCr coefficients, black and white levels
_ASCII, _INTEGERS, _RATIONAL = 2, {4, 13}, 5  # 13 is only for offsets
_MAKE, _MODEL, _DATE, _EXIF, _GPS = 0x010F, 0x0110, 0x0132, 0x8769, 0x8825
_DATE_TAKEN, _DATE_DIGITIZED, _OFFSET_TAKEN, _OFFSET_DIGITIZED = 0x9003, 0x9004, 0x9011, 0x9012
_TEXT_BYTES = 256  # longer texts are ignored
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([0-9])")


def exif_orientation(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation of an EXIF block; 1 if it has none or is damaged.

    If EXIF has none, the one in XMP counts, where some macOS programs write it. Pillow does the
    same.
    """
    try:
        orientation = tiff_tags(exif.removeprefix(b"Exif\0\0"))[ORIENTATION][0]
    except (struct.error, LookupError, OverflowError):
        found = _XMP_ORIENTATION.search(xmp)
        orientation = int(found[1]) if found else 1
    return orientation if 1 <= orientation <= 8 else 1


def is_tiff(data: bytes) -> bool:
    """Whether data begin like an EXIF block or a TIFF file."""
    return data[:4] in {b"II*\0", b"MM\0*"}


def tiff_tags(
    data: bytes, wanted: frozenset[int] = frozenset({ORIENTATION})
) -> dict[int, tuple[Any, ...]]:
    """Return the numbers of the wanted tags in the first directory.

    If a tag occurs twice, the first one counts, as in libtiff.
    """
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    is_big = unpack_from(order + "H", data, 2)[0] == 43
    word, entry = ("Q", order + "HHQ8s") if is_big else ("I", order + "HHI4s")
    (start,) = unpack_from(order + word, data, 8 if is_big else 4)
    (entries,) = unpack_from(order + ("Q" if is_big else "H"), data, start)
    start += 8 if is_big else 2
    tags: dict[int, tuple[Any, ...]] = {}
    for position in range(min(entries, 4096)):  # tags are sorted: those wanted come early
        tag, kind, count, value = unpack_from(
            entry, data, start + position * struct.calcsize(entry)
        )
        if tag not in wanted or tag in tags or not 1 <= count <= len(data):
            continue
        if kind in _TIFF_NUMBERS:
            layout = f"{order}{count}{_TIFF_NUMBERS[kind]}"
        elif kind == _RATIONAL and tag in _TIFF_FRACTIONS:
            layout = f"{order}{2 * count}I"
        else:
            continue
        if struct.calcsize(layout) > len(value):  # too long for its entry
            (at,) = unpack_from(order + word, value)
            numbers = unpack_from(layout, data, at)
        else:
            numbers = unpack_from(layout, value)
        if kind == _RATIONAL:
            if 0 in numbers[1::2]:
                continue
            numbers = tuple(a / b for a, b in zip(numbers[::2], numbers[1::2], strict=True))
        tags[tag] = numbers
    return tags


def tiff_profile(data: bytes) -> bytes:
    """Return the ICC profile in the first directory of a TIFF; empty if there is none."""
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        is_big = unpack_from(order + "H", data, 2)[0] == 43
        word, size = ("Q", 20) if is_big else ("I", 12)
        (start,) = unpack_from(order + word, data, 8 if is_big else 4)
        (entries,) = unpack_from(order + ("Q" if is_big else "H"), data, start)
        start += 8 if is_big else 2
        for at in range(start, start + size * min(entries, 4096), size):
            if unpack_from(order + "H", data, at)[0] == _PROFILE:
                count, where = unpack_from(order + 2 * word, data, at + 4)
                return data[where : where + count]
    except (struct.error, LookupError, OverflowError):
        pass
    return b""


def exif_facts(exif: bytes) -> dict[str, Any]:
    """Return the date, camera and location of an image from its EXIF block.

    Missing, damaged and impossible values are left out.

    Parameters
    ----------
    exif : bytes
        EXIF block, with or without the leading ``Exif`` and two zero bytes.

    Returns
    -------
    dict
        ``date`` (ISO 8601, local time, with the offset from UTC if it is known), ``make``
        and ``model`` of the camera, ``latitude`` and ``longitude`` (degrees, north and east
        positive).
    """
    exif = exif.removeprefix(b"Exif\0\0")
    main = _directory(exif, None)
    taken = _directory(exif, main.get(_EXIF))
    place = _directory(exif, main.get(_GPS))
    facts: dict[str, Any] = {
        "date": _date(taken.get(_DATE_TAKEN), taken.get(_OFFSET_TAKEN))
        or _date(taken.get(_DATE_DIGITIZED), taken.get(_OFFSET_DIGITIZED))
        or _date(main.get(_DATE), None),
        "make": _text(main.get(_MAKE)),
        "model": _text(main.get(_MODEL)),
    }
    latitude = _degrees(place.get(2), place.get(1), "NS", 90.0)
    longitude = _degrees(place.get(4), place.get(3), "EW", 180.0)
    if latitude is not None and longitude is not None:  # one alone is not a location
        facts |= {"latitude": latitude, "longitude": longitude}
    return {name: value for name, value in facts.items() if value is not None}


def _directory(data: bytes, start: object) -> dict[int, Any]:
    """Return the texts, integers and lists of fractions of a directory, by default the first."""
    tags: dict[int, Any] = {}
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        if unpack_from(order + "H", data, 2)[0] != 42:
            return tags
        if start is None:
            (start,) = unpack_from(order + "I", data, 4)
        if not isinstance(start, int):
            return tags
        (entries,) = unpack_from(order + "H", data, start)
    except (struct.error, LookupError):
        return tags
    for position in range(min(entries, 4096)):
        try:
            at = start + 2 + 12 * position
            tag, kind, count = unpack_from(order + "HHI", data, at)
            if kind == _ASCII and count <= _TEXT_BYTES:
                where = at + 8 if count <= 4 else unpack_from(order + "I", data, at + 8)[0]
                (tags[tag],) = unpack_from(f"{count}s", data, where)
            elif kind in _INTEGERS and count == 1:
                (tags[tag],) = unpack_from(order + "I", data, at + 8)
            elif kind == _RATIONAL and count == 3:
                (where,) = unpack_from(order + "I", data, at + 8)
                numbers = unpack_from(order + "6I", data, where)
                tags[tag] = [a / b for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
        except (struct.error, ArithmeticError):
            continue
    return tags


def _text(raw: object) -> str | None:
    if not isinstance(raw, bytes):
        return None
    text = raw.split(b"\0")[0].decode("utf-8", "replace")
    return "".join(letter for letter in text if letter.isprintable()).strip() or None


def _date(raw: object, offset: object) -> str | None:
    """Convert ``2024:05:01 12:30:00`` and ``+02:00`` to ISO 8601."""
    text, zone = _text(raw), _text(offset)
    try:
        date = datetime.strptime(text or "", "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007  # cameras know no more
    except ValueError:
        return None
    try:
        return datetime.fromisoformat(f"{date.isoformat()}{zone or ''}").isoformat()
    except ValueError:
        return date.isoformat()


def _degrees(parts: object, reference: object, signs: str, most: float) -> float | None:
    """Return degrees, minutes and seconds as a number, negative south and west."""
    side = (_text(reference) or "?")[0]
    if not isinstance(parts, list) or side not in signs:
        return None
    degrees: float = parts[0] + parts[1] / 60 + parts[2] / 3600
    if degrees > most:
        return None
    return round(-degrees if side == signs[1] else degrees, 7)
