"""The largest frame of an AV1 stream, from its sequence header (AV1 specification, 5.5)."""

from __future__ import annotations

from contextlib import suppress

__all__ = ["largest_frame"]

_SEQUENCE_HEADER = 1
_MOST_UNITS = 10_000
_LARGEST = 1 << 16


def largest_frame(data: bytes) -> tuple[int, int]:
    """Return the largest frame width and height of a stream; (0, 0) if they cannot be read.

    A stream may have several sequence headers: a decoder takes up each of them.

    Parameters
    ----------
    data : bytes
        The whole stream.
    """
    sizes = [(0, 0)]
    start = 0
    for _ in range(_MOST_UNITS):
        if start + 2 >= len(data):
            return max(sizes, key=lambda size: size[0] * size[1])
        head = data[start]
        start += 2 if head & 4 else 1
        size = len(data) - start
        if head & 2:  # otherwise it runs to the end
            size, start = _leb128(data, start)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            with suppress(IndexError):
                sizes.append(_frame_size(_Bits(data[start : start + min(size, 512)])))
        start += size
    return _LARGEST, _LARGEST  # no image has so many units


def _leb128(data: bytes, start: int) -> tuple[int, int]:
    """Return a LEB128 number, and the offset after it."""
    value = 0
    for place, byte in enumerate(data[start : start + 8]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, start + place + 1
    return len(data), start


class _Bits:
    """Reader of numbers with any number of bits."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:512], "big"), 8 * len(data[:512])

    def read(self, bits: int) -> int:
        self._left -= bits
        if self._left < 0:
            raise IndexError
        return self._value >> self._left & ((1 << bits) - 1)

    def skip_uvlc(self) -> None:
        zeros = 0
        while not self.read(1):
            zeros += 1
        if zeros < 32:
            self.read(zeros)


def _frame_size(bits: _Bits) -> tuple[int, int]:
    bits.read(4)  # profile, still image
    if bits.read(1):  # the short header of a still image
        bits.read(5)
    else:
        _skip_operating_points(bits)
    across, down = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(across) + 1, bits.read(down) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            bits.skip_uvlc()
        if bits.read(1):  # decoder model
            delay = bits.read(5) + 1
            bits.read(42)
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay and bits.read(1):
            bits.read(2 * delay + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)
