"""Files of items: whether they are as they were, and which one of a group is the best."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from imgret import images
from imgret.errors import ImageNotFoundError, ImgretError
from imgret.files import ItemFile, is_url
from imgret.files.archives import split
from imgret.pages.review import Reviewed
from imgret.pipeline.embed import worker_count
from imgret.types import Item

__all__ = ["FileState", "best_of", "look", "problem_of", "sized"]

_THUMBNAIL = 320  # pixels a side of the images on a page
_AHEAD = 32  # files that are read together


class FileState(NamedTuple):
    """A file as it was when it was indexed or reviewed."""

    key: str
    path: str | None
    size: int | None
    mtime_ns: int | None

    @classmethod
    def of(cls, item: Item) -> FileState:
        """Return the state in which an item was indexed."""
        return cls(item.key, item.path, item.size, item.mtime_ns)


def look(items: Sequence[Item], *, max_pixels: int) -> Iterator[Reviewed]:
    """Yield what a review shows of each item; images that cannot be read are missing there.

    Files are read as they are asked for, a few ahead.
    """
    with ThreadPoolExecutor(worker_count(), thread_name_prefix="imgret") as pool:
        for start in range(0, len(items), _AHEAD):
            yield from pool.map(lambda item: _look(item, max_pixels), items[start : start + _AHEAD])


def best_of(files: Sequence[Reviewed]) -> int:
    """Return the position of the file to keep: most pixels, then most bytes, then the first."""
    return max(
        range(len(files)),
        key=lambda n: (not files[n].problem, files[n].pixels, files[n].size or 0, -n),
    )


def sized(item: Item) -> Reviewed:
    """Return the facts of an item by which the best is chosen."""
    problem, size = problem_of(FileState.of(item)), None
    if not problem:
        with suppress(ImgretError):
            size = images.header(_read(item)).size
    return Reviewed(
        item.key, item.path, item.label, *(size or (0, 0)), item.size, item.mtime_ns, None, problem
    )


def _look(item: Item, max_pixels: int) -> Reviewed:
    found = sized(item)
    if item.path is None:
        return found
    try:
        image, _ = images.decode(_read(item), path=item.path, max_pixels=max_pixels)
    except ImgretError as error:
        return found._replace(problem=found.problem or getattr(error, "reason", str(error)))
    return found._replace(
        sharpness=images.sharpness(image), image=images.thumbnail(image, _THUMBNAIL)
    )


def _read(item: Item) -> bytes:
    file = ItemFile.of(item)
    if file is None:
        raise ImageNotFoundError("it has no file")
    return file.read()


def problem_of(file: FileState, since: str = "it was indexed") -> str:
    """Return why a file is not as it was; empty if it is."""
    if file.path is None:
        return "it has no file"
    try:
        now = os.stat(file.path)  # noqa: PTH116  # a path as the gallery has it
    except OSError as error:
        return _lost(file.path, error)
    if (file.size, file.mtime_ns) == (now.st_size, now.st_mtime_ns):
        return ""
    if file.size is None:
        return "its size and time are not in the gallery; index it again"
    if file.size == now.st_size:
        return f"the file was written again since {since}"
    return f"the file has changed since {since}: {file.size:,} bytes then, {now.st_size:,} now"


def _lost(path: str, error: OSError) -> str:
    if is_url(path):
        return "it is at an address, where nothing can be moved"
    if split(path) is not None:
        return "it is inside an archive, where nothing can be moved"
    return f"the file cannot be found: {error.strerror}"
