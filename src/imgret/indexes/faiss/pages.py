"""Huge pages for large arrays, to make address translation faster.

Linux manages memory in pages of 4 kB. An array of a hundred megabytes has more of them than the
TLB of a processor holds, so that a search with random access has to look addresses up in memory.
Huge pages have 2 MB. The environment variable ``IMGRET_HUGE_PAGES=0`` disables them.
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
# Least bytes worth moving. Moving a megabyte takes 0.3 ms, twice as long as filling it.
_LEAST = 8 << 20
# Moves the existing pages once, synchronously: linux/mman.h, since Linux 6.1.
_MADV_COLLAPSE = 25
# Linux's setting, by which an administrator may have disabled huge pages.
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_SWITCH = "IMGRET_HUGE_PAGES"


class HugePages:
    """Moves the arrays of an index into huge pages.

    This affects only speed: if the system has no huge pages left or does not allow them, the
    arrays stay as they are.
    """

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}  # end of the moved part, by address of an array

    def move(self, arrays: Iterable[Array]) -> None:
        """Move new arrays. The caller must hold the exclusive lock of the index.

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
                # If the system has none left, this part is not tried again.
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
    """Move memory into huge pages; return False if the system does not."""
    return _madvise()(address, size, _MADV_COLLAPSE) == 0


@cache
def _madvise() -> Callable[[int, int, int], int]:
    function = ctypes.CDLL(None).madvise  # a ctypes call releases the GIL
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    function.restype = ctypes.c_int
    called: Callable[[int, int, int], int] = function
    return called
