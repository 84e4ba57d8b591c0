"""A folder of Parquet shards that is filled like a gallery: ``shards://FOLDER``.

Each commit becomes one file, which is complete or not there at all. `imgret import` makes a gallery
of the folder, and other programs read it as a table.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

from imgret.abc import Gallery, GallerySpec, Stored, VectorIndex
from imgret.errors import (
    DuplicateKeyError,
    InvalidInputError,
    StoreExistsError,
    StoreLockedError,
    StoreNotFoundError,
    UnsupportedError,
)
from imgret.filters import Filter
from imgret.galleries.local.files import sync, writing
from imgret.galleries.local.writer_lock import WriterLock
from imgret.search import View
from imgret.transfer.header import GalleryHeader
from imgret.transfer.parquet_file import ParquetTable, write_parquet
from imgret.transfer.records import Records
from imgret.types import Embeddings, Item

__all__ = ["ShardGallery", "shards_in"]

_SCHEME = "shards://"
_FIRST, _LOCK = "part-000000.parquet", ".writer.lock"


def shards_in(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder, in the order in which they were written."""
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


@final
class ShardGallery(Gallery):
    """A folder of shards, which can be added to and not searched.

    Parameters
    ----------
    folder : Path
    writable : bool
    """

    def __init__(self, folder: Path, *, writable: bool) -> None:
        super().__init__()
        self._folder, self._for_writing, self._closed = folder, writable, False
        found = shards_in(folder)
        if not found:
            raise StoreNotFoundError(f"{folder}: expected Parquet shards, found none")
        self._lock_file = WriterLock(folder / _LOCK) if writable else None
        try:
            self._header = _header_of(found[0])
            self._items: dict[str, Item] = {}
            for path in found:
                with ParquetTable(path) as table:
                    self._items |= {item.key: item for item in table.items()}
            self._number = 1 + max(int(path.stem.rpartition("-")[2]) for path in found)
        except BaseException:
            self._close()
            raise

    @classmethod
    def create(cls, uri: str, spec: GallerySpec, prepared: VectorIndex | None = None) -> Self:
        """Write a first shard without rows, which has the description of the gallery."""
        del prepared
        folder = _folder(uri)
        if cls.is_taken(uri):
            raise StoreExistsError(f"{folder}: expected a new or empty folder, found files in it")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / _FIRST, GalleryHeader(spec.with_(projection=None)), [])
        return cls(folder, writable=True)

    @classmethod
    def open(cls, uri: str, *, writable: bool) -> Self:
        """Open a folder of shards; see `Gallery.open`."""
        return cls(_folder(uri), writable=writable)

    @classmethod
    def is_taken(cls, uri: str) -> bool:
        """Whether there are files in the folder."""
        folder = _folder(uri)
        return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))

    @property
    def name(self) -> str:
        """The folder."""
        return f"{_SCHEME}{self._folder}"

    @property
    def spec(self) -> GallerySpec:
        """What the rows are made with."""
        return self._header.spec

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._for_writing

    @property
    def version(self) -> Hashable:
        """Number of rows, which only grows."""
        return len(self._items)

    def _count(self) -> int:
        return len(self._items)

    def _keys(self) -> Iterator[str]:
        return iter(self._items)

    def _find(self, keys: Sequence[str]) -> dict[str, Item]:
        return {key: self._items[key] for key in keys if key in self._items}

    def _embeddings(self, keys: Sequence[str] | None) -> Embeddings:
        del keys
        raise self._refused("read")

    def copy_of(self, sha256: bytes) -> Stored | None:
        """Return None: copies are embedded each."""
        del sha256
        return None

    def files(self) -> Iterator[tuple[str, str | None]]:
        """Yield key and path of every row."""
        return ((item.key, item.path) for item in self._items.values())

    def _add(self, items: Sequence[Item], embeddings: Embeddings, replacing: Sequence[str]) -> None:
        if replacing:
            raise self._refused(f"changed, as the file of {replacing[0]!r} was")
        if taken := self._find([item.key for item in items]):
            raise DuplicateKeyError(f"key: expected new ones, found {next(iter(taken))!r}")
        path = self._folder / f"part-{self._number:06d}.parquet"
        with writing(self._folder):
            _write(path, self._header, [Records(list(items), embeddings)])
        self._number += 1
        self._items |= {item.key: item for item in items}

    def _remove(self, keys: Sequence[str]) -> None:
        raise self._refused(f"changed, as {keys[0]!r} should be")

    def _change(self, items: Mapping[str, Item]) -> None:
        raise self._refused(f"changed, as {next(iter(items))!r} should be")

    def _change_spec(self, changes: Mapping[str, Any]) -> None:
        if any(getattr(self.spec, name) != value for name, value in changes.items()):
            raise self._refused("changed")

    def unused_keys(self, count: int) -> list[str]:
        """Return names made from the number of rows."""
        return [f"image-{len(self._items) + n + 1:06d}" for n in range(count)]

    def _create_filter_index(self, field: str) -> None:
        del field
        raise self._refused("searched")

    def view(self, where: Filter | None = None) -> View:
        """Raise, as shards cannot be searched."""
        del where
        raise self._refused("searched")

    def _close(self) -> None:
        self._closed = True
        if self._lock_file is not None:
            self._lock_file.release()
            self._lock_file = None

    def _refused(self, what: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self.name}: expected a gallery, found shards, which cannot be {what}; `imgret "
            f"import {self._folder} -o photos.imgret` makes a gallery of them"
        )


def _header_of(path: Path) -> GalleryHeader:
    with ParquetTable(path) as table:
        if table.header is None:
            raise InvalidInputError(
                f"{path}: expected a shard that imgret wrote, found another file"
            )
        return table.header


def _write(path: Path, header: GalleryHeader, batches: Sequence[Records]) -> None:
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_parquet(unfinished, header, batches, half=True)
        sync(unfinished)
        if path.exists():
            raise StoreLockedError(f"{path}: another process is writing shards here")
        unfinished.rename(path)
        sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _folder(uri: str) -> Path:
    return Path(os.path.abspath(uri.removeprefix(_SCHEME)))  # noqa: PTH100  # ".." goes, links stay
