"""Items to embed again: changed ones, uncropped ones, and all with another embedder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from imgret.abc import Gallery
from imgret.errors import ImageError, InvalidInputError
from imgret.files import is_url, place_of, state_of
from imgret.ingest.progress import Progress
from imgret.ingest.run import ingest
from imgret.ingest.sources import check_sources
from imgret.pipeline.embed import Existing, Source, path_of
from imgret.pipeline.pipeline import Pipeline
from imgret.types import ImageLike, Item

__all__ = ["ingest_all", "items_to_reembed", "update_item", "whole_sources"]


def items_to_reembed(gallery: Gallery) -> list[Item]:
    """Return the items of a gallery, after a check that all their files exist.

    Raises
    ------
    InvalidInputError
        The file of an image is missing, or the image did not come from a file.
    """
    items = gallery.get(list(gallery))
    lost = [item.key for item in items if not _has_file(item)]
    if lost:
        raise InvalidInputError(
            f"{gallery.name}: expected the file of every image, found none for {len(lost)} of "
            f"{len(items)}, the first {lost[0]!r}; put the files back, or remove those items"
        )
    return items


def _has_file(item: Item) -> bool:
    if item.path is None:
        return False
    if is_url(item.path):  # reading will show it; to ask for each would take hours
        return True
    try:
        state_of(item.path)
    except (ImageError, OSError, ValueError):
        return False
    return True


def ingest_all(
    gallery: Gallery,
    pipeline: Pipeline,
    items: Sequence[Item],
    other: str,
    *,
    progress: Progress,
) -> None:
    """Embed items of another gallery, named ``other``, into this one.

    Raises
    ------
    InvalidInputError
        An image cannot be read.
    """
    sources = [
        Source(item.key, str(item.path), place_of(item.path), item.label, item.metadata)
        for item in items
    ]
    report = ingest(gallery, pipeline, sources, progress=progress)
    if report.failed:
        line = report.failed[0]
        raise InvalidInputError(
            f"{other}: expected every image to be readable, found {len(report.failed)} that are "
            f"not, the first {line.path}: {line.reason}; repair them, or remove those items"
        )


def update_item(
    gallery: Gallery,
    pipeline: Pipeline,
    key: str,
    image: ImageLike | None,
    changes: Mapping[str, Any],
) -> None:
    """Change fields of an item, and its image if one is given.

    Raises
    ------
    KeyNotFoundError
        The gallery does not hold the key.
    ImageError
        The new image cannot be read; the item is unchanged.
    """
    now = replace(gallery.get([key])[0], **changes)
    key = now.key  # the gallery's spelling may differ
    source = Source(key, image, path_of(image), now.label, now.metadata, Existing(now))
    check_sources([source])
    if image is not None:
        report = ingest(gallery, pipeline, [source], progress=False, raise_failures=True)
        if report.ok or report.duplicate:
            return
    gallery.change({key: now})  # not embedded again


def whole_sources(keys: Sequence[str], gallery: Gallery) -> list[Source]:
    """Return the sources of items that come from files, as if their images had changed.

    Raises
    ------
    KeyNotFoundError
        The gallery does not hold a key; the message names it.
    InvalidInputError
        An item does not come from a file.
    """
    items = gallery.get(keys)
    if lost := [item.key for item in items if item.path is None]:
        raise InvalidInputError(
            f"keys: expected items that come from files, found {lost[0]!r}"
            f"{f' and {len(lost) - 1} more' if len(lost) > 1 else ''}, which do not"
        )
    sources = []
    for each in items:
        # Without size, time and hash the image counts as changed.
        item = replace(each, size=None, mtime_ns=None, sha256=None)
        path = place_of(item.path)
        sources.append(Source(item.key, path, path, item.label, item.metadata, Existing(item)))
    return sources
