"""Writing that lasts, and a directory that takes another's place all at once."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imgret.errors import (
    ImgretError,
    StoreError,
    StoreExistsError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
)
from imgret.galleries.local.writer_lock import LOCK, WriterLock

__all__ = ["file_id", "is_aside", "replacement", "settle", "sync", "write_text", "writing"]

_WAIT_SECONDS = 5.0


def file_id(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from others; as long as it is open, none is taken for it."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def sync(path: Path) -> None:
    """Make a file's content, or a directory's list of names, outlive the loss of power."""
    if path.is_file():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    elif sys.platform != "win32":  # which has no such thing for directories
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems have not either
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a file that appears, or takes the place of another, all at once."""
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says about writing into an error that says what to do."""
    try:
        yield
    except ImgretError:
        raise
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StoreReadOnlyError(
                f"{path}: expected a directory that can be written, found: {error.strerror}"
            ) from error
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            raise StoreNotFoundError(f"{path}: cannot be written: {error}") from error
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            raise StoreExistsError(
                f"{path}: another process has just made something here"
            ) from error
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}; what was saved before is "
            f"untouched"
        ) from error


# -- replacing a directory -------------------------------------------------------------------
#
# A directory that is there steps aside under the name of `_aside`, the new one takes its
# place, and the old one is deleted. Whoever does so holds the locks of both; who comes
# upon a directory aside whose lock is free knows that a kill came between the renames.


@contextmanager
def replacement(path: Path, *, mark: str, replaces: bool = True) -> Iterator[Path]:
    """Give a new directory beside ``path`` to fill; it takes its place when the block is done.

    Parameters
    ----------
    path : Path
        Resolved. A directory, empty or with a file of the name ``mark``, or nothing.
    mark : str
        File without which a directory aside is not put back.
    replaces : bool
        Whether a directory with such a file is replaced. Where not, and where there was none at
        the beginning, what another process puts there meanwhile stays, and this raises.

    Raises
    ------
    FileExistsError, OSError
        Something is at ``path`` that is not to be replaced.
    StoreLockedError
        What is at ``path`` is open for writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    settle(path, mark=mark)
    _clear_abandoned(path)
    locks = [WriterLock(path / LOCK)] if replaces and (path / mark).exists() else []
    new = None
    try:
        new, lock = _new_beside(path)
        locks.append(lock)
        yield new
        for part in (*new.rglob("*"), new):
            sync(part)
        if sys.platform == "win32":  # renames no directory in which a file is open
            for lock in locks:
                lock.release()
        there = len(locks) == 2
        _put_in_place(new, path, replaces=there)
        sync(path.parent)
    finally:
        for lock in locks:
            lock.release()
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
    if there:
        _discard(_aside(path), mark)


def settle(path: Path, *, mark: str) -> None:
    """Wait for a replacement under way, and take back one that was killed half way."""
    aside = _aside(path)
    deadline = time.monotonic() + _WAIT_SECONDS
    while is_aside(path, mark=mark) and time.monotonic() < deadline:
        try:
            lock = WriterLock(aside / LOCK)
        except StoreLockedError:
            time.sleep(0.01)
            continue
        except OSError:  # a directory that cannot be written is not renamed either
            return
        if sys.platform == "win32":
            lock.release()
        with suppress(OSError):
            aside.rename(path)
        lock.release()


def is_aside(path: Path, *, mark: str) -> bool:
    """Whether there is nothing at a path just now, as another directory is about to go there."""
    return not path.exists() and (_aside(path) / mark).exists()


def _new_beside(path: Path) -> tuple[Path, WriterLock]:
    """Make a directory for what is to take the place of ``path``, and lock it."""
    while True:
        new = path.with_name(f".{path.name}.saving-{secrets.token_hex(4)}")
        new.mkdir()
        # Another process may take it for one that was abandoned, as long as it is not locked.
        with suppress(FileNotFoundError, StoreLockedError):
            return new, WriterLock(new / LOCK)


def _put_in_place(new: Path, path: Path, *, replaces: bool) -> None:
    if sys.platform == "win32" and path.is_dir() and not any(path.iterdir()):
        path.rmdir()  # other systems put a directory in the place of an empty one, and of no other
    if not replaces:  # nothing was there, and what is there now is not ours to move
        new.rename(path)
        return
    aside = _aside(path)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        path.rename(aside)
        new.rename(path)
    except BaseException:
        if not path.exists() and aside.exists():
            aside.rename(path)
        raise


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _discard(directory: Path, mark: str) -> None:
    with suppress(OSError):
        (directory / mark).unlink(missing_ok=True)  # first, so that no half of it is put back
    shutil.rmtree(directory, ignore_errors=True)


def _clear_abandoned(path: Path) -> None:
    """Delete what replacements that were killed have left."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.saving-*"):
        with suppress(OSError):  # locked: it is not abandoned
            lock = WriterLock(left / LOCK)
            if sys.platform == "win32":  # deletes no file that is open
                lock.release()
            shutil.rmtree(left, ignore_errors=True)
            lock.release()  # only now, as whoever has just made it waits to lock it
