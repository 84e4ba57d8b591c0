"""Numeric arrays in MATLAB files of version 5, which is the format of small published label files.

The format is described in "MAT-File Format" by The MathWorks. Everything else that such a file can
hold (text, cells, structures, sparse and complex arrays) is passed over; for those there is
`scipy.io.loadmat`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.errors import DatasetError

__all__ = ["read_mat"]

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
# Types of stored numbers; an array of doubles may be stored in bytes.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8"}
_NUMERIC_CLASSES, _COMPLEX = range(6, 16), 0x0800
_MOST = 64 * 2**20  # bytes of one array, so that a small file cannot fill the memory


def read_mat(path: Path) -> dict[str, NDArray[Any]]:
    """Return the real numeric arrays of a file, by their names.

    Raises
    ------
    DatasetError
        The file is missing, damaged, or of a different format.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) < _HEADER or data[126:128] not in {b"IM", b"MI"}:
        raise DatasetError(
            f"{path}: expected a MATLAB file of version 5, found {data[:16]!r} and so on"
        )
    order = "<" if data[126:128] == b"IM" else ">"
    found = {}
    try:
        for kind, body in _elements(data[_HEADER:], order):
            array = _array(body, order) if kind == _MATRIX else None
            if array is not None:
                found[array[0]] = array[1]
    except (struct.error, zlib.error, ValueError, IndexError) as error:
        raise DatasetError(f"{path}: the MATLAB file is damaged ({error})") from error
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each element; compressed ones are inflated."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        start, end = at + 8, at + 8 + size
        if kind >> 16:  # at most four bytes, which stand where the size stands otherwise
            kind, size = kind & 0xFFFF, kind >> 16
            start, end = at + 4, at + 4 + size
            at += 8
        else:
            # Elements are padded to eight bytes, compressed ones are not.
            at = end if kind == _COMPRESSED else end + -size % 8
        if end > len(data):
            raise ValueError(f"expected {end} bytes, found {len(data)}")
        if kind == _COMPRESSED:
            inflated = zlib.decompressobj().decompress(data[start:end], _MOST)
            yield from _elements(inflated, order)
        else:
            yield kind, data[start:end]


def _array(body: bytes, order: str) -> tuple[str, NDArray[Any]] | None:
    """Return name and content of an array; None if it is not one of numbers."""
    parts = list(_elements(body, order))
    (flags,) = struct.unpack_from(order + "I", parts[0][1])
    if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX:
        return None
    shape = np.frombuffer(parts[1][1], order + "i4")
    kind, numbers = parts[3]
    if kind not in _NUMBERS:
        return None
    values = np.frombuffer(numbers, order + _NUMBERS[kind])
    return parts[2][1].decode("latin-1"), values.reshape(tuple(shape), order="F")
