"""Large arrays in huge pages, where a processor finds an address in fewer steps.

Linux keeps memory in pages of 4 kB. An array of a hundred megabytes has more of them than a
processor remembers (its TLB), and a search that reads here and there has them looked up in
memory. Huge pages have 2 MB.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeAlias

from imgret.support.locks import ReadWriteLock

__all__ = ["HugePages"]

# Address and bytes.
Array: TypeAlias = tuple[int, int]

_PAGE = 2 << 20
# What there has to be to move, and how much is moved at a time: in some 20 ms.
_PIECE = 8 << 20
# Move what is there, now and once: linux/mman.h, since Linux 6.1.
_MADV_COLLAPSE = 25
# Linux's setting; whoever runs the machine may have forbidden huge pages by it.
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


class HugePages:
    """Moves the arrays of an index into huge pages, in a thread beside the searches.

    Nothing but speed depends on it: where the system has no huge pages to give, or may not, the
    arrays stay as they are.

    Parameters
    ----------
    lock : ReadWriteLock
        Shared while arrays are moved, so that they stay where they are.
    """

    def __init__(self, lock: ReadWriteLock) -> None:
        self._lock = lock
        self._ends: dict[int, int] = {}  # where what was moved ends, by address of an array
        self._thread: threading.Thread | None = None

    def follow(self, arrays: Callable[[], Iterable[Array]]) -> None:
        """Move what is new; for whoever changes the index, and so holds the lock alone.

        Parameters
        ----------
        arrays : callable
            Returns address and bytes of each array.
        """
        thread = self._thread
        if thread is not None and not thread.is_alive():  # it stayed in the process that forked
            self._thread = None
        if self._thread is None and self._next(arrays(), _PIECE) is not None and _allowed():
            thread = threading.Thread(target=self._move, args=[arrays], daemon=True)
            with suppress(RuntimeError):  # where there are too many
                thread.start()
                self._thread = thread  # it waits for the lock

    def wait(self) -> None:
        """Wait until all is moved."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _move(self, arrays: Callable[[], Iterable[Array]]) -> None:
        while True:
            with self._lock.read():
                found = self._next(arrays(), _PAGE)
                if found is None:
                    self._thread = None
                    return
                array, start, end = found
                piece = min(end, start + _PIECE)
                # Where the system has none left, that is it for this array.
                self._ends[array] = piece if _collapse(start, piece - start) else end

    def _next(self, arrays: Iterable[Array], least: int) -> tuple[int, int, int] | None:
        """Return an array of which so much is to be moved: its address, and from where to where."""
        arrays = list(arrays)
        here = {address for address, _ in arrays}
        self._ends = {address: end for address, end in self._ends.items() if address in here}
        for address, size in arrays:
            start = self._ends.get(address, -(-address // _PAGE) * _PAGE)
            end = (address + size) // _PAGE * _PAGE
            if end - start >= least:
                return address, start, end
        return None


@cache
def _allowed() -> bool:
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
