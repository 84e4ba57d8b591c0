"""Decompression of the strips and tiles of a TIFF to rows of bytes.

libtiff, through Pillow, handles the compressions that Python lacks. It is given a TIFF made here,
whose pixels are grey bytes, whatever they are in the real file, and whose tiles are strips. So
libtiff only decompresses, and damaged data raise an error, where its readers of whole images would
carry on.
"""

from __future__ import annotations

import ctypes
import io
import lzma
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from threading import get_ident
from typing import Any, TypeAlias

import numpy as np

from imgret.errors import ImageCorruptError, ImageUnsupportedError

__all__ = ["CCITT", "COMPRESSIONS", "JPEG", "PREDICTED", "Rows", "take", "unpack"]

_RAW, JPEG = 1, 7
CCITT = frozenset({2, 3, 4, 32771})
PREDICTED = frozenset({5, 8, 32946, 34925, 50000})
"""Compressions that may store differences of pixels."""
_DEFLATE, _LZMA, _ZSTD = frozenset({8, 32946}), 34925, 50000

COMPRESSIONS = {
    1: "none",
    2: "CCITT RLE",
    3: "CCITT group 3",
    4: "CCITT group 4",
    5: "LZW",
    7: "JPEG",
    8: "Deflate",
    32771: "CCITT RLE, words",
    32773: "PackBits",
    32946: "Deflate",
    34925: "LZMA",
    50000: "zstd",
}
"""Names of the compressions that can be decoded, by their number in the tag."""

_JPEG_END = b"\xff\xd9"
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
# The letter A in a zstd frame of one raw block.
_ZSTD_PROBE = b"\x28\xb5\x2f\xfd\x20\x01\x09\x00\x00A"


@dataclass(frozen=True, slots=True)
class Rows:
    """Packing of rows in the strips and tiles of a page.

    Attributes
    ----------
    compression : int
        A key of `COMPRESSIONS`.
    width : int
        Pixels per row of a strip or tile.
    size : int
        Bytes per row of a strip or tile; ``samples * width`` in a JPEG.
    is_reversed : bool
        Whether bits fill bytes from the lowest (FillOrder 2).
    samples, is_ycbcr, subsampling, tables
        Number of interleaved channels; for JPEG also whether to convert to RGB, the subsampling
        tag and the shared tables.
    options : int
        T4Options of group 3, T6Options of group 4.
    """

    compression: int
    width: int
    size: int
    is_reversed: bool = False
    samples: int = 1
    is_ycbcr: bool = False
    subsampling: tuple[int, ...] = ()
    tables: bytes = b""
    options: int = 0


def unpack(chunks: Sequence[memoryview], rows: Rows, each: int, total: int) -> Any:
    """Decompress strips or tiles that lie below each other.

    Parameters
    ----------
    chunks : sequence of memoryview
    rows : Rows
    each : int
        Rows per chunk; the last may have fewer.
    total : int
        Rows of all chunks.

    Returns
    -------
    uint8 array of shape (total, rows.size), or a PIL image of the same bytes
        Input for `take`, which saves memory if there is one large strip.

    Raises
    ------
    ImageCorruptError
        The data end early, or are not valid for the compression.
    ImageUnsupportedError
        The installed Pillow lacks the compression.
    """
    if rows.is_reversed and rows.compression != JPEG:
        chunks = [memoryview(bytes(chunk).translate(_REVERSED)) for chunk in chunks]
    if rows.compression not in {_RAW, _LZMA, *_DEFLATE}:
        return _libtiff(chunks, rows, each, total)
    name, most = COMPRESSIONS[rows.compression], each * rows.size
    parts = []
    for position, chunk in enumerate(chunks):
        # The last strip may be padded to the rows of the others.
        size = min(each, total - position * each) * rows.size
        part = chunk if rows.compression == _RAW else _inflate(chunk, most, rows.compression)
        if len(part) < size or (len(part) > most and rows.compression != _RAW):
            raise ImageCorruptError(
                f"damaged TIFF data ({name}): expected strips or tiles of {size} bytes, found one "
                f"of {len(part)} or more"
            )
        parts.append(np.frombuffer(part, np.uint8, size).reshape(-1, rows.size))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def take(unpacked: Any, start: int, stop: int, rows: Rows) -> Any:
    """Return rows of the result of `unpack` as a uint8 array ``(stop - start, rows.size)``."""
    if isinstance(unpacked, np.ndarray):
        return unpacked[start:stop]
    from PIL import Image  # noqa: PLC0415  # `import imgret` stays lean

    # crop() would apply Pillow's pixel limit, which is a setting of the process, and warn.
    part = Image.new(unpacked.mode, (unpacked.width, stop - start))
    part.paste(unpacked, (0, -start))
    return np.frombuffer(part.tobytes(), np.uint8).reshape(stop - start, rows.size)


def _inflate(chunk: memoryview, most: int, compression: int) -> bytes:
    """Decompress Deflate or LZMA, checksum included; return at most ``most + 1`` bytes."""
    try:
        if compression == _LZMA:
            return lzma.LZMADecompressor().decompress(chunk, most + 1)
        return zlib.decompressobj().decompress(chunk, most + 1)
    except (zlib.error, lzma.LZMAError) as error:
        name = COMPRESSIONS[compression]
        raise ImageCorruptError(f"damaged TIFF data ({name}): {error}") from error


def _libtiff(chunks: Sequence[memoryview], rows: Rows, each: int, total: int) -> Any:
    name = COMPRESSIONS[rows.compression]
    if rows.compression == JPEG and not all(_JPEG_END in bytes(part) for part in chunks):
        raise ImageCorruptError("damaged TIFF data (JPEG): a strip or tile is truncated")
    image = _load(chunks, rows, each, total)
    if image is not None:
        return image
    if _has(rows.compression):
        raise ImageCorruptError(f"damaged TIFF data ({name}): libtiff cannot decode them")
    raise ImageUnsupportedError(
        f"the installed Pillow cannot decode TIFF with {name} compression; install Pillow 12 or "
        f"later from PyPI, or save the image as PNG"
    )


def _load(chunks: Sequence[memoryview], rows: Rows, each: int, total: int) -> Any:
    """Decode strips with libtiff; None if it cannot."""
    from PIL import Image  # noqa: PLC0415  # `import imgret` stays lean
    from PIL.TiffImagePlugin import TiffImageFile  # noqa: PLC0415

    width, tags = _grey(rows)
    sizes = [len(chunk) for chunk in chunks]
    *starts, end = accumulate(sizes, initial=8)
    tags |= {
        256: ("I", [width]),
        257: ("I", [total]),
        259: ("H", [rows.compression]),
        273: ("I", starts),
        278: ("I", [each]),
        279: ("I", sizes),
    }
    entries, longer = [struct.pack("<H", len(tags))], []
    after = end + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        value = struct.pack(f"<{len(values)}{kind}", *values)
        if len(value) > 4:
            longer.append(value)
            value, after = struct.pack("<I", after), after + len(value)
        entries.append(
            struct.pack("<HHI4s", tag, {"B": 7, "H": 3, "I": 4}[kind], len(values), value)
        )
    head = b"II*\0" + struct.pack("<I", end)
    data = b"".join([head, *chunks, *entries, bytes(4), *longer])
    _listen()
    thread = get_ident()
    _heard[thread] = False
    try:
        image = TiffImageFile(io.BytesIO(data))
        # Otherwise load() makes it, and applies that limit.
        image.im = Image.new(image.mode, image.size).im
        image.load()
    except (OSError, SyntaxError):  # the latter if Pillow does not know the compression
        return None
    finally:
        is_wrong = _heard.pop(thread)
    return None if is_wrong else image


_Tags: TypeAlias = dict[int, tuple[str, Sequence[int]]]


def _grey(rows: Rows) -> tuple[int, _Tags]:
    """Return the width and the tags of pixels that libtiff returns unchanged."""
    tags: _Tags = {258: ("H", [8]), 262: ("H", [1]), 277: ("H", [1])}
    if rows.compression in CCITT:
        tags[258] = ("H", [1])
        if rows.compression in {3, 4}:
            tags[292 if rows.compression == 3 else 293] = ("I", [rows.options])
        return rows.width, tags
    if rows.compression != JPEG:
        return rows.size, tags
    photometric = {1: 1, 2: 1, 3: 2, 4: 5}[rows.samples]  # grey, with alpha, RGB, CMYK
    tags[258], tags[277] = ("H", [8] * rows.samples), ("H", [rows.samples])
    tags[262] = ("H", [6 if rows.is_ycbcr else photometric])
    if rows.samples == 2:
        tags[338] = ("H", [2])
    if rows.tables:
        tags[347] = ("B", rows.tables)
    if rows.is_ycbcr and rows.subsampling:
        tags[530] = ("H", rows.subsampling)
    return rows.width, tags


_heard: dict[int, bool] = {}  # for each decoding thread, whether libtiff has reported an error
_handlers: list[object] = []  # kept alive, as libtiff may call them


@cache
def _listen() -> None:
    """Install a handler for libtiff's errors, once per process.

    By default libtiff prints them, and reports damaged CCITT data in no other way. Errors in other
    threads are passed to the previous handler. If Pillow hides its libtiff (on Windows), nothing
    is changed.
    """
    from PIL import _imaging  # noqa: PLC0415  # as above

    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)  # module, format, va_list
    before: Any = None

    def report(*message: Any) -> None:
        if get_ident() in _heard:
            _heard[get_ident()] = True
        elif before:
            kind(before)(*message)

    try:
        exchange = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        _handlers.append(kind(report))
    except (AttributeError, OSError, MemoryError):
        return
    exchange.argtypes, exchange.restype = [kind], ctypes.c_void_p
    before = exchange(_handlers[-1])


@cache
def _has(compression: int) -> bool:
    """Whether Pillow's libtiff has a compression that some builds lack."""
    from PIL import features  # noqa: PLC0415  # as above

    if not features.check("libtiff"):
        return False
    if compression != _ZSTD:
        return True
    return _load([memoryview(_ZSTD_PROBE)], Rows(_ZSTD, 1, 1), 1, 1) is not None
