"""One writer at a time: an advisory file lock, which the system releases if the process dies."""

from __future__ import annotations

import os
import sys
import time
from io import FileIO
from pathlib import Path

from imgret.errors import StoreForkedError, StoreLockedError
from imgret.galleries.local.own import open_file
from imgret.support.locks import renew_in_child

__all__ = ["LOCK", "WriterLock", "forked"]

LOCK = "lock"
# What a lock says that is held for a moment, how long others wait for it, and how often they look.
_BRIEF = "for a moment"
_BRIEF_SECONDS, _WAIT_SECONDS = 5.0, 0.01


def forked(path: Path | None, process: int) -> StoreForkedError:
    """Return the error for a change in a child of the process that opened a gallery."""
    return StoreForkedError(
        f"{path}: opened for writing by process {process}, from which this one, {os.getpid()}, "
        f"was forked; nothing was changed. Change it there, or close it there and open it in the "
        f"process that is to change it, after the fork"
    )


class WriterLock:
    """A lock held from construction to `release`, by the process that made it but no child of it.

    Parameters
    ----------
    path : Path
        Lock file, which is not deleted.
    brief : bool
        Whether it is held for a moment, to tidy up. Who is refused meanwhile waits for its end.
    creates : bool
        Whether a missing file is created.

    Raises
    ------
    FileNotFoundError
        There is no such file and none is created, or no such directory.
    StoreLockedError
        Another process, or another gallery of this one, holds it.
    """

    def __init__(self, path: Path, *, brief: bool = False, creates: bool = True) -> None:
        self._file = _open_locked(path, creates=creates)
        self.process = os.getpid()
        try:
            self._file.truncate(0)
            self._file.write(f"{self.process} {_BRIEF if brief else ''}".rstrip().encode())
        except BaseException:
            self._file.close()
            raise
        renew_in_child(self)

    def release(self) -> None:
        """Release the lock; doing so twice is fine, and in a child it has no effect."""
        if not self._file.closed and self.process == os.getpid():
            _unlock(self._file.fileno())  # even if another process has the file open
        self._file.close()

    def take_over(self, other: WriterLock, path: Path) -> None:
        """Hold the lock of another one, which is at ``path`` by now, and leave it this one's.

        So there is no moment in which another process could become the writer; except on Windows,
        where neither is held while directories are renamed.
        """
        if sys.platform == "win32":
            self._file = _open_locked(path)
        else:
            self._file, other._file = other._file, self._file

    def __del__(self) -> None:
        """Release the lock of a writer that was dropped, and not closed."""
        if hasattr(self, "_file"):  # it was locked
            self.release()

    def renew(self) -> None:
        """Leave the lock to the parent: a child that has the file open would hold it, too."""
        self._file.close()


def _open_locked(path: Path, *, creates: bool = True) -> FileIO:
    started, refused = time.monotonic(), False
    while True:
        file = FileIO(open_file(path, creates=creates), "r+")
        try:
            _lock(file.fileno())
            # A save may have put another directory in place of this one in between.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except (BlockingIOError, PermissionError):  # the latter on Windows
            holder, _, held = file.read(64).decode("ascii", "replace").strip().partition(" ")
            waited = time.monotonic() - started
            # Once in any case: who has just locked it has not said so yet.
            if refused and (held != _BRIEF or waited > _BRIEF_SECONDS):
                file.close()
                raise StoreLockedError(
                    f"{path.parent}: open for writing by process {holder or 'unknown'}; expected "
                    f"no other writer. Close it there, or open this one with mode='r'"
                ) from None
            refused = True
            time.sleep(_WAIT_SECONDS)
        except BaseException:
            file.close()
            raise
        file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far from the text, which stays readable
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
