"""Images given by the user, as named sources."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from imgret.abc import Gallery
from imgret.errors import DuplicateKeyError, InvalidInputError
from imgret.ingest.exclude import Exclusion
from imgret.ingest.folder import walk_folder
from imgret.ingest.losses import find_losses
from imgret.ingest.report import Line
from imgret.pipeline.embed import Existing, Source, path_of, refusal
from imgret.support.given import (
    by_key,
    label_or_none,
    listed,
    plain_labels,
    plain_metadata,
    plain_rows,
    row_mappings,
)
from imgret.support.items import check_item
from imgret.support.spelling import respelled
from imgret.types import ImageLike, Item

__all__ = ["Labels", "folder_sources", "list_sources", "need_new", "one_each", "vector_items"]

Labels: TypeAlias = 'Literal["parent"] | Callable[[Path], str | None] | Mapping[str, str] | None'


def one_each(given: Any, n: int, what: str, *, single: bool = False) -> list[Any]:
    """Return a list with one value per image, all None if nothing was given.

    Raises
    ------
    InvalidInputError
        There are more or fewer values than images.
    """
    if given is None:
        return [None] * n
    if single and (isinstance(given, (str, Mapping)) or not isinstance(given, Iterable)):
        return [given]
    values = listed(
        row_mappings(given) if what == "metadata" else given,
        what,
        f"a list of one for each of {n} images",
    )
    if len(values) != n:
        raise InvalidInputError(f"{what}: expected one for each of {n} images, found {len(values)}")
    return values


def list_sources(
    images: Sequence[ImageLike],
    keys: Sequence[str | None],
    labels: Sequence[str | None],
    metadata: Sequence[Mapping[str, Any] | None],
    gallery: Gallery,
) -> list[Source]:
    """Return sources under new keys: those given, or the path, or a number.

    Raises
    ------
    DuplicateKeyError
        A key is given twice or is in the gallery.
    InvalidInputError
        A key or label is not Unicode text, or metadata is not a mapping of JSON values.
    """
    sources = []
    paths = [path_of(image) for image in images]
    names = _names(
        [
            key if key is not None or path is None else str(image)
            for image, path, key in zip(images, paths, keys, strict=True)
        ],
        gallery,
    )
    for image, path, named, label, facts in zip(
        images, paths, names, labels, metadata, strict=True
    ):
        described = {} if facts is None else plain_metadata(facts, named)
        sources.append(Source(named, image, path, label_or_none(label), described))
    check_sources(sources)
    need_new([source.key for source in sources], gallery)
    return sources


def vector_items(
    keys: Sequence[str | None],
    labels: Sequence[str | None],
    metadata: Sequence[Mapping[str, Any] | None],
    gallery: Gallery,
) -> list[Item]:
    """Return items without an image, which are checked when they are added."""
    names = _names(keys, gallery)
    columns = {"key": names, "label": plain_labels(labels), "metadata": plain_rows(metadata, names)}
    # Set field by field of all items: the class is frozen, and takes three times as long for each.
    items = [object.__new__(Item) for _ in names]
    for each in fields(Item):
        values = columns.get(each.name) or repeat(each.default)
        deque(map(getattr(Item, each.name).__set__, items, values), maxlen=0)
    return items


def _names(given: Sequence[Any], gallery: Gallery) -> list[Any]:
    """Return the keys given, as plain text, and an unused one for each None."""
    keys = [str(key) if isinstance(key, str) else key for key in given]
    if any(key is None for key in keys):
        unused = gallery.unused_keys(len(keys))
        keys = [new if key is None else key for key, new in zip(keys, unused, strict=True)]
    return keys


def need_new(keys: Sequence[str], gallery: Gallery) -> None:
    """Raise `DuplicateKeyError` if a key is given twice or is in the gallery."""
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise DuplicateKeyError(f"keys: expected each key once, found {key!r} twice")
        seen.add(key)
    if taken := gallery.find(list(seen)):
        raise DuplicateKeyError(
            f"keys: expected new ones, found {next(iter(taken))!r} in the gallery already "
            f"({len(taken)} of {len(seen)}); update() changes an item"
        )


class FolderContents(NamedTuple):
    """Contents of a folder, compared with a gallery.

    Attributes
    ----------
    sources : list of Source
        Images of the folder, with the items of the gallery that have their keys.
    failed : list of Line
        Images whose key belongs to a file elsewhere, or whose name is not Unicode text; folders
        that could not be listed.
    vanished : dict of str to Item
        Items, by key, whose file was in this folder and is gone.
    ignored : dict of str to int
        Number of other files, by suffix.
    lost : dict of str to str
        Former path, relative to the folder, of the file of each vanished item, by key.
    moved : dict of str to Item
        Vanished items of a folder that was moved here, with the path they would have now.
    excluded : dict of str to int
        Excluded paths, with the number of items of the gallery there.
    repeated : list of str
        Links that were passed over.
    root : str
        Path of the folder, links resolved.
    """

    sources: list[Source]
    failed: list[Line]
    vanished: dict[str, Item]
    ignored: dict[str, int]
    lost: dict[str, str]
    moved: dict[str, Item]
    excluded: dict[str, int]
    repeated: list[str]
    root: str


def folder_sources(
    folder: Path, labels: Labels, prefix: str, gallery: Gallery, exclude: Any = ()
) -> FolderContents:
    """Return the images below a folder, keyed by their path relative to it.

    An item belongs to the folder if its file is there, links resolved. It also belongs to it if
    its file had the same key below a folder of which nothing is left, and most of the files that
    both have are the same: then that folder was moved here.
    """
    exclusion = Exclusion(exclude)
    walk = walk_folder(folder, exclusion)
    root = os.path.realpath(folder)
    failed = [
        Line("failed", f"{prefix}{readable(place)}/", readable(str(folder / place)), reason)
        for place, reason in walk.failed.items()
    ]
    keyed = {}
    for name in walk.images:
        if readable(name) == name:
            keyed[prefix + name] = name
        else:
            where = readable(str(folder / name))
            reason = "its name is not UTF-8; rename it"
            failed.append(Line("failed", prefix + readable(name), where, reason))
    known = {key: Existing(item) for key, item in gallery.match(list(keyed)).items()}
    # Keys as the gallery spells them.
    names = {key: known[key].item.key if key in known else key for key in keyed}
    label_of = labeller(labels, folder, list(names.values()))
    sources = []
    for found, name in keyed.items():
        key, image, path = names[found], folder / name, Path(root, name)
        before = known.get(found)
        if before is not None:
            rival = _rival(before.item, path)
            if rival is not None and before.item.sha256 is None:
                failed.append(Line("failed", key, str(path), refusal(key, rival)))
                continue
            before = replace(before, rival=rival)
        label = label_or_none(label_of(key, image))
        sources.append(Source(key, image, path, label, {}, before))
    check_sources(sources)
    losses = find_losses(
        gallery.files(),
        {before.item.key: (keyed[key], before.item) for key, before in known.items()},
        walk,
        exclusion,
        root=root,
        prefix=prefix,
    )
    # Items with a key of this folder come first: a renamed file is theirs.
    vanished = dict(
        sorted(
            gallery.find(list(losses.names)).items(),
            key=lambda entry: entry[0] != prefix + losses.names[entry[0]],
        )
    )
    moved = {
        key: replace(vanished[key], path=str(Path(root, losses.names[key]))) for key in losses.moved
    }
    return FolderContents(
        sources,
        failed,
        vanished | moved,
        {readable(suffix): count for suffix, count in walk.ignored.items()},
        losses.names,
        moved,
        {readable(place): losses.excluded.get(place, 0) for place in walk.excluded},
        [readable(link) for link in sorted({*walk.repeated, *walk.above})],
        root,
    )


def check_sources(sources: Sequence[Source]) -> None:
    """Check keys, labels and metadata before any image is read."""
    for source in sources:
        path = None if source.path is None else str(source.path)
        check_item(Item(source.key, path, label=source.label, metadata=source.metadata))


def readable(name: str) -> str:
    """Replace characters from bytes that are not UTF-8, which SQLite would refuse."""
    return name.encode("utf-8", "replace").decode()


def labeller(
    labels: Labels, folder: Path, keys: Sequence[str]
) -> Callable[[str, Path], str | None]:
    """Return the function from key and path of an image to its label."""
    labels = by_key(labels)
    if labels is None:
        return lambda key, path: None  # noqa: ARG005  # one signature for all
    if labels == "parent":
        # Directly in the folder, the key says whether that has a name: with several folders it has.
        return lambda key, path: (
            path.parent.name
            if path.parent != folder
            else key.rpartition("/")[0].rpartition("/")[2] or None
        )
    if isinstance(labels, Mapping):
        other = respelled(keys, labels)
        return lambda key, path: labels.get(other.get(key, key))  # noqa: ARG005
    if callable(labels):
        return lambda key, path: labels(path)  # noqa: ARG005
    raise InvalidInputError(
        f"labels: expected 'parent', a callable, a mapping or None, found {labels!r}"
    )


def _rival(item: Item, path: Path) -> str | None:
    """Return the other file a key belongs to, if that file still exists."""
    if item.path is None:
        return "an item that has no file"
    if item.path == str(path):
        return None
    try:
        return None if path.samefile(item.path) else item.path
    except (FileNotFoundError, NotADirectoryError):  # the other; or this, as reading will show
        return None
    except OSError:  # a failing disk is no reason to replace the item
        return item.path
