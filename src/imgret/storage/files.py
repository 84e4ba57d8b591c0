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
from imgret.storage.lock import LOCK, WriterLock

__all__ = ["file_id", "replacement", "settle", "sync", "write_text", "writing"]

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
def replacement(path: Path, *, mark: str) -> Iterator[Path]:
    """Give a new directory beside ``path`` to fill; it takes its place when the block is done.

    Parameters
    ----------
    path : Path
        Resolved. A directory, empty or with a file of the name ``mark``, or nothing.
    mark : str
        File without which a directory aside is not put back.

    Raises
    ------
    StoreLockedError
        What is at ``path`` is open for writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    settle(path, mark=mark)
    _clear_abandoned(path)
    new = path.with_name(f".{path.name}.saving-{secrets.token_hex(4)}")
    locks = [WriterLock(path / LOCK)] if (path / mark).exists() else []
    try:
        new.mkdir()
        locks.append(WriterLock(new / LOCK))
        yield new
        for part in (*new.rglob("*"), new):
            sync(part)
        if sys.platform == "win32":  # renames no directory in which a file is open
            for lock in locks:
                lock.release()
        _put_in_place(new, path, replaces=len(locks) == 2)
        sync(path.parent)
    finally:
        for lock in locks:
            lock.release()
        shutil.rmtree(new, ignore_errors=True)
    _discard(_aside(path), mark)


def settle(path: Path, *, mark: str) -> None:
    """Wait for a replacement under way, and take back one that was killed half way."""
    aside = _aside(path)
    deadline = time.monotonic() + _WAIT_SECONDS
    while not path.exists() and (aside / mark).exists() and time.monotonic() < deadline:
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


def _put_in_place(new: Path, path: Path, *, replaces: bool) -> None:
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
    aside = _aside(path)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        if replaces:  # otherwise nothing was there, or what is there now is not ours to move
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
            WriterLock(left / LOCK).release()
            shutil.rmtree(left, ignore_errors=True)
