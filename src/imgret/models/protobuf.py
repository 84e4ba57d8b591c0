"""Just enough of Protocol Buffers to read the fields of a message and to add some.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["MessageField", "encode", "encode_integer", "fields", "integers"]

# Far more than the nodes and weights of any network; an empty field takes two bytes of the file,
# and some hundred of memory.
_MOST_FIELDS = 100_000
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class MessageField(NamedTuple):
    """One field of a message.

    Attributes
    ----------
    number : int
        Number of the field.
    value : memoryview or None
        Contents of a field that holds text, bytes or a message; None for numbers.
    integer : int or None
        Value of a field that holds an integer of variable length, as stored; None for others.
    raw : memoryview
        All bytes of the field, including its number.
    """

    number: int
    value: memoryview | None
    raw: memoryview
    integer: int | None = None


def fields(message: memoryview) -> Iterator[MessageField]:
    """Yield the fields of a message in the order of the file.

    Raises
    ------
    ValueError
        The bytes are not a message, or one of more than 100,000 fields.
    """
    start, size, count = 0, len(message), 0
    while start < size:
        count += 1
        if count > _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS:,} fields in a message")
        tag, position = _varint(message, start)
        number, wire = tag >> 3, tag & 7
        value = integer = None
        if wire == _VARINT:
            integer, end = _varint(message, position)
        elif wire == _FIXED64:
            end = position + 8
        elif wire == _FIXED32:
            end = position + 4
        elif wire == _LENGTH:
            length, position = _varint(message, position)
            end = position + length
            value = message[position:end]
        else:
            raise ValueError(f"wire type {wire} at byte {start}")
        if number == 0 or end > size:
            raise ValueError(f"field {number} at byte {start} ends at {end} of {size}")
        yield MessageField(number, value, message[start:end], integer)
        start = end


def encode(number: int, value: bytes) -> bytes:
    """Return the bytes of a field that holds text, bytes or a message."""
    return _encode_varint(number << 3 | _LENGTH) + _encode_varint(len(value)) + value


def encode_integer(number: int, value: int) -> bytes:
    """Return the bytes of a field that holds a whole number of at least 0."""
    return _encode_varint(number << 3 | _VARINT) + _encode_varint(value)


def integers(packed: memoryview) -> list[int]:
    """Return the integers in a packed field.

    Raises
    ------
    ValueError
        The bytes are not such integers.
    """
    found, position = [], 0
    while position < len(packed):
        integer, position = _varint(packed, position)
        found.append(integer)
    return found


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):  # 64 bits take at most ten bytes
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError(f"unfinished number at byte {position}")


def _encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
