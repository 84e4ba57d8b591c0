"""Large arrays in huge pages, where a processor finds an address in fewer steps.

Linux keeps memory in pages of 4 kB. An array of a hundred megabytes has more of them than a
processor remembers (its TLB), and a search that reads here and there has them looked up in
memory. Huge pages have 2 MB. ``IMGRET_HUGE_PAGES=0`` in the environment leaves everything in small
ones.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TypeAlias

__all__ = ["HugePages"]

# Address and bytes.
Array: TypeAlias = tuple[int, int]

_PAGE = 2 << 20
# What there has to be to move. A megabyte takes 0.3 ms, twice as long as filling it did.
_LEAST = 8 << 20
# Move what is there, now and once: linux/mman.h, since Linux 6.1.
_MADV_COLLAPSE = 25
# Linux's setting; whoever runs the machine may have forbidden huge pages by it.
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_SWITCH = "IMGRET_HUGE_PAGES"


class HugePages:
    """Moves the arrays of an index into huge pages.

    Nothing but speed depends on it: where the system has no huge pages to give, or may not, the
    arrays stay as they are.
    """

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}  # where what was moved ends, by address of an array

    def move(self, arrays: Iterable[Array]) -> None:
        """Move what is new; for whoever changes the index, and so holds the lock alone.

        Parameters
        ----------
        arrays : iterable of (int, int)
            Address and bytes of each array.
        """
        before, self._ends = self._ends, {}
        for address, size in arrays:
            start = before.get(address, -(-address // _PAGE) * _PAGE)
            end = (address + size) // _PAGE * _PAGE
            if end - start >= _LEAST and _allowed():
                # Where the system has none left, that is it for this array.
                _collapse(start, end - start)
                start = end
            self._ends[address] = start


@cache
def _allowed() -> bool:
    if os.environ.get(_SWITCH) == "0":
        return False
    try:
        return sys.platform == "linux" and "[never]" not in _SETTING.read_text(encoding="ascii")
    except OSError:
        return False


def _collapse(address: int, size: int) -> bool:
    """Move whole pages of memory into huge ones; False where the system does not."""
    return _madvise()(address, size, _MADV_COLLAPSE) == 0


@cache
def _madvise() -> Callable[[int, int, int], int]:
    function = ctypes.CDLL(None).madvise  # lets other threads run meanwhile
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    function.restype = ctypes.c_int
    called: Callable[[int, int, int], int] = function
    return called
