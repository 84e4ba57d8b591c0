"""The largest frame of an AV1 stream, from its headers (AV1 specification, 5.5 and 5.9)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

__all__ = ["largest_frame"]

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME, _REDUNDANT = 1, 3, 6, 7
_MOST_UNITS = 10_000
_LARGEST = 1 << 16
_UNIT_BYTES = 512  # of a unit that are read
_KEY, _SWITCH = 0, 3  # types of frames
_CHOOSE = 2  # a frame says itself


def largest_frame(data: bytes) -> tuple[int, int]:
    """Return the largest frame width and height of a stream; (0, 0) if they cannot be read.

    A stream may have several sequence headers: a decoder takes up each of them. For a frame that
    gives a size of its own, the largest that it can give counts, as not all decoders hold it to
    that of its sequence.

    Parameters
    ----------
    data : bytes
        The whole stream.
    """
    sizes = [(0, 0)]
    sequence: _Sequence | None = None
    start = 0
    for _ in range(_MOST_UNITS):
        if start + 2 >= len(data):
            return max(sizes, key=lambda size: size[0] * size[1])
        head = data[start]
        start += 2 if head & 4 else 1
        size = len(data)
        if head & 2:  # otherwise it runs to the end
            size, start = _leb128(data, start)
        kind, unit = head >> 3 & 15, data[start : start + min(size, _UNIT_BYTES)]
        with suppress(IndexError):  # it ends early: a decoder gives up, too
            if kind == _SEQUENCE_HEADER:
                bits = _Bits(unit)
                sequence = _read_sequence(bits)
                sizes.append(sequence.size)
                _read_tools(bits, sequence)
            elif (
                kind in {_FRAME_HEADER, _FRAME, _REDUNDANT}
                and sequence is not None
                and _has_own_size(_Bits(unit), sequence)
            ):
                sizes.append(sequence.bound)
        start += size
    return _LARGEST, _LARGEST  # no image has so many units


@dataclass(slots=True)
class _Sequence:
    """What a sequence header says.

    Attributes
    ----------
    size, bound : tuple of int
        Maximum width and height of frames, and what the bits for them can hold.
    is_short : bool
        Whether it is that of a still image, whose frame has no size of its own.
    time_bits : int
        Bits of the time of presentation in a frame; 0 if it has none.
    id_bits : int
        Bits of the number of a frame; 0 if it has none.
    screen, whole : int
        Whether frames use tools for screens and whole motion vectors; 2 if each says so itself.
    """

    is_short: bool
    size: tuple[int, int]
    bound: tuple[int, int]
    time_bits: int
    id_bits: int = 0
    screen: int = _CHOOSE
    whole: int = _CHOOSE


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
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

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


def _read_sequence(bits: _Bits) -> _Sequence:
    bits.read(4)  # profile, still image
    is_short, time_bits = bool(bits.read(1)), 0
    if is_short:
        bits.read(5)
    else:
        time_bits = _skip_operating_points(bits)
    across, down = bits.read(4) + 1, bits.read(4) + 1
    size = bits.read(across) + 1, bits.read(down) + 1
    return _Sequence(is_short, size, (1 << across, 1 << down), time_bits)


def _skip_operating_points(bits: _Bits) -> int:
    """Return the bits of the time of presentation in a frame; 0 if it has none."""
    delay = time_bits = 0
    if bits.read(1):  # timing
        bits.read(64)
        is_regular = bits.read(1)
        if is_regular:
            bits.skip_uvlc()
        if bits.read(1):  # decoder model
            delay = bits.read(5) + 1
            bits.read(37)
            time_bits = 0 if is_regular else bits.read(5) + 1
            if is_regular:
                bits.read(5)
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay and bits.read(1):
            bits.read(2 * delay + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)
    return time_bits


def _read_tools(bits: _Bits, sequence: _Sequence) -> None:
    """Read what comes before the size in a frame header depends on."""
    if sequence.is_short:
        return
    if bits.read(1):
        sequence.id_bits = bits.read(4) + bits.read(3) + 3
    bits.read(7)
    if bits.read(1):  # order of frames
        bits.read(2)
    sequence.screen = _CHOOSE if bits.read(1) else bits.read(1)
    if sequence.screen:
        sequence.whole = _CHOOSE if bits.read(1) else bits.read(1)


def _has_own_size(bits: _Bits, sequence: _Sequence) -> bool:
    """Whether a frame gives its size itself (AV1 specification, 5.9.2)."""
    if sequence.is_short or bits.read(1):  # the second: it shows an earlier frame
        return False
    kind, is_shown = bits.read(2), bits.read(1)
    if is_shown and sequence.time_bits:
        bits.read(sequence.time_bits)
    if not is_shown:
        bits.read(1)
    if kind != _SWITCH and not (kind == _KEY and is_shown):
        bits.read(1)  # resilience to errors
    bits.read(1)
    uses_screen = bits.read(1) if sequence.screen == _CHOOSE else sequence.screen
    if uses_screen and sequence.whole == _CHOOSE:
        bits.read(1)
    if sequence.id_bits:
        bits.read(sequence.id_bits)
    return kind == _SWITCH or bool(bits.read(1))
