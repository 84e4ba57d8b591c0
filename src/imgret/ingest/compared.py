"""The images of a source, compared with the items of a gallery."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgret.abc import Gallery
from imgret.errors import ImageError
from imgret.files import Place, is_url, state_of
from imgret.ingest.contents import Candidate, Contents
from imgret.ingest.report import Line
from imgret.ingest.sources import FolderContents, check_sources, labeller
from imgret.pipeline.embed import Existing, Source, refusal
from imgret.support.given import label_or_none
from imgret.types import Item

__all__ = ["compare"]


def compare(gallery: Gallery, contents: Contents, labels: Any) -> FolderContents:
    """Return the images of a source with the items of the gallery that they update.

    An image belongs to the item of the same path, whatever its key, or else to that of its key.
    Items whose path is below the root of the source, where nothing is any more, have vanished.
    """
    held, lost, excluded = _held(gallery, contents)
    keys = [_key(one, held) for one in contents.candidates]
    known = {key: Existing(item) for key, item in gallery.match(keys).items()}
    label_of = _label_of(labels, keys)
    failed = list(contents.failed)
    sources: list[Source] = []
    seen: dict[str, str] = {}
    for key, one in zip(keys, contents.candidates, strict=True):
        path = str(one.path)
        before = known.get(key)
        rival = None if before is None else _rival(before.item, one.path)
        if key in seen:
            if seen[key] != path:
                reason = f"the key {key!r} belongs to {seen[key]}; give them different keys"
                failed.append(Line("failed", key, path, reason))
            continue
        if before is not None and rival is not None and before.item.sha256 is None:
            failed.append(Line("failed", key, path, refusal(key, rival)))
            continue
        seen[key] = path
        own = key if before is None else before.item.key  # as the gallery spells it
        label = one.label if one.label is not None else label_or_none(label_of(own, one))
        replaced = None if before is None else replace(before, rival=rival)
        sources.append(Source(own, one.image, one.path, label, one.metadata, replaced, one.state))
    check_sources(sources)
    return FolderContents(
        sources,
        failed,
        gallery.find(list(lost)),
        dict(sorted(contents.ignored.items(), key=lambda kind: (-kind[1], kind))),
        lost,
        {},
        excluded,
        [],
        contents.root or "",
    )


def _held(
    gallery: Gallery, contents: Contents
) -> tuple[dict[str, str], dict[str, str], dict[str, int]]:
    """Look through the paths of a gallery.

    Returns
    -------
    held : dict of str to str
        Keys by path, of the images of the source.
    lost : dict of str to str
        Names below the root by key, of items that are there no more.
    excluded : dict of str to int
        Number of items in each excluded place.
    """
    wanted = {spelling for one in contents.candidates for spelling in _spellings(one.path)}
    excluded = dict.fromkeys(contents.excluded, 0)
    held: dict[str, str] = {}
    lost: dict[str, str] = {}
    for key, path in gallery.files():
        if path is None:
            continue
        if path in wanted:
            held[path] = key
        elif (name := _below(path, contents.root)) is not None:
            if name not in contents.present:
                lost[key] = name
            for place in contents.excluded:
                excluded[place] += name == place or name.startswith(f"{place}/")
    return held, lost, excluded


def _key(one: Candidate, held: dict[str, str]) -> str:
    return next((held[path] for path in _spellings(one.path) if path in held), one.key)


def _spellings(path: Place | None) -> list[str]:
    """Return a path, and as adding a folder spells it, with links resolved."""
    if not isinstance(path, Path):
        return [] if path is None else [str(path)]
    real = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118  # as text
    return [str(path), real]


def _below(path: str, root: str | None) -> str | None:
    if root is None or not path.startswith(root) or path[len(root) : len(root) + 1] not in "/\\":
        return None
    return path[len(root) + 1 :].replace(os.sep, "/") or None


def _rival(item: Item, path: Place | None) -> str | None:
    """Return the other file a key belongs to, if that file still exists."""
    if path is None or item.path is None:
        return item.path if path is None else "an item that has no file"
    if item.path == str(path) or (isinstance(path, Path) and _is_same(path, item.path)):
        return None
    try:
        if not is_url(item.path):
            state_of(item.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ImageError, OSError):  # a failing disk is no reason to replace the item
        pass
    return item.path


def _is_same(path: Path, other: str) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # a member of an archive, or an address
        return False


def _label_of(labels: Any, keys: Sequence[str]) -> Callable[[str, Candidate], str | None]:
    if isinstance(labels, str) and labels == "parent":
        return lambda key, one: one.folder or None  # noqa: ARG005  # one signature for all
    by_path = labeller(labels, Path(), keys)
    return lambda key, one: by_path(key, one.path)  # type: ignore[arg-type]  # a Path or a Url
