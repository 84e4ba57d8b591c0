"""A gallery in a directory or in memory: items, embeddings, and the index that follows them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar, final
from urllib.parse import unquote

import numpy as np

from imgret.abc import Gallery, GallerySpec, Stored, VectorIndex
from imgret.errors import ImgretError, StoreCorruptError, UnsupportedError
from imgret.filters import Filter
from imgret.galleries.local.live_index import LiveIndex
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.store import Store
from imgret.galleries.local.view import LocalView
from imgret.galleries.report import CheckReport
from imgret.indexes.make import index_part
from imgret.projections import IdentityProjection, LinearProjection
from imgret.search import SearchPlan, StaleViewError
from imgret.support.interrupts import held
from imgret.support.warning import warn
from imgret.types import Embeddings, Ids, Item, Json, Part

__all__ = ["LocalGallery"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_SCHEME = "file://"
# Rows of fewer removed items are not worth writing a gallery again: some 3 MB.
_FEW = 1000


@final
class LocalGallery(Gallery):
    """A gallery in a directory or in memory; it keeps a store and its index in step.

    Parameters
    ----------
    store : Store
    prepared : VectorIndex, optional
        Empty index made by the user; by default one is made from the manifest.
    """

    consistent_views = True
    supports_projection = True
    supports_index = True

    def __init__(self, store: Store, prepared: VectorIndex | None = None) -> None:
        super().__init__()
        self.store = store
        self.live = LiveIndex(store, prepared)
        self._wait_for = 0  # rows of removed items, after a failed try to drop them

    # -- where it is -------------------------------------------------------------------------

    @classmethod
    def create(cls, uri: str, spec: GallerySpec, prepared: VectorIndex | None = None) -> Self:
        """Make an empty gallery in a directory; see `Gallery.create`."""
        return cls(Store.create(_path(uri), Manifest.of(spec)), prepared)

    @classmethod
    def open(cls, uri: str, *, writable: bool) -> Self:
        """Open a gallery in place; see `Gallery.open`."""
        return cls._restored(Store.open(_path(uri), writable=writable), _path(uri))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a gallery into memory and check every vector; raises what `open` does."""
        return cls._restored(Store.load(path), path)

    @classmethod
    def in_memory(cls, spec: GallerySpec, prepared: VectorIndex | None = None) -> Self:
        """Make an empty gallery in memory."""
        return cls(Store.in_memory(Manifest.of(spec)), prepared)

    @classmethod
    def is_taken(cls, uri: str) -> bool:
        """Whether something other than an empty directory exists there.

        A gallery whose replacement was killed halfway is there: opening it restores it.
        """
        path = _path(uri)
        try:
            return any(path.iterdir())
        except FileNotFoundError:
            return Store.stands_aside(path)
        except OSError:  # a file, or a directory that may not be listed
            return True

    @staticmethod
    def place(uri: str) -> Path:
        """Return the directory that a path or URI names."""
        return _path(uri)

    @classmethod
    def _restored(cls, store: Store, path: Path) -> Self:
        try:
            gallery = cls(store)
            gallery.live.restore(path)
        except BaseException:
            store.close()
            raise
        return gallery

    @property
    def name(self) -> str:
        """Path of the gallery; ``"gallery"`` in memory."""
        return "gallery" if self.store.path is None else str(self.store.path)

    @property
    def spec(self) -> Manifest:
        """What the gallery is made of."""
        return self.store.manifest

    @property
    def path(self) -> Path | None:
        """Directory of the gallery; None in memory."""
        return self.store.path

    def _where(self) -> str:
        return "in memory" if self.store.path is None else super()._where()

    def _shown_index(self) -> str:
        return self.live.describe()

    @property
    def closed(self) -> bool:
        """Whether the gallery was closed."""
        return self.store.closed

    @property
    def writable(self) -> bool:
        """Whether the gallery was opened for writing, by this process."""
        return self.store.writable

    @property
    def version(self) -> Hashable:
        """A value that changes with every commit, and with the index."""
        return self._now(lambda live: (live.generation, live.store.catalog.version, live.sync()))

    def _now(self, ask: Callable[[LiveIndex], _T]) -> _T:
        """Return what the index answers, though another thread may put another one in its place."""
        try:
            return ask(self.live)
        except StaleViewError:
            with self._lock:
                return ask(self.live)

    def check_writable(self) -> None:
        """Raise if the gallery was closed, or opened for reading or by the parent process."""
        self.store.check_writable()

    # -- items -------------------------------------------------------------------------------

    def _count(self) -> int:
        return self.store.catalog.live

    def _keys(self) -> Iterator[str]:
        return iter(self.store.catalog)

    def _find(self, keys: Sequence[str]) -> dict[str, Item]:
        catalog = self.store.catalog
        ids = catalog.ids_of(keys)
        items = catalog.items(ids.values())
        for key, id_ in ids.items():
            if items[id_].key != key:  # SQLite's index is damaged, not the row
                raise StoreCorruptError(
                    f"{self.name}: expected item {key!r} where the catalog's index says it is, "
                    f"found {items[id_].key!r}; run `imgret check {self.name} --repair`"
                )
        return {key: items[id_] for key, id_ in ids.items()}

    def _embeddings(self, keys: Sequence[str] | None) -> Embeddings:
        return self.store.read(self.store.catalog.live_ids() if keys is None else self._ids(keys))

    def _ids(self, keys: Sequence[str]) -> Ids:
        ids = self.store.catalog.ids_of(keys)
        return np.array([ids[key] for key in keys], dtype=np.int64)

    def copy_of(self, sha256: bytes) -> Stored | None:
        """Return the oldest item made from a file with this digest."""
        store = self.store  # another thread may put another one in its place
        found = store.catalog.by_sha256(sha256)
        if found is None:
            return None
        # blocks() checks them: a damaged vector must not get a valid checksum elsewhere.
        ((_, rows),) = store.blocks(np.array([found[0]], dtype=np.int64))
        return Stored(found[1], rows[0])

    def files(self) -> Iterator[tuple[str, str | None]]:
        """Yield key and path of every item."""
        return ((key, path) for _, key, path in self.store.catalog.files())

    def unused_keys(self, count: int) -> list[str]:
        """Return names made from item numbers, without those already in use."""
        catalog, keys = self.store.catalog, list[str]()
        number = self.store.manifest.dropped + catalog.rows
        while len(keys) < count:
            missing = count - len(keys)
            names = [f"image-{number + n:06d}" for n in range(1, missing + 1)]
            taken = catalog.ids_of(names)
            keys += [name for name in names if name not in taken]
            number += missing
        return keys

    def _add(self, items: Sequence[Item], embeddings: Embeddings, replacing: Sequence[str]) -> None:
        replaced = self._ids(replacing).tolist() if replacing else ()
        self.live.follow()  # an empty index is built at once, and grows as items come
        self.store.commit(embeddings, items, replaced=replaced)
        self.live.follow()
        self._compact_if_due()

    def _remove(self, keys: Sequence[str]) -> None:
        self.store.remove(self._ids(keys).tolist())
        self.live.sync()
        self._compact_if_due()

    def _change(self, items: Mapping[str, Item]) -> None:
        ids = self.store.catalog.ids_of(list(items))
        self.store.catalog.replace_all({ids[key]: item for key, item in items.items()})

    def _change_spec(self, changes: Mapping[str, Any]) -> None:
        self.store.change_manifest(**changes)

    def _create_filter_index(self, field: str) -> None:
        self.store.catalog.create_filter_index(field)

    # -- searching -----------------------------------------------------------------------------

    def check_where(self, where: Filter) -> None:
        """Raise for a field that no item has, and for a filter that cannot be compiled."""
        self.store.catalog.check_where(where)

    def view(self, where: Filter | None = None) -> LocalView:
        """Return the view that a search has now."""
        live = self.live  # with its store: another thread may put another one in its place
        return LocalView(live.store, live, where)

    @contextmanager
    def _viewed(self) -> Iterator[LocalView]:
        self.live.sync()
        yield self.view()

    def catch_up(self) -> None:
        """Add new items to the index, or warn if it needs more of them first."""
        try:
            self.live.sync()
        except ImgretError as error:
            warn(f"the items are stored, but cannot be searched yet: {error}")

    @property
    def projection(self) -> LinearProjection | None:
        """The map from embedding to indexed vector; None if they are the same."""
        kept = self.live.projection
        return kept if isinstance(kept, LinearProjection) else None

    def _project(self, projection: LinearProjection | None) -> None:
        self.live.project(projection or IdentityProjection(self.spec.dim))

    @property
    def index(self) -> VectorIndex:
        """The index, brought up to date."""
        with self._lock:
            self.check_open()
            return self.live.sync()

    @property
    def index_reason(self) -> str | None:
        """Why ``"auto"`` chose what it did."""
        return self.live.reason()

    def _reindex(self, index: str | VectorIndex | None, options: Mapping[str, Any]) -> None:
        if index is None:
            part, prepared = self.spec.index, None
            part = Part(part.name, {**part.config, **options})
        else:
            part, prepared = index_part(index, dict(options), self.live.dim, self.spec.metric)
        self.live.rebuild(part, prepared)
        self.live.checkpoint()
        self._compact_if_due()

    def _configure(self, tuned: Json) -> None:
        self.live.configure(tuned)

    def _explain(self, k: int, where: Filter | None, n_queries: int) -> SearchPlan:
        return self._now(lambda live: live.explain(k, where, n_queries))

    # -- the whole of it -----------------------------------------------------------------------

    def _save(self, path: Path) -> None:
        own = self.store.path
        if own is not None and path.absolute() == own.absolute():
            self.check_writable()
            self.live.sync()
            self._compact_if_due()
            self.live.checkpoint()
            return
        self.live.sync()
        self.store.save(path, projection=self.live.projection.save, index=self.live.to_copy)

    def _check(self, *, repair: bool) -> CheckReport:
        path = self.store.path
        if path is None:
            raise UnsupportedError(
                "gallery in memory: expected one in a directory; it was checked when it was "
                "loaded, so check the directory it comes from"
            )
        from imgret.galleries.local.check import check_directory  # noqa: PLC0415  # seldom needed

        report = check_directory(path)
        if report.ok or not repair:
            return report
        self.store.close()  # the repair takes the writer's lock, and may replace the files
        try:
            return check_directory(path, repair=True)
        finally:
            self.store = Store.open(path, writable=True)
            self.live = LiveIndex(self.store)
            self.live.restore(path)

    def _compact(self) -> int:
        removed = self.store.catalog.rows - self.store.catalog.live
        if removed:
            self._drop_removed()
            self.catch_up()
            self.live.checkpoint()
        return removed

    def _drop_removed(self) -> None:
        """Replace the store by one without the rows of removed items, as a view sees it or not."""
        if self.live.is_there:
            with suppress(ImgretError):  # a search says so, or another index is built
                self.live.sync()  # so that it has the ids of the items that are kept
        with held():
            self.store, ids = self.store.without_removed(self.live.projection.save)
            self.live = self.live.moved_to(self.store, ids)

    def _compact_if_due(self, *, closing: bool = False) -> None:
        """Drop the rows of removed items where they are more than half of all, and not few.

        That costs about as much as the removals did, as no more is kept than is dropped.
        """
        catalog = self.store.catalog
        removed = catalog.rows - catalog.live
        if removed < _FEW or removed <= catalog.live or removed < self._wait_for:
            return
        if sys.platform == "win32" and not closing and self.store.path is not None:
            return  # files that are open, by a view or a reader, cannot be moved there
        self.settle()
        try:
            self._drop_removed()
            self.live.checkpoint()  # for those who open it next
        except ImgretError as error:  # the change itself is stored
            self._wait_for = 2 * removed
            _log.warning(
                "%s: what is left of %d removed items stays: %s", self.name, removed, error
            )

    def _close(self) -> None:
        try:
            if self.store.path is not None and self.store.writable and not self.store.closed:
                self._compact_if_due(closing=True)
                if not self.store.closed:
                    self.live.checkpoint()
        finally:
            self.store.close()


def _path(uri: str) -> Path:
    return Path(unquote(uri.removeprefix(_SCHEME)) if uri.startswith(_SCHEME) else uri)
