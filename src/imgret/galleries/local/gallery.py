"""A gallery in a directory or in memory: items, embeddings, and the index that follows them."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from imgret.abc import VectorIndex
from imgret.errors import EmptyGalleryError, ImgretError, InvalidInputError
from imgret.filters import Filter
from imgret.galleries.local.live_index import LiveIndex
from imgret.galleries.local.manifest import Manifest
from imgret.galleries.local.store import Store
from imgret.galleries.local.view import LocalView
from imgret.indexes.make import index_part
from imgret.projections import LinearProjection
from imgret.search.hits import Batch
from imgret.support.locks import RLock
from imgret.types import Embeddings, Item, Part

__all__ = ["LocalGallery"]


@final
class LocalGallery:
    """Keeps a store and its index in step, and lets one change at a time happen.

    Parameters
    ----------
    store : Store
    prepared : VectorIndex, optional
        An empty index the user made; by default one is made from the manifest.
    """

    def __init__(self, store: Store, prepared: VectorIndex | None = None) -> None:
        self.store = store
        self.live = LiveIndex(store, prepared)
        self._lock = RLock()
        self._unresolved: weakref.WeakSet[Batch] = weakref.WeakSet()

    @property
    def spec(self) -> Manifest:
        """What the gallery is made of."""
        return self.store.manifest

    # -- who may do what, and when -----------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from changing the gallery for the length of the block."""
        with self._lock:
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Let the block change the gallery, which must be open for writing."""
        with self._lock:
            self.store.check_writable()
            yield

    @contextmanager
    def viewed(self) -> Iterator[LocalView]:
        """Hold the whole gallery still and its index up to date for the length of the block.

        Raises
        ------
        EmptyGalleryError
            There are no items.
        """
        with self._lock:
            self.require_items()
            self.live.sync()
            yield self.view()

    def view(self, where: Filter | None = None, without: Sequence[int] = ()) -> LocalView:
        """Return what a search sees now."""
        return LocalView(self.store, self.live, where, without)

    def require_items(self) -> None:
        """Raise where the gallery is closed or empty."""
        self.store.check_open()
        if not len(self.store.catalog):
            raise EmptyGalleryError(
                "search: expected a gallery with items, found an empty one; add images first"
            )

    def remember(self, batch: Batch) -> None:
        """Look up what a search found before it changes."""
        self._unresolved.add(batch)

    def settle(self) -> None:
        """Look up what earlier searches found."""
        while self._unresolved:
            try:
                self._unresolved.pop().resolve()
            except KeyError:  # another thread has taken the last one, or nobody wants it any more
                return

    # -- items -------------------------------------------------------------------------------

    def items(self, keys: Sequence[str]) -> list[Item]:
        """Return the items of keys that must exist, in their order."""
        self.store.check_open()
        ids = self.store.catalog.require(keys)
        found = self.store.catalog.items(ids)
        return [found[id_] for id_ in ids]

    def add(self, embeddings: Embeddings, items: Sequence[Item]) -> None:
        """Commit items and their embeddings, all or none, and take them into the index."""
        with self.changing():
            self.settle()
            self.store.add(embeddings, items)
            self.sync_after_adding()

    def remove(self, keys: Sequence[str]) -> int:
        """Commit the removal of items, all or none; return how many there were."""
        with self.changing():
            ids = self.store.catalog.require(keys)
            if ids:
                self.settle()
                self.store.remove(ids)
                self.live.sync()
            return len(ids)

    def sync_after_adding(self) -> None:
        """Take new items into the index, or warn where it needs more of them first."""
        try:
            self.live.sync()
        except ImgretError as error:
            warnings.warn(
                f"the items are stored, but cannot be searched yet: {error}", stacklevel=4
            )

    # -- index and projection ----------------------------------------------------------------

    def reindex(self, index: str | VectorIndex | None, options: Mapping[str, Any]) -> None:
        """Build the index again from the kept embeddings; see `imgret.Retriever.reindex`."""
        with self.changing():
            if index is None:
                part = self.spec.index
                part, prepared = Part(part.name, {**part.config, **options}), None
            else:
                dim, metric = self.live.dim, self.spec.metric
                part, prepared = index_part(index, dict(options), dim, metric)
            self.live.rebuild(part, prepared)
            self.live.checkpoint()

    def project(self, projection: LinearProjection | None) -> None:
        """Search by another projection, and build the index for it."""
        with self.changing():
            self.live.project(projection)

    # -- the whole of it -----------------------------------------------------------------------

    def save(self, path: Path | None) -> None:
        """Write the gallery; see `imgret.Retriever.save`."""
        with self._lock:
            self.store.check_open()
            own = self.store.path
            if path is None and own is None:
                raise InvalidInputError("path: expected one for a gallery in memory, found None")
            if path is None or (own is not None and path.absolute() == own.absolute()):
                self.store.check_writable()
                self.live.sync()
                self.live.checkpoint()
                return
            self.live.sync()
            projection = self.live.projection
            self.store.save(
                path,
                projection=None if projection is None else projection.save,
                index=self.live.to_checkpoint(),
            )

    def close(self) -> None:
        """Bring the stored index up to date and let the files go; twice is fine."""
        with self._lock:
            try:
                self.settle()
                if self.store.path is not None and self.store.writable:
                    self.live.checkpoint()
            finally:
                self.store.close()

    def __repr__(self) -> str:
        spec = self.spec
        where = f"at {str(self.store.path)!r}" if self.store.path else "in memory"
        if self.store.closed:
            return f"closed, {where}"
        projection = self.live.projection
        mapped = "" if projection is None else f"{projection.kind} to {projection.dim_out}-d, "
        return (
            f"of {len(self.store.catalog)} items {where}: embedder {spec.embedder.name!r} "
            f"({spec.dim}-d), cropper {spec.cropper.name!r}, {mapped}index "
            f"{self.live.describe()}, metric {spec.metric!r}"
        )
