"""Files of a gallery: those that are written to must lie in it, as links are not followed.

A gallery from somebody else may contain links to files elsewhere. Reading through them does no
harm; writing would overwrite those files.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

from imgret.errors import StoreCorruptError

__all__ = ["check_no_link", "create_file", "discard_tree", "open_file", "remedy"]

# Neither is there on Windows, where making links takes a privilege.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def remedy(directory: Path) -> str:
    """Return what to do about a damaged file of a gallery."""
    return f"restore it from a copy, or run `imgret check {directory} --repair`"


def check_no_link(path: Path) -> None:
    """Raise an error if a file that will be written to is a link."""
    if path.is_symlink():
        raise StoreCorruptError(
            f"{path}: expected a file of the gallery itself, found a link to "
            f"{path.readlink()}, which is not followed for writing; put the file itself here"
        )


def open_file(path: Path, *, creates: bool = False) -> int:
    """Return the descriptor of a file for reading and writing, which is not emptied.

    Parameters
    ----------
    path : Path
    creates : bool
        Whether a missing file is created.

    Raises
    ------
    StoreCorruptError
        It is a link.
    OSError
        It cannot be opened.
    """
    check_no_link(path)  # for its message; a link made since is not followed either
    return os.open(path, os.O_RDWR | _NO_FOLLOW | (os.O_CREAT if creates else 0), 0o666)


def create_file(path: Path) -> BinaryIO:
    """Create a file for writing; one that is there is replaced, a link never followed."""
    path.unlink(missing_ok=True)
    return path.open("xb")


def discard_tree(path: Path) -> None:
    """Delete a directory, or a link to one, as far as possible."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)
