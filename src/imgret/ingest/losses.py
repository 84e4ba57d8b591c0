"""Items whose files are gone: which belong to a folder, and which of them may be removed."""

# ruff: noqa: PTH118  # paths as the catalog has them: text, and many of them

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from imgret.files.archives import split
from imgret.ingest.exclude import Exclusion
from imgret.ingest.folder import Walk, is_below
from imgret.support.spelling import normal
from imgret.types import Item

__all__ = ["Losses", "Spared", "find_losses", "spare"]

# Number of files of a moved folder that are compared with their items.
_COMPARED = 16


class Losses(NamedTuple):
    """Items whose files are gone from a folder.

    Attributes
    ----------
    names : dict of str to str
        Keys of items -> path of the missing file, relative to the folder.
    moved : set of str
        Those keys whose files were below a folder that was moved here.
    excluded : dict of str to int
        Excluded path -> number of items of the gallery there.
    """

    names: dict[str, str]
    moved: set[str]
    excluded: dict[str, int]


@dataclass(slots=True)
class _Elsewhere:
    """Items of a folder elsewhere with the same keys: those found here too, and those not."""

    here: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)


def find_losses(
    files: Iterable[tuple[str, str | None]],
    known: Mapping[str, tuple[str, Item]],
    walk: Walk,
    exclusion: Exclusion,
    *,
    root: str,
    prefix: str,
) -> Losses:
    """Find the items of a folder whose files are gone.

    The files were below the folder, by any spelling of its path. Or they had the same key below
    another folder of which nothing is left, while most of the files found here are the same as
    the ones there: that folder was moved. A file that may still exist, as in a folder that cannot
    be listed, does not count as gone.

    Parameters
    ----------
    files : iterable of (str, str or None)
        Key and path of the items of the gallery.
    known : mapping of str to (str, Item)
        Key -> path relative to the folder, and item, for each key found in the folder.
    walk : Walk
    exclusion : Exclusion
    root : str
        Path of the folder, links resolved.
    prefix : str
        Prefix of the keys.
    """
    search = _Search(known, walk, exclusion, root=root, prefix=prefix)
    for key, path in files:
        if path is not None:
            search.look(key, path)
    search.follow_moves()
    return Losses(search.lost, search.moved, dict(search.excluded))


class _Search:
    def __init__(
        self,
        known: Mapping[str, tuple[str, Item]],
        walk: Walk,
        exclusion: Exclusion,
        *,
        root: str,
        prefix: str,
    ) -> None:
        self.lost: dict[str, str] = {}
        self.moved: set[str] = set()
        self.excluded: Counter[str] = Counter()
        self._known = known
        self._exclusion = exclusion
        self._root = root
        self._prefix = prefix
        self._closed = [os.path.join(root, place) for place in walk.failed]
        self._closed += [os.path.realpath(place) for place in self._closed]
        self._others: defaultdict[str, _Elsewhere] = defaultdict(_Elsewhere)
        self._real: dict[str, str] = {}  # folder -> real path, to read the disk once for each

    def look(self, key: str, path: str) -> None:
        """Record an item as lost, or as one of a folder elsewhere, or not at all."""
        if key in self._known:
            name = self._known[key][0]
            here = os.path.join(self._root, name.replace("/", os.sep))
            if path != here and (other := _root_of(path, name)) is not None:
                self._others[other].here.append(key)
                self._others[other].paths.append(path)
            return
        real = self._resolved(path)
        if (lost := self._name_of(path, real)) is not None:
            if not self._is_hidden(lost, path, real) and _is_gone(path) and _is_gone(real):
                self.lost[key] = lost
        elif key.startswith(self._prefix):
            name = key.removeprefix(self._prefix)
            if (other := _root_of(path, name)) is not None:
                self._others[other].missing[key] = name
                self._others[other].paths.append(path)

    def follow_moves(self) -> None:
        """Record as lost the items of a folder moved here whose files are not here."""
        for other in self._others.values():
            if other.missing and other.here and self._was_moved(other):
                for key, name in other.missing.items():
                    if not self._is_hidden(name, os.path.join(self._root, name)):
                        self.lost[key] = name
                        self.moved.add(key)

    def _name_of(self, *spellings: str) -> str | None:
        """Return the path of a file relative to the folder; None if it was never below it."""
        for path in spellings:
            if is_below(path, self._root):
                return os.path.relpath(path, self._root).replace(os.sep, "/")
        for path in map(normal, spellings):  # macOS accepts a name in either Unicode form
            if is_below(path, normal(self._root)):
                return os.path.relpath(path, normal(self._root)).replace(os.sep, "/")
        return None

    def _is_hidden(self, name: str, *paths: str) -> bool:
        """Whether a path was not visited, so that it is unknown if its file exists."""
        if (place := self._exclusion.place(name)) is not None:
            self.excluded[place] += 1
            return True
        return any(is_below(path, closed) for path in paths for closed in self._closed)

    def _was_moved(self, other: _Elsewhere) -> bool:
        if not all(map(_is_gone, other.paths)):
            return False
        sample = [self._known[key] for key in other.here[:: -(-len(other.here) // _COMPARED)]]
        same = sum(_is_same(item, Path(self._root, name)) for name, item in sample)
        return 2 * same > len(sample)

    def _resolved(self, path: str) -> str:
        head, tail = os.path.split(path)
        if head not in self._real:
            self._real[head] = os.path.realpath(head)
        return os.path.join(self._real[head], tail)


def _is_same(item: Item, path: Path) -> bool:
    """Whether a file is the one an item was made from, by its size and its time or bytes."""
    try:
        status = path.stat()
        if item.size != status.st_size:
            return False
        if item.mtime_ns == status.st_mtime_ns:
            return True
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == item.sha256
    except OSError:
        return False


def _root_of(path: str, name: str) -> str | None:
    """Return the folder below which a path has the name; None if it ends otherwise."""
    path, name = normal(path.replace(os.sep, "/")), f"/{normal(name)}"
    return path.removesuffix(name) if path.endswith(name) else None


def _is_gone(path: str) -> bool:
    """Whether a file certainly does not exist."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return split(path) is None  # the member of an archive, which is another source
    except (OSError, ValueError):  # such as a failing disk
        return False
    return False


class Spared(NamedTuple):
    """Vanished items that only ``prune="all"`` removes.

    Attributes
    ----------
    reasons : dict of str to str
        Reason for each, by key.
    warning : str
        The reasons in one sentence; empty if nothing is spared.
    """

    reasons: dict[str, str]
    warning: str


def spare(lost: Mapping[str, str], left: int, root: str) -> Spared:
    """Choose the vanished items that are kept because a disk may be missing.

    These are all of them if less than half of the gallery's files of the folder are left.
    Otherwise they are those of subfolders that exist but are empty, like the mount point of a
    missing disk, or that are broken links. Subfolders with one vanished file do not count.

    Parameters
    ----------
    lost : mapping of str to str
        Keys of the vanished items -> path relative to the folder.
    left : int
        Number of items of the folder whose files exist, under any name.
    root : str
        Path of the folder.
    """
    n = len(set(lost.values()))  # files, as items of several keys may share one
    advice = "; to remove them, use prune='all' (--prune=all)"
    if n > left:
        missing = "all" if not left else f"more than half ({n} of {n + left})"
        return Spared(
            dict.fromkeys(lost, f"kept, as {missing} of the folder's images are gone"),
            f"{root}: {missing} of its images are gone, and nothing was pruned, as a disk that is "
            f"not mounted looks the same{advice}",
        )
    empty: dict[str, bool] = {}
    by_place: dict[str, list[str]] = {}
    for key, name in lost.items():
        place = _last_there(name, root)
        if place and place not in empty:
            empty[place] = _is_empty(os.path.join(root, place))
        if place and empty[place]:
            by_place.setdefault(place, []).append(key)
    by_place = {
        place: keys for place, keys in by_place.items() if len({lost[key] for key in keys}) > 1
    }
    reasons = {
        key: f"kept, as the folder {place!r} is empty"
        for place, keys in by_place.items()
        for key in keys
    }
    if not reasons:
        return Spared({}, "")
    names = ", ".join(map(repr, sorted(by_place)))
    return Spared(
        reasons,
        f"{root}: {len(reasons)} images of {names} were not pruned, as an empty folder may be "
        f"a disk that is not mounted{advice}",
    )


def _last_there(name: str, root: str) -> str:
    """Return the innermost folder above a lost file that exists; empty for the root."""
    parts: Sequence[str] = name.split("/")[:-1]
    while parts and not os.path.lexists(os.path.join(root, *parts)):
        parts = parts[:-1]
    return "/".join(parts)


def _is_empty(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:  # a broken link or a failing disk
        return True
