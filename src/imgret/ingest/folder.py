"""The pictures below a folder."""

from __future__ import annotations

import os
from pathlib import Path

from imgret.errors import ImageNotFoundError

__all__ = ["SUFFIXES", "find_pictures"]

# What pictures of the formats that imgret.images reads are called.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "tif", "tiff", "bmp", "dib"),
        *("heic", "heif", "avif"),
    )
)


def find_pictures(folder: Path) -> tuple[list[Path], int]:
    """Find the files below a folder whose name ends as a picture's does.

    Hidden files and folders (of a leading dot) are passed over; links to folders are not
    followed.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    pictures : list of Path
        Sorted by their path relative to the folder.
    ignored : int
        How many other files there were, pipes and devices among them.

    Raises
    ------
    ImageNotFoundError
        There is no such folder, or one below it cannot be listed.
    """
    if not folder.is_dir():
        raise ImageNotFoundError(
            f"expected a folder of pictures, found {'a file' if folder.exists() else 'nothing'}",
            folder,
        )
    pictures: list[Path] = []
    ignored = 0

    def unreadable(error: OSError) -> None:
        raise ImageNotFoundError(f"cannot be listed: {error.strerror}", Path(error.filename))

    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith("."):
                continue
            path = Path(root, name)
            # To read a pipe would block; a link to nothing is reported when it is read.
            if path.suffix.lower() in SUFFIXES and (path.is_file() or not path.exists()):
                pictures.append(path)
            else:
                ignored += 1
    return sorted(pictures), ignored
