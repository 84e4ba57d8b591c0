"""The images below a folder: the one walk that everything uses which takes a folder."""

from __future__ import annotations

import errno
import os
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgret.errors import ImageNotFoundError
from imgret.ingest.exclude import Exclusion

__all__ = ["SUFFIXES", "Walk", "find_images", "walk_folder"]

# What images of the formats that imgret.images reads are called.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jif", "jfif", "jfi", "pjpeg", "pjp", "mpo", "jps"),
        *("png", "apng", "webp", "gif", "tif", "tiff", "btf", "tf8", "bmp", "dib"),
        *("heic", "heif", "heics", "heifs", "hif", "avif", "avifs"),
    )
)


@dataclass(slots=True)
class Walk:
    """What there is below a folder.

    Attributes
    ----------
    images : list of str
        Files whose name ends as an image's does: paths relative to the folder, with forward
        slashes, sorted by their parts.
    ignored : dict of str to int
        How many other files there are, pipes and devices among them, by what their names end
        in, in lower case.
    excluded : list of str
        Files and folders that are excluded, relative; nothing below them was looked at.
    repeated : dict of str to str
        Links to folders, and folders reached through links, that were passed over, relative, and
        by which path what is there was taken.
    above : list of str
        Links to folders above where they are, which were not followed, relative.
    failed : dict of str to str
        Folders that could not be listed, relative, and links to such, and why.
    """

    images: list[str] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    excluded: list[str] = field(default_factory=list)
    repeated: dict[str, str] = field(default_factory=dict)
    above: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def find_images(folder: Path) -> tuple[list[Path], int]:
    """Find the files below a folder whose name ends as an image's does, to be read and no more.

    As `walk_folder`; what could not be listed and links that were not followed are warnings.

    Returns
    -------
    images : list of Path
        Sorted by the parts of their path relative to the folder.
    ignored : int
        How many other files there were, pipes and devices among them.
    """
    walk = walk_folder(folder)
    for place, reason in walk.failed.items():
        warnings.warn(f"{folder / place}: passed over, as it {reason}", stacklevel=3)
    root = os.path.realpath(folder)
    for place, other in walk.repeated.items():
        round_in_a_circle = f"{place}/".startswith(f"{other}/")
        if not round_in_a_circle and not is_below(os.path.realpath(folder / place), root):
            warnings.warn(
                f"{folder / place}: passed over, as {other} leads there too", stacklevel=3
            )
    for place in walk.above:
        reason = "it is a link to a folder above"
        warnings.warn(f"{folder / place}: passed over, as {reason}", stacklevel=3)
    return [folder / name for name in walk.images], sum(walk.ignored.values())


def walk_folder(folder: Path, exclusion: Exclusion | None = None) -> Walk:
    """List what there is below a folder.

    Hidden files and folders (of a leading dot) and what is excluded are passed over. Links to
    folders are followed, after all that is no link; each folder is visited once, so that no
    link leads round in a circle.

    Parameters
    ----------
    folder : Path
    exclusion : Exclusion, optional
        By default what systems put beside images is excluded.

    Raises
    ------
    ImageNotFoundError
        There is no such folder, or it cannot be listed itself.
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
        self._visited: dict[str, str] = {}  # folders by where they really are, and as what
        self._links: list[str] = []  # to folders, relative, not followed yet
        self._ignored: Counter[str] = Counter()

    def run(self) -> None:
        self._below("", self._root)
        while self._links:
            self._links.sort(key=lambda name: name.split("/"), reverse=True)
            link = self._links.pop()
            # A link up the tree would bring in all that lies beside the folder.
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
        """Visit a folder, given relative and by where it really is, and those in it."""
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
        """Enter a file where it belongs; return whether the entry is a folder to visit."""
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
        # To read a pipe would block; a link to nothing is reported when it is read.
        elif suffix in SUFFIXES and (file or error or not os.path.exists(entry.path)):  # noqa: PTH110  # the same
            self.found.images.append(relative)
        elif error is not None and error.errno != errno.ELOOP:  # a link to itself is no folder
            self.found.failed[relative] = f"cannot be looked at: {error.strerror or error}"
        else:
            self._ignored[suffix if suffix not in SUFFIXES else "pipe or device"] += 1
        return False


def is_below(path: str, folder: str) -> bool:
    """Whether an absolute path is a folder or lies below it, by the letters."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_junction(entry: Any) -> bool:
    """Whether it is what Windows has for a link to a folder; known from Python 3.12 on."""
    return bool(getattr(entry, "is_junction", bool)())
