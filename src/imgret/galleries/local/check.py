"""Checking a gallery in a directory for damage, and repairing it.

A repair that concerns items writes the sound ones into a new directory, which then takes the place
of the old one. What can be made again (index, thumbnails) is deleted. Whatever interrupts a repair,
all sound items are in the one directory or the other.
"""

from __future__ import annotations

import time
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret import images
from imgret.abc import VectorIndex
from imgret.errors import (
    ImageError,
    ImgretError,
    StoreCorruptError,
    StoreNotFoundError,
    StoreVersionError,
)
from imgret.galleries.local.catalog import Catalog
from imgret.galleries.local.checkpoint import (
    Checkpoint,
    drop_index,
    has_index,
    read_checkpoint,
    read_checksums,
)
from imgret.galleries.local.files import replacement, settle, thumbnails_of, writing
from imgret.galleries.local.manifest import COPY, FILE, Manifest
from imgret.galleries.local.salvage import rewrite, salvage_of
from imgret.galleries.local.store import CATALOG, Store, vectors_path
from imgret.galleries.local.stored_index import read_index, read_projection
from imgret.galleries.local.writer_lock import LOCK, WriterLock
from imgret.galleries.report import CheckReport, Damage
from imgret.projections import IdentityProjection, Projection
from imgret.types import Ids

__all__ = ["check_directory"]

# Times to look again, if a writer changes the gallery meanwhile.
_TRIES = 3
_SAMPLE = 1000  # vectors of an index that are compared with the stored ones
_CLOSE = 1e-2  # relative error of a vector in an index that does not compress
_LIKE_ITSELF = 0.9  # share of compressed vectors that must be nearer to their own than to another


def check_directory(path: Path, *, repair: bool = False) -> CheckReport:
    """Check every file of a gallery; see `imgret.Retriever.check`.

    Raises
    ------
    StoreNotFoundError, StoreVersionError
        There is no gallery, or a newer imgret wrote it.
    StoreLockedError, StoreReadOnlyError
        Repairing was requested, but the gallery is open for writing, or cannot be written.
    """
    started = time.monotonic()
    path = path.absolute()
    settle(path.resolve(), mark=FILE)
    check = _Check(path)
    check.run()
    if not repair or not check.damages:
        return CheckReport(str(path), check.items, check.damages, False, _since(started))
    if check.manifest is None:
        raise StoreCorruptError(
            f"{path / FILE}: {check.damages[0].what}, and so is its copy; {check.damages[0].remedy}"
        )
    if check.rewrites and not check.items:
        first = next(one for one in check.damages if one.part in {"catalog", "vectors"})
        raise StoreCorruptError(
            f"{path}: expected items that can be kept, found none ({first.part}: {first.what}); "
            f"nothing was changed. Restore the gallery from a copy, or index the images again"
        )
    with writing(path):
        lost = _repair(path, check.manifest, check)
    again = _Check(path)
    again.run()
    for left in again.damages:
        raise StoreCorruptError(f"{path}: still damaged after a repair: {left.part}: {left.what}")
    found = [damage for damage in check.damages if damage.item is None] + lost
    return CheckReport(str(path), again.items, found, True, _since(started))


def _since(started: float) -> float:
    return time.monotonic() - started


class _Check:
    """One pass over the files of a gallery.

    Attributes
    ----------
    manifest : Manifest or None
        As in the file, or in its copy; None if both are damaged.
    items : int
        Number of sound items.
    damages : list of Damage
    rewrites : bool
        Whether a repair must write the items again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.manifest: Manifest | None = None
        self.items = 0
        self.damages: list[Damage] = []
        self.rewrites = False
        self.bad_projection = False
        self.bad_thumbnails: list[Path] = []

    def run(self) -> None:
        self._check_manifest()
        if self.manifest is None:
            return
        for attempt in range(_TRIES):
            before = len(self.damages)
            changes = self._check_items(self.manifest)
            if changes is None or changes == self._changes() or attempt == _TRIES - 1:
                break
            del self.damages[before:]  # a writer has changed something meanwhile
        projection = self._check_projection(self.manifest)
        if not self.damages:
            self._check_index(projection)
        self._check_thumbnails()

    def _found(self, part: str, what: str, remedy: str) -> None:
        self.damages.append(Damage(part, what, remedy))

    # -- manifest ------------------------------------------------------------------------

    def _check_manifest(self) -> None:
        problem: ImgretError | None = None
        try:
            self.manifest = Manifest.read(self._path)
        except StoreVersionError:
            raise
        except (StoreCorruptError, StoreNotFoundError) as error:
            problem = error
        copy = None
        try:
            copy = Manifest.read(self._path, name=COPY)
        except ImgretError:
            if isinstance(problem, StoreNotFoundError):  # no gallery at all
                raise problem from None
        if problem is not None:
            self.manifest = copy
            self._found(
                "manifest",
                str(problem).removeprefix(f"{self._path / FILE}: ").partition(";")[0],
                "restore it from a copy of the gallery, or correct it and set its 'crc32' to null"
                if copy is None
                else "a repair restores it from manifest.copy.json, which is sound",
            )
        elif copy != self.manifest and not Manifest.is_older(self._path):
            self._found(
                "manifest",
                f"its copy, {COPY}, is missing or differs",
                "a repair writes it again",
            )

    # -- items ---------------------------------------------------------------------------

    def _changes(self) -> int | None:
        try:
            with closing(Catalog(self._path / CATALOG, writable=False)) as catalog:
                return catalog.changes
        except ImgretError:
            return None

    def _check_items(self, manifest: Manifest) -> int | None:
        """Check catalog and vectors; return the change that was seen, None if that is damaged."""
        before, live, changes = len(self.damages), None, None
        try:
            if not (self._path / CATALOG).exists():
                raise StoreCorruptError(f"{self._path / CATALOG}: missing")
            with closing(Catalog(self._path / CATALOG, writable=False)) as catalog:
                live, changes = len(catalog), catalog.changes
                for problem in catalog.check_structure():
                    self._found("catalog", problem, "a repair writes it again")
                self._check_length(manifest, catalog.rows)
        except StoreVersionError:
            raise
        except ImgretError as error:
            what = str(error).removeprefix(f"{self._path / CATALOG}: ").partition(";")[0]
            self._found("catalog", what, "a repair keeps all items that can be read")
        self.items = 0
        if (self._path / CATALOG).exists():
            salvage = salvage_of(self._path, manifest)
            self.items = sum(len(good.items) for good in salvage.good())
            self.damages += salvage.damages
        if len(self.damages) == before and self.items != live:
            self._found(
                "catalog",
                f"{live:,} items are counted, {self.items:,} are there",
                "a repair writes it again",
            )
        self.rewrites = len(self.damages) > before
        return changes

    def _check_length(self, manifest: Manifest, rows: int) -> None:
        file = vectors_path(self._path, manifest)
        expected = rows * manifest.dim * np.dtype(manifest.dtype).itemsize
        found = file.stat().st_size if file.exists() else None
        if expected and (found is None or found < expected):
            self._found(
                "vectors",
                "the file is missing"
                if found is None
                else f"it has {found:,} of {expected:,} bytes",
                "a repair keeps the items whose vectors are there",
            )

    # -- what can be made again ------------------------------------------------------------

    def _check_projection(self, manifest: Manifest) -> Projection:
        identity = IdentityProjection(manifest.dim)
        if manifest.projection is None:
            return identity
        try:
            return read_projection(self._path, manifest.projection)
        except ImgretError as error:
            self.bad_projection = True
            self._found(
                "projection",
                str(error).partition(";")[0],
                "a repair drops it, and searches use the full embeddings until "
                "`Retriever.project` or `adapt` is called again",
            )
            return identity

    def _check_index(self, projection: Projection) -> None:
        if not has_index(self._path):
            return
        problem = None
        with (
            closing(Store.open(self._path, writable=False)) as store,
            warnings.catch_warnings(record=True) as said,
        ):
            warnings.simplefilter("always")
            if read_checkpoint(self._path) is None:
                problem = "its checkpoint cannot be read"
            elif (found := read_index(store, self._path, projection)) is not None:
                copied = read_checksums(self._path, found[1].rows)
                problem = _difference(store, *found, projection, copied)
            elif said:
                problem = str(said[0].message).rpartition("rebuilt: ")[2].partition(";")[0]
        if problem is not None:
            self._found(
                "index", problem, "a repair deletes it, and the next search builds it again"
            )

    def _check_thumbnails(self) -> None:
        for file in sorted(thumbnails_of(self._path).rglob("*.jpg")):
            try:
                images.load(file)
            except ImageError as error:
                self.bad_thumbnails.append(file)
                self._found(
                    "thumbnails", str(error), "a repair deletes it, and it is made again when shown"
                )


def _difference(
    store: Store,
    index: VectorIndex,
    checkpoint: Checkpoint,
    projection: Projection,
    copied: NDArray[np.uint32] | None,
) -> str | None:
    """Return how a stored index differs from the vectors it was made of; None if it does not."""
    catalog = store.catalog
    if checkpoint.changes > catalog.changes:  # stored by a writer just now
        return None
    live = catalog.live_ids()
    held = np.union1d(live, catalog.removed_since(checkpoint.changes))
    held = held[held < checkpoint.rows]
    if not np.array_equal(np.sort(index.ids), held):
        return f"it holds {len(index):,} vectors, not those of the {len(held):,} items it is for"
    if copied is not None and store.row_checks.differ(copied):
        return "the checksums stored with it are not those of the catalog"
    sample: Ids = np.intersect1d(live, held)
    if len(sample) > _SAMPLE:
        sample = np.sort(np.random.default_rng(0).choice(sample, _SAMPLE, replace=False))
    if len(sample) < 2:
        return None
    there = index.reconstruct(sample)
    vectors = index.metric.prepare(projection.apply(store.read(sample)))
    distances = np.linalg.norm(there - vectors, axis=1)
    if index.is_compressed:
        share = float((distances <= np.linalg.norm(there - np.roll(vectors, 1, 0), axis=1)).mean())
        differs = share < _LIKE_ITSELF
    else:
        differs = bool((distances > _CLOSE * np.linalg.norm(vectors, axis=1)).any())
    return "its vectors are not those of the items" if differs else None


# -- repairing -----------------------------------------------------------------------------------


def _repair(path: Path, manifest: Manifest, check: _Check) -> list[Damage]:
    """Repair what a check has found, and return the damages that concern items."""
    lock = WriterLock(path / LOCK)
    try:
        if check.bad_projection:
            manifest = manifest.with_(projection=None)
        manifest.write(path)
        if check.bad_projection:
            for file in Store.projection_files(path):
                file.unlink(missing_ok=True)
        if not check.rewrites and any(one.part in {"index", "projection"} for one in check.damages):
            drop_index(path)
        for file in check.bad_thumbnails:
            file.unlink(missing_ok=True)
    finally:
        lock.release()
    if not check.rewrites:
        return []
    with replacement(path.resolve(), mark=FILE) as new:
        salvage = salvage_of(path, manifest)
        rewrite(path, new, manifest, salvage)
    return [damage for damage in salvage.damages if damage.item is not None]
