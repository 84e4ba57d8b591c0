"""Boxes of HEIF files (HEIC and AVIF): items, their locations and their properties.

Specifications: ISO/IEC 14496-12 (boxes, ``iloc``, ``iinf``, ``iref``), ISO/IEC 23008-12 (HEIF),
AV1-ISOBMFF (``av1C``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import error, unpack_from

__all__ = ["Items", "boxes", "is_film", "read_items"]

_MOST = 10_000  # items, properties and extents that are read


@dataclass(slots=True)
class Items:
    """Contents of the ``meta`` box of a file.

    Attributes
    ----------
    primary : int
        Id of the item to show; 0 if the file does not say.
    kinds : dict of int to bytes
        Four-letter kind of each item: ``b"hvc1"``, ``b"av01"``, ``b"grid"``, ``b"Exif"``, ...
    references : list of (bytes, int, tuple of int)
        Kind, source item and target items.
    properties : list of (bytes, int, int)
        Kind, first byte and end of the contents of each property.
    owned : dict of int to list of int
        Positions in `properties` of the properties of each item.
    """

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    references: list[tuple[bytes, int, tuple[int, ...]]] = field(default_factory=list)
    properties: list[tuple[bytes, int, int]] = field(default_factory=list)
    owned: dict[int, list[int]] = field(default_factory=dict)
    _extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def of(self, item: int) -> list[tuple[bytes, int, int]]:
        """Return the properties of an item; all properties if none are assigned to it."""
        own = self.owned.get(item)
        if own is None:
            return self.properties
        return [self.properties[at] for at in own if 0 <= at < len(self.properties)]

    @property
    def shown(self) -> set[int]:
        """Ids of the items that make up the image, without auxiliary items and thumbnails."""
        beside = {source for kind, source, _ in self.references if kind in {b"auxl", b"thmb"}}
        return set(self.owned) - beside

    def contents(self, data: bytes, item: int) -> bytes:
        """Return the bytes of an item, as many as there are in the file; empty if none are."""
        parts, left = [], len(data)
        for start, length in self._extents.get(item, []):
            parts.append(data[start : start + min(length or left, left)])
            left -= len(parts[-1])
            if left <= 0:  # extents that overlap would fill memory
                break
        return b"".join(parts)

    def exif(self, data: bytes) -> bytes:
        """Return the EXIF block, beginning with its TIFF header; empty if there is none."""
        for item, kind in self.kinds.items():
            if kind == b"Exif":
                block = self.contents(data, item)
                begin = 4 + int.from_bytes(block[:4], "big")
                return block[begin:].removeprefix(b"Exif\0\0")
        return b""


def boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
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


def read_items(data: bytes) -> Items:
    """Read the ``meta`` box.

    Raises
    ------
    StopIteration, ValueError, struct.error, LookupError
        There is no image, or the boxes are damaged.
    """
    items = Items()
    start, stop = _box(data, 0, len(data), b"meta")
    children = list(boxes(data, start + 4, stop))
    inside = next((body for kind, body, _ in children if kind == b"idat"), 0)
    for kind, body, end in children:
        if kind == b"pitm":
            items.primary = _number(data, body + 4, 4 if data[body] else 2)
        elif kind == b"iinf":
            _read_kinds(data, body, end, items)
        elif kind == b"iref":
            _read_references(data, body, end, items)
        elif kind == b"iloc":
            _read_extents(data, body, end, inside, items)
        elif kind == b"iprp":
            items.properties = list(boxes(data, *_box(data, body, end, b"ipco")))[:_MOST]
            for name, first, last in boxes(data, body, end):
                if name == b"ipma":
                    _read_owned(data, first, last, items)
    return items


def is_film(data: bytes) -> bool:
    """Whether a file has tracks and no still image."""
    try:
        kinds = {kind for kind, _, _ in boxes(data, 0, len(data))}
    except (ValueError, error):
        return False
    return b"moov" in kinds and b"meta" not in kinds


def _box(data: bytes, start: int, stop: int, wanted: bytes) -> tuple[int, int]:
    return next(box[1:] for box in boxes(data, start, stop) if box[0] == wanted)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _read_kinds(data: bytes, body: int, end: int, items: Items) -> None:
    first = body + (6 if data[body] == 0 else 8)
    for kind, start, _ in boxes(data, first, end):
        if kind == b"infe" and data[start] >= 2:  # older versions have no four-letter kind
            wide = 2 if data[start] == 2 else 4
            name = data[start + 6 + wide : start + 10 + wide]
            items.kinds[_number(data, start + 4, wide)] = name


def _read_references(data: bytes, body: int, end: int, items: Items) -> None:
    wide = 4 if data[body] else 2
    for kind, start, stop in boxes(data, body + 4, end):
        source = _number(data, start, wide)
        targets = range(start + wide + 2, stop - wide + 1, wide)[:_MOST]
        items.references.append((kind, source, tuple(_number(data, at, wide) for at in targets)))


def _read_extents(data: bytes, body: int, end: int, inside: int, items: Items) -> None:
    version = data[body]
    offset_size, length_size = data[body + 4] >> 4, data[body + 4] & 15
    base_size, index_size = data[body + 5] >> 4, data[body + 5] & 15 if version else 0
    wide = 4 if version == 2 else 2
    at, one = body + 6 + wide, index_size + offset_size + length_size
    for _ in range(min(_number(data, body + 6, wide), _MOST)):
        if at >= end:
            return
        item = _number(data, at, wide)
        at += wide
        method = 0
        if version:
            method = _number(data, at, 2) & 15
            at += 2
        at += 2  # index of the file: this one
        base = _number(data, at, base_size)
        at += base_size
        extents = _number(data, at, 2)
        at += 2
        found = []
        # Extents that take no bytes are all the same one: the file.
        for _ in range(min(extents, max(end - at, 0) // one if one else 1)):
            at += index_size
            offset = base + _number(data, at, offset_size)
            at += offset_size
            found.append((offset + (inside if method == 1 else 0), _number(data, at, length_size)))
            at += length_size
        if method in {0, 1} and at <= len(data):
            items._extents[item] = found  # noqa: SLF001  # its own reader


def _read_owned(data: bytes, body: int, end: int, items: Items) -> None:
    wide, large = 4 if data[body] else 2, data[body + 3] & 1
    (count,) = unpack_from(">I", data, body + 4)
    at = body + 8
    for _ in range(min(count, _MOST)):
        item = _number(data, at, wide)
        at += wide
        if at >= end:
            return
        many = data[at]
        at += 1
        own = items.owned.setdefault(item, [])
        for _ in range(many):
            number = _number(data, at, 2) & 0x7FFF if large else data[at] & 0x7F
            at += 2 if large else 1
            own.append(number - 1)  # 0 means no property
