"""A gallery that is opened, looked into, kept and closed."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar

import numpy as np

from imgret.abc import Cropper, Embedder, VectorIndex
from imgret.errors import EmptyGalleryError, InvalidInputError, StoreExistsError
from imgret.galleries.local.compatible import (
    Found,
    check_files,
    check_given,
    new_manifest,
    same_cropper,
    same_embedder,
)
from imgret.galleries.local.live_index import Searcher
from imgret.galleries.local.manifest import Manifest, is_gallery
from imgret.galleries.local.store import Store
from imgret.galleries.local.view import LocalView
from imgret.images import MAX_PIXELS
from imgret.indexes.make import find_cropper, find_embedder
from imgret.learning import Classifier
from imgret.projections import LinearProjection
from imgret.search import View
from imgret.search.hits import Batch
from imgret.support.checks import check_count
from imgret.support.given import one_text, texts
from imgret.support.locks import RLock
from imgret.types import Embeddings, Item, Metric, Part

__all__ = ["Gallery"]

Dtype: TypeAlias = Literal["float16", "float32"]
Mode: TypeAlias = Literal["r", "r+", "a"]

_Part = TypeVar("_Part", Embedder, Cropper)


class Late(Generic[_Part]):
    """An embedder or cropper that is made when it is first asked for, and then kept."""

    def __init__(self, made: _Part | Callable[[], _Part]) -> None:
        self._lock = RLock()
        self._make: Callable[[], _Part] | None = None
        if isinstance(made, (Embedder, Cropper)):
            self._made: _Part = made
        else:
            self._make = made

    def get(self) -> _Part:
        """Return it; raises what making it raises, each time."""
        if self._make is not None:
            with self._lock:
                if self._make is not None:
                    self._made = self._make()
                    self._make = None
        return self._made


class Gallery:
    """What all the other parts of the facade stand on."""

    _max_pixels = MAX_PIXELS

    def __init__(
        self,
        *,
        embedder: str | os.PathLike[str] | Embedder = "general",
        cropper: str | os.PathLike[str] | Cropper = "none",
        index: str | VectorIndex = "flat",
        metric: Metric = "cosine",
        dtype: Dtype = "float16",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._max_pixels = check_count(max_pixels, "max_pixels")
        embedder, cropper = find_embedder(embedder), find_cropper(cropper)
        manifest, prepared = new_manifest(embedder, cropper, index, metric, dtype)
        self._start(Store.in_memory(manifest), Late(embedder), Late(cropper), prepared)

    _found_at: dict[str, Part]  # embedder and cropper as found, where the manifest may differ

    def _start(
        self,
        store: Store,
        embedder: Late[Embedder],
        cropper: Late[Cropper],
        prepared: VectorIndex | None = None,
    ) -> None:
        self._store = store
        self._found_at = {}
        self._embedder = embedder
        self._cropper = cropper
        self._changing = RLock()
        self._unresolved: weakref.WeakSet[Batch] = weakref.WeakSet()
        self._searcher = Searcher(store, prepared)
        self._classifier: tuple[object, Classifier] | None = None  # and what it was learned from

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: Mode = "r",
        *,
        embedder: str | os.PathLike[str] | Embedder | None = None,
        cropper: str | os.PathLike[str] | Cropper | None = None,
        index: str | VectorIndex | None = None,
        metric: Metric | None = None,
        dtype: Dtype | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """Work on a gallery where it lies on disk.

        This takes milliseconds, as many for ten items as for ten million: items and embeddings
        are looked up where they lie, and the index is read, or built, by the first search.
        `index` brings that about earlier. A model is loaded when an image is to be embedded, and
        not at all by what needs none, such as `remove`, `search_key` or `duplicates`; its file is
        compared with the gallery's fingerprint here already.

        Parameters
        ----------
        path : path
            The directory, by convention ``NAME.imgret``.
        mode : {"r", "r+", "a"}
            ``"r"`` reads; ``"r+"`` reads and writes what is there; ``"a"`` makes it first
            if it is not. Many may read while one writes. What is opened for writing belongs to
            this process: in a forked child every change raises `StoreForkedError`, and reading goes
            on as of the fork.
        embedder, cropper, index, metric, dtype
            As for `Retriever`. An existing gallery knows its own; what is given must agree
            with it. For an embedder or cropper that is a file, the fingerprint decides: give the
            new path of one that was moved. A gallery opened for writing keeps that path.
        max_pixels : int
            As for `Retriever`; not kept with the gallery.

        Raises
        ------
        StoreNotFoundError, StoreVersionError, StoreCorruptError
            There is none, it is of a newer format, or damaged. Damage to vectors or index shows
            when they are read.
        StoreLockedError, StoreReadOnlyError
            It cannot be written, and was to be.
        StoreMismatchError
            It was made with another embedder, cropper, index or metric, or the file of its model
            was replaced.
        """
        path = Path(path)
        if mode not in {"r", "r+", "a"}:
            raise InvalidInputError(f"mode: expected 'r', 'r+' or 'a', found {mode!r}")
        max_pixels = check_count(max_pixels, "max_pixels")
        if mode == "a" and (not path.exists() or (path.is_dir() and not any(path.iterdir()))):
            made_embedder, made_cropper = (
                find_embedder(embedder or "general"),
                find_cropper(cropper or "none"),
            )
            manifest, prepared = new_manifest(
                made_embedder,
                made_cropper,
                index or "flat",
                metric or "cosine",
                dtype or "float16",
            )
            try:
                made = Store.create(path, manifest)
            except StoreExistsError:
                if not is_gallery(path):
                    raise
                # Another process has just made it: it is there now, as any other would be.
            else:
                self = cls.__new__(cls)
                self._max_pixels = max_pixels
                self._start(made, Late(made_embedder), Late(made_cropper), prepared)
                return self
        store = Store.open(path, writable=mode != "r")
        self = cls._attach(store, path, embedder, cropper, index=index, metric=metric, dtype=dtype)
        self._max_pixels = max_pixels
        return self

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: str | os.PathLike[str] | Embedder | None = None,
        cropper: str | os.PathLike[str] | Cropper | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """Read a gallery into memory, every vector checked; the files are not held on to.

        Takes and raises what `open` does.
        """
        max_pixels = check_count(max_pixels, "max_pixels")
        self = cls._attach(Store.load(Path(path)), Path(path), embedder, cropper)
        self._max_pixels = max_pixels
        return self

    @classmethod
    def _attach(
        cls,
        store: Store,
        path: Path,
        embedder: str | os.PathLike[str] | Embedder | None,
        cropper: str | os.PathLike[str] | Cropper | None,
        **given: Any,
    ) -> Self:
        try:
            self = cls.__new__(cls)
            manifest, home = store.manifest, path.absolute()
            embeds: Late[Embedder] = Late(lambda: self._take("embedder", same_embedder, home))
            crops: Late[Cropper] = Late(lambda: self._take("cropper", same_cropper, home))
            at: dict[str, Part] = {}
            if embedder is not None:
                made = same_embedder(manifest, path, embedder)
                embeds, at["embedder"] = Late(made.made), made.part
            if cropper is not None:
                found = same_cropper(manifest, path, cropper)
                crops, at["cropper"] = Late(found.made), found.part
            check_given(manifest, path, given)
            check_files(manifest, path, without=set(at))
            self._start(store, embeds, crops)
            self._found_at = at
            self._searcher.restore(path)
            if store.path is not None and store.writable:
                self._keep_places()
        except BaseException:
            store.close()
            raise
        return self

    def _take(
        self, kind: str, same: Callable[[Manifest, Path, None], Found[_Part]], path: Path
    ) -> _Part:
        """Open the embedder or cropper of a gallery, and note where it was found."""
        found = same(self._store.manifest, path, None)
        self._found_at[kind] = found.part
        return found.made

    def _keep_places(self) -> None:
        """Write down where embedder and cropper were found, where that is another place."""
        manifest = self._store.manifest
        moved = {k: part for k, part in self._found_at.items() if part != getattr(manifest, k)}
        if moved:
            self._store.change_manifest(**moved)

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write the gallery, replacing one that is there only when all is written.

        Parameters
        ----------
        path : path, optional
            A directory that does not exist, or is a gallery. Without one, or with its own,
            a gallery on disk brings its stored index up to date; its items are on disk
            already.

        Raises
        ------
        InvalidInputError
            A gallery in memory needs a path.
        StoreError
            The disk is full, something else is there, or it is open for writing: what was
            there is untouched.
        """
        with self._changing:
            self._store.check_open()
            if self._store.writable:
                self._keep_places()
            own = self._store.path
            if path is None and own is None:
                raise InvalidInputError("path: expected one for a gallery in memory, found None")
            if path is None or (own is not None and Path(path).absolute() == own.absolute()):
                self._store.check_writable()
                self._searcher.sync()
                self._searcher.checkpoint()
                return
            self._searcher.sync()
            projection = self._searcher.projection
            self._store.save(
                Path(path),
                projection=None if projection is None else projection.save,
                index=self._searcher.to_checkpoint(),
            )

    def close(self) -> None:
        """Bring the stored index up to date and let the files go; twice is fine.

        Hits found before stay valid. In a forked child nothing is written.
        """
        with self._changing:
            try:
                self._settle()
                if self._store.path is not None and self._store.writable:
                    if not self._store.closed:
                        self._keep_places()
                    self._searcher.checkpoint()
            finally:
                self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        self._store.check_open()
        return len(self._store.catalog)

    def __contains__(self, key: object) -> bool:
        self._store.check_open()
        return key in self._store.catalog

    def __iter__(self) -> Iterator[str]:
        """Keys, in the order they were added."""
        self._store.check_open()
        return iter(self._store.catalog)

    def __getitem__(self, key: str) -> Item:
        """Return the item of this key: path, box, label, metadata.

        Raises
        ------
        KeyNotFoundError
        """
        self._store.check_open()
        (id_,) = self._store.catalog.require([one_text(key, "key")])
        return self._store.catalog.items([id_])[id_]

    @property
    def embedder(self) -> Embedder:
        """What turns pictures into vectors; loaded now, if it was not needed before.

        Raises
        ------
        ModelError
            Its file is not found; give it to `open` or `load` by ``embedder=``.
        StoreMismatchError
            What is there is another model.
        """
        return self._embedder.get()

    @property
    def cropper(self) -> Cropper:
        """What cuts pictures down to their subject; loaded and raised as for `embedder`."""
        return self._cropper.get()

    @property
    def index(self) -> VectorIndex:
        """The index as it stands, brought up to date."""
        with self._changing:
            self._store.check_open()
            return self._searcher.sync()

    @property
    def index_reason(self) -> str | None:
        """Why ``index="auto"`` chose what it did; None for an index that was named."""
        return self._searcher.reason()

    @property
    def projection(self) -> LinearProjection | None:
        """The map from embedding to indexed vector; None where they are the same."""
        return self._searcher.projection

    @property
    def metric(self) -> Metric:
        """``"cosine"``, ``"ip"`` or ``"l2"``."""
        return self._store.manifest.metric

    @property
    def path(self) -> Path | None:
        """Directory of the gallery; None in memory."""
        return self._store.path

    def embeddings(self, keys: str | Iterable[str] | None = None) -> Embeddings:
        """Return the kept embeddings of some items, by default of all, in order.

        Parameters
        ----------
        keys : str or iterable of str, optional
            A text is one key.

        Returns
        -------
        float32 array of shape (n, dim)
            As the embedder gave them, but for rounding to the gallery's dtype. For metric
            ``"cosine"`` those of numbers that are too small for float16 have length 1.
        """
        self._store.check_open()
        ids = (
            self._store.catalog.live_ids()
            if keys is None
            else np.array(self._store.catalog.require(texts(keys, "keys")), dtype=np.int64)
        )
        return self._store.read(ids)

    def __repr__(self) -> str:
        manifest = self._store.manifest
        where = f"at {str(self._store.path)!r}" if self._store.path else "in memory"
        if self._store.closed:
            return f"<Retriever closed, {where}>"
        projection = self._searcher.projection
        return (
            f"<Retriever of {len(self)} items {where}: embedder {manifest.embedder.name!r} "
            f"({manifest.dim}-d), cropper {manifest.cropper.name!r}, "
            f"{'' if projection is None else f'{projection.kind} to {projection.dim_out}-d, '}"
            f"index {self._searcher.describe()}, metric {manifest.metric!r}>"
        )

    def _require_items(self) -> None:
        self._store.check_open()
        if not len(self._store.catalog):
            raise EmptyGalleryError(
                "search: expected a gallery with items, found an empty one; add pictures first"
            )

    def _view(self) -> View:
        """Return the view of the whole gallery, the index brought up to date.

        For whoever holds the lock of changes for as long as it is used.
        """
        self._require_items()
        self._searcher.sync()
        return LocalView(self._store, self._searcher)

    def _settle(self) -> None:
        """Look up what earlier searches found, before it changes."""
        while self._unresolved:
            try:
                self._unresolved.pop().resolve()
            except KeyError:  # another thread has taken the last one, or nobody wants it any more
                return
