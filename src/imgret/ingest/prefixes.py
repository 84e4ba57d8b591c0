"""Prefixes of keys, which tell the images of several folders and archives apart."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from imgret.abc import Gallery
from imgret.files import is_archive

__all__ = ["choose_prefixes"]


def choose_prefixes(gallery: Gallery, places: Sequence[Path], prefix: str | None) -> dict[str, str]:
    """Return the prefix of the keys of each folder and archive.

    One of which the gallery has items keeps the prefix that they have, unless a prefix is given.
    Otherwise a single folder has none; several, and archives, have their name, preceded by as many
    names of the folders above as are needed to tell them apart.

    Parameters
    ----------
    gallery : Gallery
    places : sequence of Path
        Folders and archives.
    prefix : str or None
        Prefix before all of these.
    """
    roots = {str(place): os.path.realpath(place) for place in places}
    held, others = _held(gallery.files(), roots.values()) if prefix is None and roots else ({}, {})
    chosen = {place: held[root] for place, root in roots.items() if root in held}
    for place, root in roots.items():
        if place in chosen:
            continue
        if len(places) == 1 and not is_archive(place):
            chosen[place] = prefix or ""
        else:
            names = [f"{prefix or ''}{name}/" for name in _names(root)]
            free = (name for name in names if not _is_taken(name, chosen.values(), others))
            chosen[place] = next(free, names[-1])
    return chosen


def _is_taken(name: str, chosen: Iterable[str], others: Mapping[str, str | None]) -> bool:
    """Whether a prefix belongs to another place; not if that is gone, as it was moved here."""
    root = others.get(name, "")
    return name in chosen or root is None or (root != "" and os.path.exists(root))  # noqa: PTH110  # as text


def _names(root: str) -> Iterator[str]:
    """Yield the name of a folder, then with the one above it, and so on."""
    parts = [part for part in Path(root).parts if part.strip("/\\:")] or ["root"]
    for start in range(len(parts) - 1, -1, -1):
        yield "/".join(parts[start:])


def _held(
    files: Iterable[tuple[str, str | None]], roots: Iterable[str]
) -> tuple[dict[str, str], dict[str, str | None]]:
    """Return the prefix that the items of each root have, and those of other items.

    The latter are all beginnings of their keys, with the place below which their paths have the
    rest of the key; None if there is no such place, or several.
    """
    found: dict[str, Counter[str]] = {root: Counter() for root in roots}
    others: dict[str, str | None] = {}
    for key, path in files:
        prefixes = {
            root: start for root in found if (start := _prefix(key, path, root)) is not None
        }
        for root, start in prefixes.items():
            found[root][start] += 1
        if prefixes:
            continue
        for at in (at for at, letter in enumerate(key, 1) if letter == "/"):
            place = _place(path, key[at:])
            if others.setdefault(key[:at], place) != place:
                others[key[:at]] = None
    return {root: counts.most_common(1)[0][0] for root, counts in found.items() if counts}, others


def _place(path: str | None, name: str) -> str | None:
    """Return the place below which a path has this name."""
    name = f"{os.sep}{name.replace('/', os.sep)}"
    return path.removesuffix(name) or None if path is not None and path.endswith(name) else None


def _prefix(key: str, path: str | None, root: str) -> str | None:
    """Return what stands before the path relative to a root; None for an item of another place."""
    if path is None or not path.startswith(root.rstrip(os.sep) + os.sep):
        return None
    name = os.path.relpath(path, root).replace(os.sep, "/")
    return key[: len(key) - len(name)] if key.endswith(name) else None
