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

from imgret.ingest.exclude import Exclusion
from imgret.ingest.folder import Walk, is_below
from imgret.support.spelling import normal
from imgret.types import Item

__all__ = ["Losses", "Spared", "find_losses", "spare"]

# Files of a moved folder that are compared with what the gallery knows of them.
_COMPARED = 16


class Losses(NamedTuple):
    """What is gone from a folder.

    Attributes
    ----------
    names : dict of str to str
        Keys of items -> path of the file that is gone, relative to the folder.
    moved : set of str
        Those of them whose files lay below a folder that was moved here.
    excluded : dict of str to int
        What is excluded -> items of the gallery that lie there.
    """

    names: dict[str, str]
    moved: set[str]
    excluded: dict[str, int]


@dataclass(slots=True)
class _Elsewhere:
    """Items of a folder elsewhere, of the same keys: those found here too, and the others."""

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

    They lay below the folder, by whichever spelling of its path; or under the same key below
    another folder of which nothing is left, while most of what was found here is the same as
    it was there: a folder that was moved. Where it cannot be known whether a file is gone, as
    in a folder that may not be listed, it is not.

    Parameters
    ----------
    files : iterable of (str, str or None)
        Key and path of the items of the gallery.
    known : mapping of str to (str, Item)
        Items whose key was found in the folder, by it, with the path relative to the folder.
    walk : Walk
    exclusion : Exclusion
    root : str
        The folder, links resolved.
    prefix : str
        Of the keys.
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
        self._real: dict[str, str] = {}  # folders, links resolved: one look at the disk for each

    def look(self, key: str, path: str) -> None:
        """Enter an item as lost, or as one of a folder elsewhere, or not at all."""
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
        """Enter as lost what was in a folder that was moved here, and is not here."""
        for other in self._others.values():
            if other.missing and other.here and self._was_moved(other):
                for key, name in other.missing.items():
                    if not self._is_hidden(name, os.path.join(self._root, name)):
                        self.lost[key] = name
                        self.moved.add(key)

    def _name_of(self, *spellings: str) -> str | None:
        """Return the path relative to the folder of a file that lies below it, or lay."""
        for path in spellings:
            if is_below(path, self._root):
                return os.path.relpath(path, self._root).replace(os.sep, "/")
        for path in map(normal, spellings):  # macOS takes a name in either form
            if is_below(path, normal(self._root)):
                return os.path.relpath(path, normal(self._root)).replace(os.sep, "/")
        return None

    def _is_hidden(self, name: str, *paths: str) -> bool:
        """Whether a place was not looked at, so that nothing is known of its files."""
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
    """Whether a file is what an item was made from, as far as its size and bytes tell."""
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
    """Return the folder below which a path has the name; None where it ends otherwise."""
    path, name = normal(path.replace(os.sep, "/")), f"/{normal(name)}"
    return path.removesuffix(name) if path.endswith(name) else None


def _is_gone(path: str) -> bool:
    """Whether there surely is no such file."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # a disk that fails, say
        return False
    return False


class Spared(NamedTuple):
    """Vanished items that are not removed unless all are to be.

    Attributes
    ----------
    reasons : dict of str to str
        Why, by key.
    warning : str
        The same in a sentence, empty where nothing is spared.
    """

    reasons: dict[str, str]
    warning: str


def spare(lost: Mapping[str, str], left: int, root: str) -> Spared:
    """Say which of the vanished items are not to be removed, as a disk may be missing.

    That is all of them, where nothing or less than half of what the gallery holds of the folder
    is left. Else those of folders that are there but empty, as the place of a disk is that
    is not mounted, or that are links to nothing; of two files on.

    Parameters
    ----------
    lost : mapping of str to str
        Keys of the vanished items -> path relative to the folder.
    left : int
        Items of the folder whose files are there, under whatever name.
    root : str
        The folder.
    """
    n = len(set(lost.values()))  # files: one may have items of several keys
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
        f"{root}: {len(reasons)} images of {names} were not pruned, as a folder that is there and "
        f"empty may be a disk that is not mounted{advice}",
    )


def _last_there(name: str, root: str) -> str:
    """Return the innermost folder on the way to a lost file that is there; empty for the root."""
    parts: Sequence[str] = name.split("/")[:-1]
    while parts and not os.path.lexists(os.path.join(root, *parts)):
        parts = parts[:-1]
    return "/".join(parts)


def _is_empty(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:  # a link to nothing; or a disk that fails
        return True
