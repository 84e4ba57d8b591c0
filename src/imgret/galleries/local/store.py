"""The data of a gallery: manifest, catalog and vectors in step, in memory or in a directory."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgret.errors import (
    ImgretError,
    InvalidInputError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreExistsError,
    StoreReadOnlyError,
)
from imgret.galleries.local.catalog import Catalog
from imgret.galleries.local.checkpoint import (
    Checkpoint,
    drop_index,
    read_checkpoint,
    write_index,
)
from imgret.galleries.local.files import (
    discard,
    file_id,
    is_aside,
    replacement,
    settle,
    sync,
    writing,
)
from imgret.galleries.local.leftovers import (
    bytes_of,
    clear_leftovers,
    drop_thumbnails,
    leftovers,
)
from imgret.galleries.local.manifest import FILE, Manifest, is_gallery
from imgret.galleries.local.own import check_no_link
from imgret.galleries.local.row_checks import RowChecks
from imgret.galleries.local.vectors import SUFFIXES, VectorLog, widened
from imgret.galleries.local.writer_lock import LOCK, WriterLock, forked
from imgret.projections import Projection
from imgret.support.interrupts import held, let_through
from imgret.support.rounding import as_kept, refusals
from imgret.types import Embeddings, Ids, Item

__all__ = ["CATALOG", "PROJECTION", "Store", "discard_if_empty", "vectors_path"]

_log = logging.getLogger(__name__)
CATALOG = "catalog.sqlite"
PROJECTION = "projection.npz"
# Maximum time for which a gallery may be aside while another takes its place.
_MOVING_SECONDS = 5.0


class Waste(NamedTuple):
    """What takes room in a directory and is of no use.

    Attributes
    ----------
    rows : int
        Number of rows of removed items.
    bytes : int
        Bytes of their vectors, and their share of the catalog.
    left_over : list of Path
        What killed writers have left, or a writer has not finished yet.
    left_over_bytes : int
        Bytes of these, and of vectors that were never committed.
    """

    rows: int
    bytes: int
    left_over: list[Path]
    left_over_bytes: int


class Store:
    """A gallery's data. Made by `in_memory`, `create`, `open` or `load`.

    Items are added in this order: vectors are appended and synced, then the catalog's
    transaction commits the items. A process killed at any moment leaves exactly the
    committed items.

    Attributes
    ----------
    path : Path or None
        Absolute path of the directory; None in memory.
    manifest : Manifest
    catalog : Catalog
    row_checks : RowChecks
        Which stored vectors were compared with their checksums since this was made.
    closed : bool
    """

    def __init__(
        self,
        manifest: Manifest,
        catalog: Catalog,
        vectors: VectorLog,
        *,
        path: Path | None = None,
        lock: WriterLock | None = None,
        writable: bool = True,
        loaded_from: Path | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.catalog = catalog
        self._for_writing = writable
        self._process = os.getpid()
        self._vectors = vectors
        self._lock = lock
        self.closed = False
        self._loaded_from = loaded_from
        self._source = None if path is None else file_id(path / CATALOG)
        file = self.name if path is None else str(vectors_path(path, manifest))
        self.row_checks = RowChecks(catalog, gallery=self.name, file=file)

    @classmethod
    def in_memory(cls, manifest: Manifest) -> Store:
        """Make an empty gallery in memory."""
        return cls(manifest, Catalog(), VectorLog(manifest.dim, manifest.dtype))

    @classmethod
    def create(cls, path: Path, manifest: Manifest) -> Store:
        """Make an empty gallery in a new directory, or in an empty one.

        Raises
        ------
        StoreExistsError
            Something is at ``path`` already.
        StoreReadOnlyError
            The directory cannot be written.
        """
        if path.exists() and not _is_empty(path):
            raise StoreExistsError(
                f"{path}: expected no such file or directory, found "
                f"{'a gallery' if is_gallery(path) else 'something else'} there"
            )
        with closing(cls.in_memory(manifest)) as empty:
            empty.save(path, projection=None, index=None, replaces=False)
        return cls.open(path, writable=True)

    @classmethod
    def open(cls, path: Path, *, writable: bool) -> Store:
        """Open a gallery in place.

        Raises
        ------
        StoreNotFoundError, StoreVersionError, StoreCorruptError
            There is no gallery, or it has a newer format or is damaged.
        StoreLockedError, StoreReadOnlyError
            Write access was requested but is not possible.
        """
        path = path.absolute()
        deadline = time.monotonic() + _MOVING_SECONDS
        while True:
            settle(path.resolve(), mark=FILE)
            before = _identity(path)
            try:
                store = cls._open(path, writable=writable)
            except StoreError:
                moving = is_aside(path.resolve(), mark=FILE) and time.monotonic() < deadline
                if _identity(path) == before and not moving:
                    raise
                continue
            if _identity(path) == before:
                return store
            store.close()  # a save has replaced the gallery: these may be files of both

    @classmethod
    def _open(cls, path: Path, *, writable: bool, lock: WriterLock | None = None) -> Store:
        with ExitStack() as undo:
            if lock is not None:  # that of a store which this one takes the place of
                undo.callback(lock.release)
            manifest = Manifest.read(path)
            if writable and lock is None:
                with writing(path):
                    lock = WriterLock(path / LOCK)
                undo.callback(lock.release)
                manifest = Manifest.read(path)  # another writer may just have finished
                with writing(path):
                    manifest.upgrade(path)
                clear_leftovers(path.resolve(), manifest)
                check_no_link(path / CATALOG)
            if not (path / CATALOG).exists():
                raise StoreCorruptError(f"{path / CATALOG}: missing; restore it from a copy")
            catalog = Catalog(path / CATALOG, writable=writable)
            undo.callback(catalog.close)
            if writable:  # of a commit that had changed nothing yet: others were rolled back
                (path / f"{CATALOG}-journal").unlink(missing_ok=True)
            vectors = VectorLog(
                manifest.dim,
                manifest.dtype,
                path=vectors_path(path, manifest),
                rows=catalog.rows,
                writable=writable,
            )
            undo.pop_all()
        _log.info(
            "opened %s for %s: %d items", path, "writing" if writable else "reading", len(catalog)
        )
        return cls(manifest, catalog, vectors, path=path, lock=lock, writable=writable)

    @classmethod
    def load(cls, path: Path) -> Store:
        """Read a gallery into memory, check every vector, and close the files.

        Raises what `open` does.
        """
        with closing(cls.open(path, writable=False)) as source, ExitStack() as undo:
            catalog = source.catalog.to_memory()
            undo.callback(catalog.close)
            vectors = source._vectors.to_memory(catalog.rows)  # noqa: SLF001  # of the same class
            store = cls(source.manifest, catalog, vectors, loaded_from=source.path)
            store._source = source._source  # noqa: SLF001
            for _ in store.blocks(catalog.live_ids()):
                pass
            undo.pop_all()
        return store

    @property
    def dim(self) -> int:
        """Dimension of the stored embeddings."""
        return self.manifest.dim

    @property
    def name(self) -> str:
        """Directory of the gallery, or the one it was loaded from, for messages."""
        return str(self.path or self._loaded_from or "gallery")

    @property
    def writable(self) -> bool:
        """Whether it can be changed; one on disk only by the process that opened it."""
        return self._for_writing and (self.path is None or self._process == os.getpid())

    def check_open(self) -> None:
        """Raise if it was closed."""
        if self.closed:
            raise StoreClosedError(f"{self.name}: closed; open it again with Retriever.open()")

    def check_writable(self) -> None:
        """Raise if it was closed, opened for reading, or opened by the parent of this process."""
        self.check_open()
        if not self.writable:
            if self._for_writing:
                raise forked(self.path, self._process)
            raise StoreReadOnlyError(
                f"{self.path}: opened for reading; open it with mode='r+' to change it"
            )

    # -- items ---------------------------------------------------------------------------

    def add(
        self, embeddings: Embeddings, items: Sequence[Item], *, replaced: Sequence[int] = ()
    ) -> range:
        """Commit items and their embeddings; on any error, none is added.

        Parameters
        ----------
        embeddings : float32 array of shape (n, dim)
        items : sequence of Item
            ``n`` items whose keys are new, except for those of ``replaced``.
        replaced : sequence of int
            Ids removed in the same transaction.

        Returns
        -------
        range
            Ids of the new items.

        Raises
        ------
        InvalidInputError
            The shape is wrong, a value is too large or all are too small for float16, a key is
            taken, or `check_item` refuses an item.
        StoreError
            The files cannot be written, for example because the disk is full.
        """
        self.check_writable()
        if len(embeddings) != len(items):
            raise InvalidInputError(
                f"embeddings: expected one for each of {len(items)} items, found {len(embeddings)}"
            )
        manifest = self.manifest
        embeddings = as_kept(embeddings, metric=manifest.metric, dtype=manifest.dtype)
        for item, reason in zip(items, self.refusals(embeddings), strict=True):
            if reason is not None:
                raise InvalidInputError(f"{item.key}: {reason}")
        return self.commit(embeddings, items, replaced=replaced)

    def commit(
        self, embeddings: Embeddings, items: Sequence[Item], *, replaced: Sequence[int] = ()
    ) -> range:
        """Add items like `add`, but without checks."""
        self._drop_uncommitted()
        try:
            crcs = self._vectors.append(embeddings)
            self._vectors.sync()
            return self.catalog.add(items, crcs, replaced=replaced)
        except BaseException as error:
            self._drop_uncommitted()
            if isinstance(error, OSError) and not isinstance(error, ImgretError):
                raise StoreError(
                    f"{self.path}: cannot be written: {error}; none of these {len(items)} items "
                    f"was added"
                ) from error
            raise

    def refusals(self, embeddings: Embeddings) -> list[str | None]:
        """Return for each embedding why it cannot be stored and searched, or None if it can."""
        spec = self.manifest
        return refusals(embeddings, dim=spec.dim, metric=spec.metric, dtype=spec.dtype)

    def _drop_uncommitted(self) -> None:
        # Ask the database: an interrupt (Ctrl-C) may arrive just after the commit, when the
        # vectors must stay, or here, when they are dropped by the next `add`.
        self.catalog.reload_counts()
        self._vectors.truncate(self.catalog.rows)

    def remove(self, ids: Sequence[int]) -> None:
        """Commit the removal of live items."""
        self.check_writable()
        self.catalog.remove(ids)

    def read(self, ids: Ids) -> Embeddings:
        """Return the embeddings of these ids: float32, shape (n, dim).

        Those of a file are compared with their checksums the first time they are read.

        Raises
        ------
        StoreCorruptError
            A vector is not what was committed; the message names its item.
        """
        rows = self._vectors.stored(ids)
        if self.path is not None:
            self.row_checks.compare_new(ids, rows)
        return widened(rows)

    def table(self, ids: Ids) -> Embeddings | None:
        """Return a view of all embeddings by id, if available as float32; else None.

        Parameters
        ----------
        ids : int64 array
            Ids whose rows will be used. They are checked as by `read`, and raise the same errors.
        """
        table = self._vectors.table()
        if table is not None and self.path is not None:
            flat = ids.ravel()
            if not self.row_checks.all_sound(flat):
                flat = np.unique(flat)
                self.row_checks.compare_new(flat, table.take(flat, axis=0))
        return table

    def blocks(
        self, ids: Ids, size: int | None = None, *, once: bool = False
    ) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield increasing ids and their embeddings in pieces, checked for damage.

        A piece takes 32 MB as float32, or ``size`` bytes. If ``once``, those that were checked
        since the gallery was opened are not checked again.

        Raises
        ------
        StoreCorruptError
            A vector is not what was committed; the message names its item.
        """
        for block, rows in self._vectors.blocks(ids, size=size):
            if not (once and self.path is not None and self.row_checks.all_sound(block)):
                self.row_checks.compare(block, self.catalog.checksums(block), rows)
            if self.path is not None:
                self.row_checks.mark_sound(block)
            yield block, widened(rows)

    # -- what it is made of --------------------------------------------------------------

    def change_manifest(self, **changes: Any) -> None:
        """Replace fields of the manifest; on disk, in one step."""
        self.check_writable()
        manifest = self.manifest.with_(**changes)
        if self.path is not None:
            with writing(self.path):
                manifest.write(self.path)
        self.manifest = manifest

    def set_projection(self, projection: Projection) -> None:
        """Store the projection in the gallery; of the identity, no file.

        The new file is written beside the old one, the manifest names it, and then it replaces the
        old one. Whatever interrupts this, one of `projection_files` is the right one.
        """
        self.check_writable()
        fingerprint = projection.fingerprint
        if self.path is None:
            self.change_manifest(projection=fingerprint)
            return
        current, waiting = self.projection_files(self.path)
        with writing(self.path):
            if fingerprint is not None:
                try:
                    projection.save(waiting)
                    sync(waiting)
                except BaseException:
                    waiting.unlink(missing_ok=True)
                    raise
            self.change_manifest(projection=fingerprint)
            if fingerprint is None:
                current.unlink(missing_ok=True)
            else:
                waiting.replace(current)

    @staticmethod
    def stands_aside(path: Path) -> bool:
        """Whether nothing is at a path but a gallery that opening it puts there again."""
        return is_aside(path.resolve(), mark=FILE)

    @staticmethod
    def projection_files(path: Path) -> list[Path]:
        """Return the files that may hold the projection that the manifest of a gallery names."""
        return [path / PROJECTION, path / f"{PROJECTION}.tmp"]

    # -- the index beside it ---------------------------------------------------------------

    def write_index(self, checkpoint: Checkpoint, write: Callable[[Path], None]) -> None:
        """Store a copy of the index; ``write`` fills the directory it is given."""
        if self.path is None:
            return
        self.check_writable()
        with writing(self.path):
            checksums = self.row_checks.of(np.arange(checkpoint.rows))
            write_index(self.path, checkpoint, write, checksums)
            self.row_checks.use_copy(checksums)

    def drop_index(self) -> None:
        """Delete the stored copy of the index."""
        if self.path is not None:
            self.check_writable()
            drop_index(self.path)

    def is_at(self, path: Path) -> bool:
        """Whether the gallery at a path is the one that was opened, not one that replaced it."""
        return self._source is not None and self._source == file_id(path / CATALOG)

    @staticmethod
    def read_checkpoint(path: Path) -> tuple[Checkpoint, Path] | None:
        """Return what the stored index of a gallery covers and where it is; None without one."""
        return read_checkpoint(path)

    # -- the whole of it -------------------------------------------------------------------

    def save(
        self,
        path: Path,
        *,
        projection: Callable[[Path], None] | None,
        index: Callable[[Ids], tuple[Checkpoint, Callable[[Path], None]] | None] | None,
        replaces: bool = True,
    ) -> None:
        """Write a copy of the gallery; an existing gallery is replaced at the very end.

        Nothing of removed items is copied, and the others are numbered again.

        A gallery that another process makes there meanwhile is not replaced.

        Parameters
        ----------
        path : Path
            Directory of the copy; of a link, the target is replaced.
        projection : callable or None
            Function that writes the projection to the path it is given.
        index : callable or None
            Function that is given the ids of the copied items here, increasing, of which the i-th
            is item i of the copy. It returns what the stored index of the copy covers, and a
            function that writes it into the directory it is given; None for no index.
        replaces : bool
            Whether to replace an existing gallery; otherwise it is an error.

        Raises
        ------
        StoreExistsError
            Something at ``path`` is not a gallery, or was put there meanwhile.
        StoreLockedError
            The gallery at ``path`` is open for writing.
        StoreError
            The files cannot be written, for example because the disk is full. What was at ``path``
            is unchanged.
        """
        self.check_open()
        path = path.resolve()
        if path.exists() and not is_gallery(path) and not _is_empty(path):
            raise StoreExistsError(
                f"{path}: expected a gallery or nothing, found something else; choose another path"
            )
        with writing(path), replacement(path, mark=FILE, replaces=replaces) as new:
            kept = self._copy_to(new, projection)
            found = None if index is None else index(kept)
            if found is not None:
                write_index(new, *found, self.row_checks.of(kept[: found[0].rows]))

    def _copy_to(self, new: Path, projection: Callable[[Path], None] | None) -> Ids:
        """Write the live items into a new directory; what is damaged is not copied, but raised.

        Returns
        -------
        int64 array of shape (n,)
            Ids of the copied items here: the i-th is item i of the copy.
        """
        catalog, ids, dropped = self.catalog.without_removed(new / CATALOG)
        manifest = self.manifest.with_(dropped=self.manifest.dropped + dropped)
        with closing(catalog), vectors_path(new, manifest).open("wb") as file:
            for rows in self._live_rows(catalog, ids):
                file.write(rows.data)
        if projection is not None:
            projection(new / PROJECTION)
        manifest.write(new)
        return ids

    def _live_rows(self, copied: Catalog, ids: Ids) -> Iterator[NDArray[Any]]:
        """Yield the stored vectors of the items of a copied catalog, checked for damage."""
        # Another process may have added some since this one opened.
        bound, first = int(ids[-1]) + 1 if len(ids) else 0, 0
        for block, rows in self._vectors.blocks(ids, rows=bound):
            places = np.arange(first, first + len(block))
            self.row_checks.compare(block, copied.checksums(places), rows)
            yield rows
            first += len(block)

    def without_removed(self, projection: Callable[[Path], None] | None) -> tuple[Store, Ids]:
        """Replace the gallery by one without what is left of removed items.

        This store can still be read, by views that were made of it, until nobody refers to it; so
        can the files that other processes have open. On an error nothing is changed. (On Windows
        this store is closed, as files that are open cannot be moved there.)

        Parameters
        ----------
        projection : callable or None
            Function that writes the projection to the path it is given.

        Returns
        -------
        store : Store
            The new one, open for writing, with the writer's lock of this one.
        ids : int64 array of shape (n,)
            Ids of its items here: the i-th is item i of the new store.

        Raises
        ------
        StoreCorruptError
            An item is damaged.
        StoreError
            The files cannot be written, for example because the disk is full.
        """
        self.check_writable()
        if self.path is None:
            return self._in_memory_without_removed()
        with writing(self.path), held():
            reader = self.catalog.reader()
            try:
                with replacement(self.path.resolve(), mark=FILE, held=self._lock) as new:
                    with let_through():
                        ids = self._copy_to(new, projection)
                    if sys.platform == "win32":
                        self.catalog.close()
                        self._vectors.close()
            except BaseException:
                reader.close()
                raise
            drop_thumbnails(self.path.resolve())
            lock, self._lock, self._for_writing = self._lock, None, False
            if sys.platform == "win32":
                reader.close()
                self.close()
            else:
                self.catalog.retire(reader)
            return self._open(self.path, writable=True, lock=lock), ids

    def _in_memory_without_removed(self) -> tuple[Store, Ids]:
        catalog, ids, dropped = self.catalog.without_removed(None)
        manifest = self.manifest.with_(dropped=self.manifest.dropped + dropped)
        vectors = VectorLog(manifest.dim, manifest.dtype)
        for rows in self._live_rows(catalog, ids):
            vectors.append(rows)
        self._for_writing = False
        return Store(manifest, catalog, vectors, loaded_from=self._loaded_from), ids

    def waste(self) -> Waste:
        """Return what takes room in the directory and is of no use."""
        assert self.path is not None  # noqa: S101  # only asked of a directory
        rows, live = self.catalog.rows, self.catalog.live
        vectors = vectors_path(self.path, self.manifest)
        width = self.dim * np.dtype(self.manifest.dtype).itemsize
        share = bytes_of(self.path / CATALOG) * (rows - live) // max(rows, 1)
        left = leftovers(self.path.resolve(), self.manifest)
        beyond = max(0, bytes_of(vectors) - rows * width)
        return Waste(
            rows - live,
            (rows - live) * width + share,
            left,
            sum(map(bytes_of, left)) + beyond,
        )

    def close(self) -> None:
        """Close the files and release the writer's lock; doing so twice is fine."""
        if not self.closed:
            self.closed = True
            self.catalog.close()
            self._vectors.close()
            if self._lock is not None:
                self._lock.release()


def vectors_path(directory: Path, manifest: Manifest) -> Path:
    """Return the file of the vectors of a gallery."""
    return directory / f"vectors.{SUFFIXES[manifest.dtype]}"


def discard_if_empty(path: Path) -> bool:
    """Delete a gallery that never had an item; return whether it is deleted.

    One that another process writes is left alone, and so are its items.
    """

    def never_used(directory: Path) -> bool:
        with closing(Catalog(directory / CATALOG, writable=False)) as catalog:
            return catalog.rows == 0 == Manifest.read(directory).dropped

    return discard(path.resolve(), expendable=never_used)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what distinguishes a gallery from another that takes its place."""
    try:
        # The number of a deleted directory may go to a new one, but its manifest is newer.
        status, manifest = path.stat(), (path / FILE).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, manifest.st_ino, manifest.st_mtime_ns
