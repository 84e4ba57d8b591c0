"""A gallery: manifest, catalog and vectors kept in step, in memory or in a directory."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgret.errors import (
    ImgretError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StoreReadOnlyError,
)
from imgret.storage.catalog import Catalog, Item
from imgret.storage.lock import WriterLock
from imgret.storage.manifest import FILE, Manifest, Part
from imgret.storage.vectors import SUFFIXES, VectorLog, checksums
from imgret.types import Embeddings, Ids

__all__ = ["Checkpoint", "Store"]

_CATALOG = "catalog.sqlite"
_PROJECTION = "projection.npz"
_INDEX = "index"
_CHECKPOINT = "checkpoint.json"
_LOCK = "lock"


@dataclass(frozen=True)
class Checkpoint:
    """What a stored index covers.

    Attributes
    ----------
    rows : int
        It holds the items with ids below this that were live at the time.
    changes : int
        Number of the last change it has seen; removals after it are still to be made.
    part : Part
        Name and configuration of the index.
    projection : str or None
        Fingerprint of the projection its vectors went through.
    trained_on : int
        How many items there were when it was trained.
    """

    rows: int
    changes: int
    part: Part
    projection: str | None
    trained_on: int


class Store:
    """A gallery's data. Made by `in_memory`, `create`, `open` or `load`.

    Adding is durable in this order: vectors appended and synced, then the catalog's
    transaction, which is the commit. A process killed at any moment leaves exactly the
    committed items.

    Attributes
    ----------
    path : Path or None
        The directory; None in memory.
    manifest : Manifest
    catalog : Catalog
    writable : bool
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
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.catalog = catalog
        self.writable = writable
        self._vectors = vectors
        self._lock = lock
        self._closed = False

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
            Something is there.
        StoreReadOnlyError
            The directory cannot be written.
        """
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise StoreExistsError(
                f"{path}: expected no such file or directory, found "
                f"{'a gallery' if (path / FILE).exists() else 'something else'} there"
            )
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
            manifest.write(path)
        return cls.open(path, writable=True)

    @classmethod
    def open(cls, path: Path, *, writable: bool) -> Store:
        """Open a gallery where it lies.

        Raises
        ------
        StoreNotFoundError, StoreVersionError, StoreCorruptError
            There is none, it is of a newer format, or damaged.
        StoreLockedError, StoreReadOnlyError
            It cannot be written, and was to be.
        """
        _recover_interrupted_save(path)
        manifest = Manifest.read(path)
        lock = None
        if writable:
            with _writing(path):
                lock = WriterLock(path / _LOCK)
        try:
            if lock is not None:
                manifest = Manifest.read(path)  # another writer may just have finished
            catalog = _open_catalog(path, writable=writable)
            try:
                vectors = VectorLog(
                    manifest.dim,
                    manifest.dtype,
                    path=_vectors_path(path, manifest),
                    rows=catalog.rows,
                    writable=writable,
                )
            except BaseException:
                catalog.close()
                raise
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return cls(manifest, catalog, vectors, path=path, lock=lock, writable=writable)

    @classmethod
    def load(cls, path: Path) -> Store:
        """Read a gallery into memory, every vector checked; the directory is let go."""
        _recover_interrupted_save(path)
        manifest = Manifest.read(path)
        catalog = Catalog.in_memory(_existing_catalog(path))
        vectors = VectorLog(manifest.dim, manifest.dtype)
        source = VectorLog(
            manifest.dim,
            manifest.dtype,
            path=_vectors_path(path, manifest),
            rows=catalog.rows,
            writable=False,
        )
        for _, rows in source.blocks(np.arange(catalog.rows)):
            vectors.append(rows)
        source.close()
        store = cls(manifest, catalog, vectors)
        for _ in store.blocks(catalog.live_ids()):
            pass
        return store

    @property
    def dim(self) -> int:
        """Dimension of the stored embeddings."""
        return self.manifest.dim

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def check_open(self) -> None:
        """Raise if it was closed."""
        if self._closed:
            raise StoreClosedError(
                f"{self.path or 'gallery'}: closed; open it again with Retriever.open()"
            )

    def check_writable(self) -> None:
        """Raise if it was closed or opened for reading."""
        self.check_open()
        if not self.writable:
            raise StoreReadOnlyError(
                f"{self.path}: opened for reading; open it with mode='r+' to change it"
            )

    # -- items ---------------------------------------------------------------------------

    def add(
        self, embeddings: Embeddings, items: Sequence[Item], *, replaced: Sequence[int] = ()
    ) -> range:
        """Commit items and their embeddings: all of them, or on any error none.

        Parameters
        ----------
        embeddings : float32 array of shape (n, dim)
        items : sequence of Item
            ``n`` items whose keys are not live, but for those of ``replaced``.
        replaced : sequence of int
            Ids removed in the same transaction.

        Returns
        -------
        range
            Their ids.
        """
        self.check_writable()
        before = len(self._vectors)
        try:
            crcs = self._vectors.append(embeddings)
            self._vectors.sync()
            return self.catalog.add(items, crcs, replaced=replaced)
        except BaseException as error:
            self._vectors.truncate(before)
            if isinstance(error, OSError) and not isinstance(error, ImgretError):
                raise StoreError(
                    f"{self.path}: cannot be written: {error}; nothing of these {len(items)} "
                    f"items was added"
                ) from error
            raise

    def remove(self, ids: Sequence[int]) -> None:
        """Commit the removal of live items."""
        self.check_writable()
        self.catalog.remove(ids)

    def read(self, ids: Ids) -> Embeddings:
        """Return the embeddings of these ids: float32, shape (n, dim)."""
        return self._vectors.read(ids)

    def blocks(self, ids: Ids) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield increasing ids and their embeddings in pieces, checked against damage.

        Raises
        ------
        StoreCorruptError
            A vector is not what was committed; the message names its item.
        """
        for block, rows in self._vectors.blocks(ids):
            expected, found = self.catalog.checksums(block), checksums(rows)
            if expected != found:
                bad = [id_ for id_, a, b in zip(block, expected, found, strict=True) if a != b]
                names = ", ".join(repr(item.key) for item in self.catalog.items(bad[:3]).values())
                raise StoreCorruptError(
                    f"{self.path or 'gallery'}: {len(bad)} stored vectors are damaged, the first "
                    f"of {names}; restore the vectors file from a copy, or index the pictures anew"
                )
            yield block, np.ascontiguousarray(rows, dtype=np.float32)

    # -- what it is made of --------------------------------------------------------------

    def change_manifest(self, **changes: Any) -> None:
        """Replace fields of the manifest, on disk in one step."""
        self.check_writable()
        manifest = self.manifest.with_(**changes)
        if self.path is not None:
            with _writing(self.path):
                manifest.write(self.path)
        self.manifest = manifest

    def set_projection(self, fingerprint: str | None, write: Callable[[Path], None] | None) -> None:
        """Put a projection into the gallery, or take it out.

        The new file is laid beside the old one, the manifest names it, then it takes the
        old one's place: whatever interrupts this, `projection_file` finds the right one.
        """
        self.check_writable()
        if self.path is None:
            self.change_manifest(projection=fingerprint)
            return
        waiting = self.path / f"{_PROJECTION}.tmp"
        with _writing(self.path):
            if write is not None:
                write(waiting)
                _sync(waiting)
            self.change_manifest(projection=fingerprint)
            if write is None:
                (self.path / _PROJECTION).unlink(missing_ok=True)
            else:
                waiting.replace(self.path / _PROJECTION)

    @staticmethod
    def projection_files(path: Path) -> list[Path]:
        """Files that may hold the projection that the manifest of a gallery names."""
        return [path / _PROJECTION, path / f"{_PROJECTION}.tmp"]

    # -- the index beside it ---------------------------------------------------------------

    def write_index(self, checkpoint: Checkpoint, write: Callable[[Path], None]) -> None:
        """Keep a copy of the index; ``write`` fills the directory it is given."""
        if self.path is None:
            return
        with _writing(self.path):
            _write_index(self.path, checkpoint, write)

    def drop_index(self) -> None:
        """Forget the copy of the index."""
        if self.path is not None:
            shutil.rmtree(self.path / _INDEX, ignore_errors=True)

    @staticmethod
    def read_checkpoint(path: Path) -> tuple[Checkpoint, Path] | None:
        """Return what the stored index of a gallery covers and where it is; None without one."""
        directory = path / _INDEX
        try:
            content = json.loads((directory / _CHECKPOINT).read_text(encoding="utf-8"))
            return Checkpoint(**{**content, "part": Part(**content["part"])}), directory / "state"
        except (OSError, ValueError, TypeError, KeyError):
            return None  # none there, or not whole: it is made again from the vectors

    # -- the whole of it -------------------------------------------------------------------

    def save(
        self,
        path: Path,
        *,
        projection: Callable[[Path], None] | None,
        index: tuple[Checkpoint, Callable[[Path], None]] | None,
    ) -> None:
        """Write a copy of the gallery; one that is there is replaced at the very end.

        Raises
        ------
        StoreExistsError
            Something stands there that is no gallery.
        StoreLockedError
            The gallery there is open for writing.
        StoreError
            The disk is full, say: what was there is as it was.
        """
        self.check_open()
        path = path.absolute()
        if path.exists() and not (path / FILE).exists():
            if not path.is_dir() or any(path.iterdir()):
                raise StoreExistsError(
                    f"{path}: expected a gallery or nothing, found something else; choose another "
                    f"path"
                )
            path.rmdir()
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.saving-{os.getpid()}")
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                temporary.mkdir()
                self.catalog.copy_to(temporary / _CATALOG)
                self._copy_vectors(temporary)
                if projection is not None:
                    projection(temporary / _PROJECTION)
                if index is not None:
                    _write_index(temporary, *index)
                self.manifest.write(temporary)
                for file_path in temporary.rglob("*"):
                    _sync(file_path)
                _swap_in(temporary, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def _copy_vectors(self, directory: Path) -> None:
        copied = Catalog(directory / _CATALOG, writable=False)
        rows = copied.rows  # another process may have added some since this one opened
        copied.close()
        source = self._vectors
        if rows != len(source) and self.path is not None:
            source = VectorLog(
                self.dim,
                self.manifest.dtype,
                path=_vectors_path(self.path, self.manifest),
                rows=rows,
                writable=False,
            )
        with _vectors_path(directory, self.manifest).open("wb") as file:
            for _, block in source.blocks(np.arange(rows)):
                np.ascontiguousarray(block).tofile(file)

    def close(self) -> None:
        """Let go of the files and of the writer's lock; doing so twice is fine."""
        if not self._closed:
            self._closed = True
            self.catalog.close()
            self._vectors.close()
            if self._lock is not None:
                self._lock.release()


# -- files -----------------------------------------------------------------------------------


def _vectors_path(directory: Path, manifest: Manifest) -> Path:
    return directory / f"vectors.{SUFFIXES[manifest.dtype]}"


def _existing_catalog(directory: Path) -> Path:
    path = directory / _CATALOG
    if not path.exists():
        raise StoreCorruptError(f"{path}: missing; restore it from a copy")
    return path


def _open_catalog(directory: Path, *, writable: bool) -> Catalog:
    """Open the catalog; where nothing was ever committed there need not be one yet."""
    if not (directory / _CATALOG).exists():
        if any(directory.glob("vectors.*")):
            _existing_catalog(directory)
        if not writable:
            return Catalog()
    return Catalog(directory / _CATALOG, writable=writable)


def _sync(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _write_index(directory: Path, checkpoint: Checkpoint, write: Callable[[Path], None]) -> None:
    temporary = directory / f"{_INDEX}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        (temporary / "state").mkdir(parents=True)
        write(temporary / "state")
        (temporary / _CHECKPOINT).write_text(json.dumps(asdict(checkpoint)), encoding="utf-8")
        shutil.rmtree(directory / _INDEX, ignore_errors=True)
        temporary.rename(directory / _INDEX)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _swap_in(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    lock = WriterLock(path / _LOCK)
    try:
        shutil.rmtree(_old(path), ignore_errors=True)
        path.rename(_old(path))
        new.rename(path)
    finally:
        lock.release()
    shutil.rmtree(_old(path), ignore_errors=True)


def _recover_interrupted_save(path: Path) -> None:
    """Put the old gallery back where a save was killed between its two renames."""
    if not path.exists() and (_old(path) / FILE).exists():
        with suppress(OSError):
            _old(path).rename(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the system says about writing into an error that says what to do."""
    try:
        yield
    except ImgretError:
        raise
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreReadOnlyError(
                f"{path}: expected a directory that can be written, found: {error.strerror}"
            ) from error
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            raise StoreNotFoundError(f"{path}: cannot be written: {error}") from error
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}; what was saved before is "
            f"untouched"
        ) from error
