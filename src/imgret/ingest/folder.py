"""The images below a folder: the walk used by everything that takes a folder."""

from __future__ import annotations

import errno
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgret import images
from imgret.errors import ImageNotFoundError
from imgret.ingest.exclude import Exclusion
from imgret.support.warning import warn

__all__ = ["RAW_SUFFIXES", "SUFFIXES", "Walk", "find_images", "walk_folder"]

# Suffixes of the formats that imgret.images reads.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jif", "jfif", "jfi", "pjpeg", "pjp", "mpo", "jps"),
        *("png", "apng", "webp", "gif", "tif", "tiff", "btf", "tf8", "bmp", "dib"),
        *("heic", "heif", "heics", "heifs", "hif", "avif", "avifs"),
    )
)

# Suffixes of RAW photographs, which count as images where the extra `imgret[raw]` is installed.
RAW_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "raf", "orf", "rw2"),
        *("rwl", "pef", "srw", "x3f", "3fr", "fff", "iiq", "mos", "mef", "mrw", "erf", "kdc"),
    )
)


@dataclass(slots=True)
class Walk:
    """Contents of a folder and of the folders below it.

    Attributes
    ----------
    images : list of str
        Files with the suffix of an image, as paths relative to the folder, with forward slashes,
        sorted by their parts.
    ignored : dict of str to int
        Number of other files, pipes and devices included, by suffix in lower case.
    excluded : list of str
        Excluded files and folders, as relative paths; nothing below them was visited.
    repeated : dict of str to str
        Links to folders, and folders reached through links, that were passed over, and the path
        by which their contents were found instead; both are relative.
    above : list of str
        Links to a folder above them, as relative paths; they were not followed.
    failed : dict of str to str
        Folders that could not be listed and links to such folders, as relative paths, with the
        reason.
    """

    images: list[str] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    excluded: list[str] = field(default_factory=list)
    repeated: dict[str, str] = field(default_factory=dict)
    above: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def find_images(folder: Path) -> tuple[list[Path], int]:
    """Find the files below a folder that have the suffix of an image, for reading only.

    Uses `walk_folder`. Folders that could not be listed and links that were not followed are
    reported as warnings.

    Returns
    -------
    images : list of Path
        Sorted by the parts of their path relative to the folder.
    ignored : int
        Number of other files, pipes and devices included.
    """
    walk = walk_folder(folder)
    for place, reason in walk.failed.items():
        warn(f"{folder / place}: passed over, as it {reason}")
    root = os.path.realpath(folder)
    for place, other in walk.repeated.items():
        round_in_a_circle = f"{place}/".startswith(f"{other}/")
        if not round_in_a_circle and not is_below(os.path.realpath(folder / place), root):
            warn(f"{folder / place}: passed over, as {other} leads there too")
    for place in walk.above:
        reason = "it is a link to a folder above"
        warn(f"{folder / place}: passed over, as {reason}")
    return [folder / name for name in walk.images], sum(walk.ignored.values())


def walk_folder(folder: Path, exclusion: Exclusion | None = None) -> Walk:
    """List the contents of a folder and of the folders below it.

    Hidden files and folders (with a leading dot) and excluded ones are passed over. Links to
    folders are followed after everything that is not a link. Each folder is visited once, so
    that links cannot form a loop.

    Parameters
    ----------
    folder : Path
    exclusion : Exclusion, optional
        Rules of exclusion; by default those of `ALWAYS_EXCLUDED`.

    Raises
    ------
    ImageNotFoundError
        The folder does not exist or cannot be listed.
    """
    if not folder.is_dir():
        raise ImageNotFoundError(
            f"expected a folder of images, found {'a file' if folder.exists() else 'nothing'}",
            folder,
        )
    walker = _Walker(folder, exclusion or Exclusion())
    walker.run()
    found = walker.found
    if "" in found.failed:
        raise ImageNotFoundError(found.failed[""], folder)
    found.images.sort(key=lambda name: name.split("/"))
    for names in (found.excluded, found.above):
        names.sort()
    return found


class _Walker:
    def __init__(self, folder: Path, exclusion: Exclusion) -> None:
        self.found = Walk()
        self._folder = str(folder)
        self._exclusion = exclusion
        self._root = os.path.realpath(folder)
        self._visited: dict[str, str] = {}  # real path of a folder -> relative path
        self._links: list[str] = []  # relative paths of links to folders, to be followed
        self._ignored: Counter[str] = Counter()
        self._suffixes = SUFFIXES | RAW_SUFFIXES if images.reads_raw() else SUFFIXES

    def run(self) -> None:
        self._below("", self._root)
        while self._links:
            self._links.sort(key=lambda name: name.split("/"), reverse=True)
            link = self._links.pop()
            # A link up the tree would add everything beside the folder.
            real = os.path.realpath(self._path(link))
            above = {self._root, os.path.realpath(os.path.dirname(self._path(link)))}  # noqa: PTH120  # strings all through
            if real not in self._visited and any(is_below(place, real) for place in above):
                self.found.above.append(link)
            else:
                self._below(link, real)
        self.found.ignored = dict(sorted(self._ignored.items(), key=lambda kind: (-kind[1], kind)))

    def _path(self, relative: str) -> str:
        if not relative:
            return self._folder
        return os.path.join(self._folder, *relative.split("/"))  # noqa: PTH118  # many files

    def _below(self, top: str, real_top: str) -> None:
        """Visit a folder, given by its relative and its real path, and the folders below it."""
        waiting = [(top, real_top)]
        while waiting:
            relative, real = waiting.pop()
            if real in self._visited:
                self.found.repeated[relative] = self._visited[real] or "."
                continue
            self._visited[real] = relative
            try:
                with os.scandir(self._path(relative)) as entries:
                    for entry in entries:
                        name = f"{relative}/{entry.name}" if relative else entry.name
                        if self._is_folder(entry, name):
                            waiting.append((name, os.path.join(real, entry.name)))  # noqa: PTH118  # the same
            except OSError as error:
                self.found.failed[relative] = f"cannot be listed: {error.strerror or error}"

    def _is_folder(self, entry: os.DirEntry[str], relative: str) -> bool:
        """Record an entry; return whether it is a folder to visit."""
        if entry.name.startswith("."):
            return False
        error = None
        try:
            folder, file = entry.is_dir(), entry.is_file()
            link = entry.is_symlink() or _is_junction(entry)
        except OSError as caught:
            folder, file, link, error = False, False, False, caught
        suffix = Path(entry.name).suffix.lower()
        if self._exclusion.matches(relative, folder=folder):
            self.found.excluded.append(relative)
        elif folder and link:
            self._links.append(relative)
        elif folder:
            return True
        # Reading a pipe would block; a broken link is reported when it is read.
        elif suffix in self._suffixes and (file or error or not os.path.exists(entry.path)):  # noqa: PTH110  # the same
            self.found.images.append(relative)
        elif error is not None and error.errno != errno.ELOOP:  # a link to itself is not a folder
            self.found.failed[relative] = f"cannot be examined: {error.strerror or error}"
        else:
            self._ignored[suffix if suffix not in self._suffixes else "pipe or device"] += 1
        return False


def is_below(path: str, folder: str) -> bool:
    """Whether an absolute path is a folder or lies below it, compared as text."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_junction(entry: Any) -> bool:
    """Whether an entry is a junction of Windows; Python can tell from 3.12 on."""
    return bool(getattr(entry, "is_junction", bool)())
