"""Durable writes of files, and atomic replacement of directories."""

from __future__ import annotations

import errno
import glob
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
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
from imgret.galleries.local.own import create_file
from imgret.galleries.local.writer_lock import LOCK, WriterLock

__all__ = [
    "aside_of",
    "discard",
    "discard_unlocked",
    "file_id",
    "is_aside",
    "is_ours",
    "replacement",
    "settle",
    "sync",
    "thumbnails_of",
    "unfinished",
    "write_text",
    "writing",
]

_WAIT_SECONDS = 5.0
_log = logging.getLogger(__name__)
_SAVING = re.compile(r"[0-9a-f]{8}")
# What a gallery, finished or not, may hold.
_OURS = {
    *("manifest.json", "manifest.json.tmp", "manifest.copy.json", "manifest.copy.json.tmp"),
    *("catalog.sqlite", "catalog.sqlite-journal", "catalog.sqlite.whole", LOCK),
    *("vectors.f16", "vectors.f32", "catalog.sqlite.whole-journal"),
    *("projection.npz", "projection.npz.tmp", "projection.npz.tmp.tmp"),
    *("index", "index.tmp", "index.old"),
}


def thumbnails_of(gallery: Path) -> Path:
    """Return the folder beside a gallery in which its thumbnails are kept."""
    return gallery.with_name(f".{gallery.name}.thumbnails")


def file_id(path: Path) -> tuple[int, int] | None:
    """Return what identifies a file, unique as long as it is open; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def sync(path: Path) -> None:
    """Make a file's content, or a directory's list of names, survive a power loss."""
    if path.is_file():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    elif sys.platform != "win32":  # which cannot sync directories
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # some file systems cannot either
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: it appears, or replaces another one, all at once."""
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        with create_file(unfinished) as file:
            file.write(text.encode("utf-8"))
        sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a system error of writing into one that says what to do."""
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
                f"{path}: another process has just created something here"
            ) from error
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}; what was saved before is "
            f"untouched"
        ) from error


# -- replacing a directory -------------------------------------------------------------------
#
# An existing directory is renamed to `_aside`, the new one takes its place, and the old one is
# deleted. The process that does so holds the locks of both. If the lock of a directory aside is
# free, a process was killed between the renames.


@contextmanager
def replacement(
    path: Path, *, mark: str, replaces: bool = True, held: WriterLock | None = None
) -> Iterator[Path]:
    """Yield a new directory beside ``path`` to fill; it replaces ``path`` when the block is done.

    Parameters
    ----------
    path : Path
        Resolved path of a directory, empty or with a file named ``mark``, or of nothing.
    mark : str
        Name of the file without which a directory aside is not restored.
    replaces : bool
        Whether a directory with such a file is replaced. If not, or if there was none at the
        start, what another process puts there meanwhile stays, and an error is raised.
    held : WriterLock, optional
        Lock of the directory at ``path`` that the caller holds. It becomes that of the new one.

    Raises
    ------
    FileExistsError, OSError
        Something is at ``path`` that must not be replaced.
    StoreLockedError
        The directory at ``path`` is open for writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    settle(path, mark=mark)
    _clear_abandoned(mark, path)
    there = replaces and (held is not None or (path / mark).exists())
    locks = [WriterLock(path / LOCK) if held is None else held] if there else []
    new = None
    try:
        new, lock = _new_beside(path)
        locks.append(lock)
        yield new
        for part in (*new.rglob("*"), new):
            sync(part)
        if sys.platform == "win32":  # cannot rename a directory in which a file is open
            for lock in locks:
                lock.release()
        _put_in_place(new, path, replaces=there)
        if there:  # while it is locked: the next one to replace something needs the name
            _discard(aside_of(path), mark)
    finally:
        if held is not None and (sys.platform == "win32" or (new is not None and not new.exists())):
            held.take_over(locks[-1], path / LOCK)
        for lock in locks:
            if lock is not held:
                lock.release()
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)


def discard(path: Path, *, expendable: Callable[[Path], bool]) -> bool:
    """Delete a directory unless another process writes there; return whether it is deleted.

    Parameters
    ----------
    path : Path
        Resolved path of a directory with a lock file.
    expendable : callable
        Called with the path while it is locked; if it returns false, nothing is deleted.
    """
    try:
        lock = WriterLock(path / LOCK)
    except (OSError, StoreLockedError):
        return False
    try:
        if not expendable(path):
            return False
        if sys.platform == "win32":  # cannot rename a directory in which a file is open
            lock.release()
        # In one step, so that nobody opens half of it; if killed now, `replacement` clears it away.
        left = path.with_name(f"{_saving_of(path)}{os.urandom(4).hex()}")
        path.rename(left)
    finally:
        lock.release()
    shutil.rmtree(left, ignore_errors=True)
    return True


def settle(path: Path, *, mark: str) -> None:
    """Wait for a replacement in progress, and undo one that was killed halfway."""
    aside = aside_of(path)
    deadline = time.monotonic() + _WAIT_SECONDS
    stays = False  # found without a lock, and still there: nobody is deleting it
    while is_aside(path, mark=mark) and time.monotonic() < deadline:
        try:
            lock = WriterLock(aside / LOCK, brief=True, creates=stays)
        except StoreLockedError:
            time.sleep(0.01)
            continue
        except FileNotFoundError:  # its save may have just ended
            stays = True
            time.sleep(0.01)
            continue
        except OSError:  # what cannot be written cannot be renamed either
            return
        if sys.platform == "win32":
            lock.release()
        with suppress(OSError):
            aside.rename(path)
            _log.warning("%s: restored after a save that was killed halfway", path)
        lock.release()


def is_aside(path: Path, *, mark: str) -> bool:
    """Whether nothing is at a path just now, because its directory is being replaced."""
    return not path.exists() and (aside_of(path) / mark).exists()


def _new_beside(path: Path) -> tuple[Path, WriterLock]:
    """Make a directory that will replace ``path``, and lock it."""
    while True:
        new = path.with_name(f"{_saving_of(path)}{os.urandom(4).hex()}")
        new.mkdir()
        # Until it is locked, another process may take it for an abandoned one and delete it.
        with suppress(FileNotFoundError, StoreLockedError):
            return new, WriterLock(new / LOCK)


def _put_in_place(new: Path, path: Path, *, replaces: bool) -> None:
    if sys.platform == "win32":  # other systems rename a directory over an empty one
        with suppress(OSError):  # there may be none, or one with files in it
            path.rmdir()
    if not replaces:  # nothing was there, and what is there now is not ours to move
        new.rename(path)
    else:
        aside = aside_of(path)
        shutil.rmtree(aside, ignore_errors=True)
        try:
            path.rename(aside)
            new.rename(path)
        except BaseException:
            if not path.exists() and aside.exists():
                aside.rename(path)
            raise
    sync(path.parent)


def aside_of(path: Path) -> Path:
    """Return where a directory waits while another one takes its place."""
    return path.with_name(f".{path.name}.old")


def unfinished(path: Path) -> Iterator[Path]:
    """Yield directories beside ``path`` that were to take its place, by their names and files."""
    for each in path.parent.glob(f"{glob.escape(_saving_of(path))}*"):
        if _SAVING.fullmatch(each.name.removeprefix(_saving_of(path))) and is_ours(each):
            yield each


def is_ours(directory: Path) -> bool:
    """Whether a directory, no link to one, holds nothing but what a gallery may hold."""
    try:
        names = {each.name for each in directory.iterdir()}
    except OSError:
        return False
    return not directory.is_symlink() and names <= _OURS


def discard_unlocked(directory: Path, mark: str) -> bool:
    """Delete a directory beside a gallery, unless another process is filling it."""
    try:
        lock = WriterLock(directory / LOCK)
    except (OSError, ImgretError):  # locked, or the lock is a link
        return False
    if sys.platform == "win32":  # cannot delete a file that is open
        lock.release()
    _discard(directory, mark)
    _log.info("deleted %s, left by a writer that was killed", directory)
    lock.release()  # only now: its maker must not lock what is being deleted
    return True


def _clear_abandoned(mark: str, path: Path) -> None:
    for left in unfinished(path):
        discard_unlocked(left, mark)


def _saving_of(path: Path) -> str:
    return f".{path.name}.saving-"


def _discard(directory: Path, mark: str) -> None:
    with suppress(OSError):
        (directory / mark).unlink()  # first: no half of it is restored
    shutil.rmtree(directory, ignore_errors=True)
