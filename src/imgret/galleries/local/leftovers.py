"""What killed writers leave beside a gallery and in it, and how it is deleted.

Only what its name and content show to be of this gallery is deleted, and links are not followed.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from pathlib import Path

from imgret.errors import ImgretError
from imgret.galleries.local.files import (
    aside_of,
    discard_unlocked,
    is_ours,
    thumbnails_of,
    unfinished,
)
from imgret.galleries.local.manifest import COPY, FILE, Manifest
from imgret.galleries.local.own import discard_tree
from imgret.projections import LinearProjection

__all__ = ["bytes_of", "clear_leftovers", "drop_thumbnails", "leftovers"]

_log = logging.getLogger(__name__)
_UNFINISHED = (f"{FILE}.tmp", f"{COPY}.tmp", "index.tmp", "index.old", "projection.npz.tmp.tmp")
_PROJECTION = "projection.npz"
_THUMBNAIL = re.compile(r"[0-9a-f]{38}\.jpg|\..+\.part")


def leftovers(path: Path, manifest: Manifest) -> list[Path]:
    """Return what killed writers have left: files and directories that nothing will read again.

    Parameters
    ----------
    path : Path
        Resolved path of a gallery. While another process writes, what it has not finished yet is
        returned as well.
    manifest : Manifest
    """
    found = [path / name for name in _UNFINISHED if _is_there(path / name)]
    waiting = path / f"{_PROJECTION}.tmp"
    if _is_there(waiting) and not _is_needed(path, waiting, manifest):
        found.append(waiting)
    aside = aside_of(path)
    if is_ours(aside) and not _is_another(aside, manifest):
        found.append(aside)
    return [*found, *unfinished(path)]


def clear_leftovers(path: Path, manifest: Manifest) -> None:
    """Delete the leftovers of killed writers; the caller holds the lock of the gallery.

    What cannot be deleted stays, as nothing reads it.
    """
    for left in leftovers(path, manifest):
        with suppress(OSError):
            if left.parent != path:
                discard_unlocked(left, FILE)
                continue
            if left.is_dir() or left.is_symlink():
                discard_tree(left)
            else:
                left.unlink()
            _log.info("deleted %s, left by a writer that was killed", left)
    waiting = path / f"{_PROJECTION}.tmp"
    if waiting.exists():  # the one that the manifest names
        with suppress(OSError):
            waiting.replace(path / _PROJECTION)


def drop_thumbnails(path: Path) -> None:
    """Delete the thumbnails of a gallery, as some may be of removed items; they are made again."""
    folder = thumbnails_of(path)
    if folder.is_symlink():
        return
    for file in folder.glob("[0-9a-f][0-9a-f]/*"):
        if not file.parent.is_symlink() and _THUMBNAIL.fullmatch(file.name):
            with suppress(OSError):
                file.unlink()


def bytes_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a directory; those of a link are 0."""
    if path.is_symlink():
        return 0
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _is_needed(path: Path, waiting: Path, manifest: Manifest) -> bool:
    """Whether a projection that is not in its place is the one that the manifest names."""
    if manifest.projection is None or waiting.is_symlink():
        return False
    return _fingerprint(path / _PROJECTION) != manifest.projection == _fingerprint(waiting)


def _fingerprint(file: Path) -> str | None:
    try:
        return LinearProjection.load(file).fingerprint
    except ImgretError:
        return None


def _is_another(aside: Path, manifest: Manifest) -> bool:
    """Whether a directory is a whole gallery that is not known to be an earlier state of this one.

    Another one may have been put in its place by hand, and this is all there is of it.
    """
    if not (aside / FILE).exists():
        return False
    try:
        earlier = Manifest.read(aside)
    except ImgretError:
        return True
    return (earlier.created, earlier.dim) != (manifest.created, manifest.dim)
