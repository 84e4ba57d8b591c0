"""Prefixes of keys, which tell the images of several folders and archives apart."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
    held, used = _held(gallery.files(), roots.values()) if prefix is None and roots else ({}, set())
    chosen = {place: held[root] for place, root in roots.items() if root in held}
    used |= set(chosen.values())
    for place, root in roots.items():
        if place in chosen:
            continue
        if len(places) == 1 and not is_archive(place):
            chosen[place] = prefix or ""
        else:
            names = [f"{prefix or ''}{name}/" for name in _names(root)]
            chosen[place] = next((name for name in names if name not in used), names[-1])
            used.add(chosen[place])
    return chosen


def _names(root: str) -> Iterator[str]:
    """Yield the name of a folder, then with the one above it, and so on."""
    parts = [part for part in Path(root).parts if part.strip("/\\:")] or ["root"]
    for start in range(len(parts) - 1, -1, -1):
        yield "/".join(parts[start:])


def _held(
    files: Iterable[tuple[str, str | None]], roots: Iterable[str]
) -> tuple[dict[str, str], set[str]]:
    """Return the prefix that the items of each root have, and all beginnings of other keys."""
    found: dict[str, Counter[str]] = {root: Counter() for root in roots}
    others: set[str] = set()
    for key, path in files:
        prefixes = {
            root: start for root in found if (start := _prefix(key, path, root)) is not None
        }
        for root, start in prefixes.items():
            found[root][start] += 1
        if not prefixes:
            others.update(key[: at + 1] for at, letter in enumerate(key) if letter == "/")
    return {root: counts.most_common(1)[0][0] for root, counts in found.items() if counts}, others


def _prefix(key: str, path: str | None, root: str) -> str | None:
    """Return what stands before the path relative to a root; None for an item of another place."""
    if path is None or not path.startswith(root.rstrip(os.sep) + os.sep):
        return None
    name = os.path.relpath(path, root).replace(os.sep, "/")
    return key[: len(key) - len(name)] if key.endswith(name) else None
