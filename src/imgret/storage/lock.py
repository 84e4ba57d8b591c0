"""One writer at a time: an advisory lock on a file, let go by the system if we die."""

from __future__ import annotations

import os
import sys
from io import BufferedRandom
from pathlib import Path

from imgret.errors import StoreLockedError

__all__ = ["LOCK", "WriterLock"]

LOCK = "lock"


class WriterLock:
    """Held from construction to `release`.

    Parameters
    ----------
    path : Path
        The lock file; made if it is not there, and left behind.

    Raises
    ------
    StoreLockedError
        Another process, or another gallery of this one, holds it.
    """

    def __init__(self, path: Path) -> None:
        self._file = _open_locked(path)
        try:
            self._file.truncate(0)
            self._file.write(str(os.getpid()).encode())
            self._file.flush()
        except BaseException:
            self._file.close()
            raise

    def release(self) -> None:
        """Let another writer in; doing so twice is fine."""
        self._file.close()


def _open_locked(path: Path) -> BufferedRandom:
    while True:
        file = path.open("a+b")
        try:
            _lock(file.fileno())
            # A save may have put another directory in place of this one in between.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except (BlockingIOError, PermissionError):  # the latter on Windows
            file.seek(0)
            holder = file.read(64).decode("ascii", "replace").strip()
            file.close()
            raise StoreLockedError(
                f"{path.parent}: open for writing by process {holder or 'unknown'}; expected no "
                f"other writer. Close it there, or open this one with mode='r'"
            ) from None
        except BaseException:
            file.close()
            raise
        file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far from the text, which stays readable
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
