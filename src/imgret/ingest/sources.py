"""What the user gave, as named sources."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from imgret.abc.given import label_or_none, listed, plain_metadata
from imgret.errors import DuplicateKeyError, InvalidInputError
from imgret.ingest.folder import find_pictures
from imgret.ingest.pipeline import Known, Source
from imgret.ingest.report import Line
from imgret.storage import Catalog, Item, check_item
from imgret.types import ImageLike

__all__ = ["Labels", "folder_sources", "list_sources", "one_each", "path_of"]

Labels: TypeAlias = 'Literal["parent"] | Callable[[Path], str | None] | Mapping[str, str] | None'


def path_of(image: ImageLike) -> Path | None:
    """Return the absolute path of a picture given by its path; None for others."""
    return Path(image).absolute() if isinstance(image, (str, os.PathLike)) else None


def one_each(given: Any, n: int, what: str, *, single: bool = False) -> list[Any]:
    """Return a list of one value a picture, ``None`` where nothing was given.

    Raises
    ------
    InvalidInputError
        There are more or fewer values than pictures.
    """
    if given is None:
        return [None] * n
    if single and (isinstance(given, (str, Mapping)) or not isinstance(given, Iterable)):
        return [given]
    values = listed(given, what, f"a list of one for each of {n} pictures")
    if len(values) != n:
        raise InvalidInputError(
            f"{what}: expected one for each of {n} pictures, found {len(values)}"
        )
    return values


def list_sources(
    images: Sequence[ImageLike],
    keys: Sequence[str | None],
    labels: Sequence[str | None],
    metadata: Sequence[Mapping[str, Any] | None],
    catalog: Catalog,
) -> list[Source]:
    """Return sources under new keys: those given, or the path, or a number.

    Raises
    ------
    DuplicateKeyError
        A key is given twice or is in the catalog.
    InvalidInputError
        A key or label is no Unicode text, or metadata no mapping of JSON values.
    """
    sources = []
    for number, (image, key, label, facts) in enumerate(
        zip(images, keys, labels, metadata, strict=True), catalog.rows + 1
    ):
        path = path_of(image)
        default = f"image-{number:06d}" if path is None else str(image)
        named = default if key is None else str(key) if isinstance(key, str) else key
        described = {} if facts is None else plain_metadata(facts, named)
        sources.append(Source(named, image, path, label_or_none(label), described))
    check_sources(sources)
    seen: set[str] = set()
    for source in sources:
        if source.key in seen:
            raise DuplicateKeyError(f"keys: expected each key once, found {source.key!r} twice")
        seen.add(source.key)
    if taken := catalog.ids_of(list(seen)):
        raise DuplicateKeyError(
            f"keys: expected new ones, found {next(iter(taken))!r} in the gallery already "
            f"({len(taken)} of {len(seen)}); update() changes an item"
        )
    return sources


class Found(NamedTuple):
    """What there is in a folder, beside what a gallery holds of it.

    Attributes
    ----------
    sources : list of Source
        Its pictures, with what the catalog knows of those whose keys it holds.
    failed : list of Line
        Pictures whose key belongs to a file elsewhere, or whose name is no Unicode text.
    vanished : dict of int to Item
        Items that came from a file below the folder which is gone.
    ignored : int
        Other files.
    """

    sources: list[Source]
    failed: list[Line]
    vanished: dict[int, Item]
    ignored: int


def folder_sources(folder: Path, labels: Labels, prefix: str, catalog: Catalog) -> Found:
    """Return the pictures below a folder, keyed by their path relative to it."""
    pictures, ignored = find_pictures(folder)
    label_of = _labeller(labels, folder)
    keyed = [(prefix + path.relative_to(folder).as_posix(), path) for path in pictures]
    failed = [
        Line("failed", _readable(key), _readable(str(path)), "its name is not UTF-8; rename it")
        for key, path in keyed
        if _readable(key) != key
    ]
    keyed = [(key, path) for key, path in keyed if _readable(key) == key]
    ids = catalog.ids_of([key for key, _ in keyed])
    held = catalog.items(ids.values())
    sources = []
    for key, path in keyed:
        known = None
        if key in ids:
            item = held[ids[key]]
            if (rival := _rival(item, path)) is not None:
                reason = f"the key {key!r} belongs to {rival}; add this folder with a prefix"
                failed.append(Line("failed", key, str(path), reason))
                continue
            known = Known(ids[key], item)
        label = label_or_none(label_of(key, path))
        sources.append(Source(key, path, path.absolute(), label, {}, known))
    check_sources(sources)
    here = {str(source.path) for source in sources}
    vanished = {
        id_: item
        for id_, item in catalog.items_below(folder.absolute()).items()
        if item.path not in here and not os.path.lexists(str(item.path))
    }
    return Found(sources, failed, vanished, ignored)


def check_sources(sources: Sequence[Source]) -> None:
    """Check what the catalog will have to take in, before any picture is read."""
    for source in sources:
        path = None if source.path is None else str(source.path)
        check_item(Item(source.key, path, label=source.label, metadata=source.metadata))


def _readable(name: str) -> str:
    """Replace what came from bytes that are no UTF-8, which SQLite would refuse."""
    return name.encode("utf-8", "replace").decode()


def _labeller(labels: Labels, folder: Path) -> Callable[[str, Path], str | None]:
    if labels is None:
        return lambda key, path: None  # noqa: ARG005  # one signature for all
    if labels == "parent":
        return lambda key, path: None if path.parent == folder else path.parent.name  # noqa: ARG005
    if isinstance(labels, Mapping):
        return lambda key, path: labels.get(key)  # noqa: ARG005
    if callable(labels):
        return lambda key, path: labels(path)  # noqa: ARG005
    raise InvalidInputError(
        f"labels: expected 'parent', a callable, a mapping or None, found {labels!r}"
    )


def _rival(item: Item, path: Path) -> str | None:
    """Return the other file a key belongs to, if that file still exists."""
    if item.path is None:
        return "an item that came from no file"
    if item.path == str(path.absolute()):
        return None
    try:
        return None if path.samefile(item.path) else item.path
    except OSError:  # that file is gone; or this one is, which reading it will tell
        return None
