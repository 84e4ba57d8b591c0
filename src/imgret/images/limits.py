"""Limits on what decoders do: scans of a JPEG, and the memory of all threads together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, get_ident
from typing import final

from imgret.errors import ImageTooLargeError
from imgret.images.headers import Header
from imgret.support.locks import renew_in_child

__all__ = ["DecodingMemory", "check_scans", "decoding_bytes", "decoding_memory"]

# A decoder goes over the whole image once per scan, about 1.5e9 pixels a second. Encoders write
# about 10 scans, those that optimise some 20.
_ALWAYS_SCANS, _MOST_SCANS = 30, 1000
_SCANNED_PIXELS = 3_000_000_000
# Images that take less memory are decoded at any time, and do not count.
_SMALL_BYTES = 64 << 20
# Share of the memory of the machine, or of the container, that decoders may use together.
_SHARE = 4
_LEAST_BYTES = 1 << 30
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def check_scans(head: Header, path: Path | str | None) -> None:
    """Raise an error for a JPEG with more scans than any encoder writes.

    Each scan goes over the whole image, also if it is decoded at reduced scale, and takes no more
    than a few bytes: some hundred kilobytes can keep a decoder busy for minutes.
    """
    pixels = head.width * head.height
    most = max(_ALWAYS_SCANS, min(_MOST_SCANS, _SCANNED_PIXELS // pixels))
    if head.scans > most:
        raise ImageTooLargeError(
            f"expected a JPEG of at most {most} scans for {pixels:,} pixels, found {head.scans}; "
            f"usual are 1 to 20: save it again, as baseline JPEG or PNG",
            path,
        )


def decoding_bytes(head: Header, factor: int = 1) -> int:
    """Estimate the memory in bytes that decoding takes at most, the result included.

    Parameters
    ----------
    head : Header
    factor : int
        Factor by which a JPEG is reduced.
    """
    pixels = max(head.width * head.height, head.coded[0] * head.coded[1])
    shown = -(-head.width // factor) * -(-head.height // factor)
    depth = 2 if head.bits > 8 else 1
    needed = 6 * shown  # the result, and once more while it is converted or turned
    if depth > 1 or head.alpha is not None or head.transparent is not None:
        needed += 4 * depth * pixels
    if head.buffered:  # a coefficient of two bytes for each sample
        needed += 2 * head.channels * pixels
    if head.format in {"AVIF", "HEIC"}:  # planes before the conversion to RGB
        needed += 4 * depth * pixels
    return needed


@final
class DecodingMemory:
    """The memory that the decoders of all threads may use together.

    An image that needs more than is left waits until others are done. One that needs more than
    there is at all is decoded alone.

    Parameters
    ----------
    most : int
        Limit in bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._used: dict[int, int] = {}  # by thread
        self._condition = Condition()
        renew_in_child(self)

    @property
    def used(self) -> int:
        """Bytes in use now."""
        return sum(self._used.values())

    @contextmanager
    def use(self, wanted: int) -> Iterator[None]:
        """Wait until there are so many bytes, and take them for the length of the block."""
        me = get_ident()
        if wanted < _SMALL_BYTES or me in self._used:  # a part of an image that has its share
            yield
            return
        with self._condition:
            while self._used and self.used + wanted > self.most:
                self._condition.wait()
            self._used[me] = wanted
        try:
            yield
        finally:
            with self._condition:
                self._used.pop(me, None)
                self._condition.notify_all()

    def renew(self) -> None:
        """In a forked child, forget the threads of the parent."""
        self._condition = Condition()
        me = get_ident()
        self._used = {thread: used for thread, used in self._used.items() if thread == me}


def _memory_of_machine() -> int:
    """Return the memory in bytes that this process may use at most; 0 if it is unknown."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # AttributeError: Windows
        return 0
    try:
        return min(machine, int(_CGROUP.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return machine


decoding_memory = DecodingMemory(max(_LEAST_BYTES, _memory_of_machine() // _SHARE))
"""The memory of this process: a quarter of that of the machine or container, at least 1 GiB."""
