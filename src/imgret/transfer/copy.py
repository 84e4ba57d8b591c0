"""A gallery to another place and kind: sent in its order, in pieces, and compared at the end.

What is at the target already must be the first items of the source, as an interrupted copy leaves
them; the copy goes on after them. A new directory appears under its name when it is complete.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgret import registry
from imgret.abc import Gallery, GallerySpec
from imgret.errors import (
    InvalidInputError,
    StoreError,
    StoreExistsError,
    StoreMismatchError,
)
from imgret.galleries.local import LocalGallery
from imgret.galleries.local.files import sync, writing
from imgret.galleries.local.manifest import is_gallery
from imgret.galleries.local.store import discard_if_empty
from imgret.indexes.make import index_part
from imgret.ingest.progress import Progress, progress_bar
from imgret.pages.result import Result
from imgret.pipeline.compatible import check_given
from imgret.search import View
from imgret.support.rounding import as_kept
from imgret.transfer.header import GalleryHeader
from imgret.transfer.records import Records
from imgret.types import Ids, Json, Part

__all__ = ["CopyReport", "copy_gallery"]

_log = logging.getLogger(__name__)
# Items sent and compared at a time, and the bytes of their embeddings at most.
_ITEMS, _BYTES = 4096, 2**25
_EXACT = frozenset({"flat", "exact"})


@dataclass(frozen=True)
class CopyReport(Result):
    """Outcome of a copy.

    Attributes
    ----------
    source, target : str
        Names of the galleries.
    copied, unchanged, total : int
        Number of items that were sent, that the target had already, and that it has now.
    index : str
        Name of the index at the target.
    notes : list of str
        What the target does not have of the source, and why, as sentences.
    seconds : float
        Duration of the copy.
    """

    source: str
    target: str
    copied: int
    unchanged: int
    total: int
    index: str
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> Json:
        """Return everything as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        counts = [f"{self.copied:,} copied"]
        if self.unchanged:
            counts.append(f"{self.unchanged:,} were there")
        images = "image" if self.total == 1 else "images"
        text = (
            f"{self.target}: {self.total:,} {images} ({', '.join(counts)}), index "
            f"{self.index!r}; compared with {self.source}: equal; {self.seconds:.1f} s"
        )
        return "\n".join([text, *(f"note: {note}" for note in self.notes)])


def copy_gallery(
    source: str, target: str, *, index: str | None = None, progress: Progress = None
) -> CopyReport:
    """Copy a gallery: see `imgret.Retriever.copy`."""
    started = time.perf_counter()
    kind = registry.gallery(target)
    with ExitStack() as stack:
        given = stack.enter_context(closing(registry.gallery(source).open(source, writable=False)))
        _check_distinct(given, kind, target)
        wanted = _wanted(given, kind, index)
        view = stack.enter_context(_frozen(given))
        with _target(kind, target, view, wanted, index) as (gallery, done):
            _describe(gallery, wanted)
            _send(view, gallery, done, progress)
            gallery.catch_up()
            _check(view, gallery, given.name, progress)
            total, spec = len(gallery), gallery.spec
            name = gallery.name if kind is not LocalGallery else str(_place(target))
    seconds = time.perf_counter() - started
    notes = _notes(wanted, spec)
    _log.info("copied %d items from %s to %s", total - done, given.name, name)
    return CopyReport(given.name, name, total - done, done, total, spec.index.name, notes, seconds)


# -- what the target is made of ----------------------------------------------------------------


class _Target(NamedTuple):
    """The description of the target, as far as it can have what the source has."""

    header: GalleryHeader
    lost: dict[str, str]


def _wanted(given: Gallery, kind: type[Gallery], index: str | None) -> _Target:
    """Return the header for the target, and what is lost, by the name of the field."""
    header, lost = GalleryHeader.of(given), dict[str, str]()
    spec = header.spec
    part = _index(given, kind, index)
    if part != spec.index and index is None:
        lost["index"] = (
            f"its index is {part.name!r}, as this kind of gallery has no "
            f"{spec.index.name!r}; --index chooses another"
        )
    changes: dict[str, Any] = {"index": part}
    if spec.tuned is not None and not (type(given) is kind and part == spec.index):
        changes["tuned"] = None
        lost["tuned"] = "search options were tuned for the other index; run `imgret tune`"
    projection = header.projection
    if projection is not None and not kind.supports_projection:
        projection = None
        lost["projection"] = (
            f"the projection ({header.projection.kind} to {header.projection.dim_out}-d) "  # type: ignore[union-attr]
            f"is left out, as this kind of gallery searches the embeddings themselves"
        )
        for name in ("calibration", "text_calibration"):
            found = getattr(spec, name)
            if found is not None and found.get("projection") is not None:
                changes[name] = None
                lost[name] = (
                    f"the {name.replace('_', ' ')} is left out, as it is for projected scores; "
                    f"run `imgret calibrate`"
                )
    return _Target(GalleryHeader(spec.with_(**changes), projection), lost)


def _index(given: Gallery, kind: type[Gallery], index: str | None) -> Part:
    """Return the index for the target: the one asked for, that of the source, or the nearest."""
    spec = given.spec
    if index is None and type(given) is kind:
        return spec.index
    if kind is not LocalGallery:
        exact = (index or spec.index.name) in _EXACT
        return Part(index if index is not None else "flat" if exact else "hnsw")
    name = index or spec.index.name
    if index is None and not registry.is_registered("indexes", name):
        name = "auto"
    return index_part(name, {}, spec.dim, spec.metric)[0]


def _notes(wanted: _Target, spec: GallerySpec) -> list[str]:
    """Return what the target lacks, as sentences."""
    lost = dict(wanted.lost)
    if spec.index != wanted.header.spec.index:  # that of a target that was there
        lost.pop("index", None)
    return list(lost.values())


def _describe(gallery: Gallery, wanted: _Target) -> None:
    """Give the target the projection and the calibrations that the source has."""
    spec, projection = wanted.header.spec, wanted.header.projection
    now = gallery.projection
    if projection is not None and (now is None or now.fingerprint != projection.fingerprint):
        gallery.project(projection)
    changes: dict[str, Any] = {
        name: value
        for name in ("calibration", "text_calibration", "tuned")
        if (value := getattr(spec, name)) is not None and value != getattr(gallery.spec, name)
    }
    if "tuned" in changes and gallery.spec.index != spec.index:
        del changes["tuned"]
    if changes:
        gallery.change_spec(**changes)


# -- where it goes -------------------------------------------------------------------------------


def _check_distinct(given: Gallery, kind: type[Gallery], target: str) -> None:
    if given.path is not None and kind is LocalGallery:
        same = given.path.resolve() == _place(target).resolve()
    else:
        same = given.name == target
    if same:
        raise InvalidInputError(
            f"target: expected another place than {given.name}, found the same gallery"
        )


@contextmanager
def _frozen(gallery: Gallery) -> Iterator[View]:
    """Provide a view of all items that others cannot change meanwhile, if the engine has one."""
    if gallery.shared and gallery.consistent_views and len(gallery):
        with gallery.viewed() as view:
            yield view
    else:
        yield gallery.view()


@contextmanager
def _target(
    kind: type[Gallery], target: str, view: View, wanted: _Target, index: str | None
) -> Iterator[tuple[Gallery, int]]:
    """Provide the target, open for writing, and the number of items that it has already."""
    spec = wanted.header.spec
    if kind.is_taken(target):
        with closing(kind.open(target, writable=True)) as gallery:
            _check_fits(gallery, spec, index)
            yield gallery, _known(view, gallery)
        return
    if kind is LocalGallery:
        with _appearing(_place(target), spec, view) as (local, done):
            yield local, done
        return
    with closing(kind.create(target, spec)) as gallery:
        try:
            yield gallery, 0
        except BaseException:
            gallery.discard_if_unused()
            raise


def _check_fits(gallery: Gallery, spec: GallerySpec, index: str | None) -> None:
    """Raise if the embeddings do not belong into a gallery that exists."""
    found, name = gallery.spec, gallery.name
    other = "copy to another place"
    if (found.fingerprint, found.dim) != (spec.fingerprint, spec.dim):
        raise StoreMismatchError(
            f"{name}: expected a gallery of the embedder {spec.embedder.name!r} ({spec.dim}-d, "
            f"fingerprint {spec.fingerprint[:19]}), found one of {found.embedder.name!r} "
            f"({found.dim}-d, fingerprint {found.fingerprint[:19]}); {other}"
        )
    for what in ("metric", "dtype"):
        if getattr(found, what) != getattr(spec, what):
            raise StoreMismatchError(
                f"{name}: expected {what} {getattr(spec, what)!r}, as in the source, found "
                f"{getattr(found, what)!r}; {other}"
            )
    prints = (found.cropper_fingerprint, spec.cropper_fingerprint)
    if found.cropper.name != spec.cropper.name or (None not in prints and len(set(prints)) > 1):
        raise StoreMismatchError(
            f"{name}: expected images cropped by {spec.cropper.name!r}, as in the source, found "
            f"{found.cropper.name!r}; {other}"
        )
    check_given(found, name, {"index": index})


def _known(view: View, gallery: Gallery) -> int:
    """Return how many items of the source a gallery has, which must be its first ones.

    Raises
    ------
    StoreExistsError
        The gallery has other items.
    """
    with _frozen(gallery) as there:
        count = len(there.ids)
        if count <= len(view.ids):
            found = _first_difference(view, there, view.ids[:count], gallery.spec, None)
        else:
            found = f"{count:,} items, more than the {len(view.ids):,} of the source"
    if found is not None:
        raise StoreExistsError(
            f"{gallery.name}: expected nothing, or the first items of the source as an "
            f"interrupted copy leaves them, found {found}; nothing was copied. Remove it, or copy "
            f"to another place"
        )
    return count


@contextmanager
def _appearing(path: Path, spec: GallerySpec, view: View) -> Iterator[tuple[Gallery, int]]:
    """Provide a directory beside a path, which is renamed to it when the block is done.

    What an interrupted copy has left there is continued if it is of this source, and else begun
    again.
    """
    staged = path.with_name(f".{path.name}.copying")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    gallery, done = _staged(staged, spec, view)
    try:
        with closing(gallery):
            yield gallery, done
    except BaseException:
        discard_if_empty(staged)
        raise
    with writing(path):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        if path.exists():
            raise StoreExistsError(
                f"{path}: another process has just created something here; nothing was copied"
            )
        staged.rename(path)
        sync(path.parent)


def _staged(staged: Path, spec: GallerySpec, view: View) -> tuple[LocalGallery, int]:
    if is_gallery(staged):
        gallery = LocalGallery.open(str(staged), writable=True)
        try:
            _check_fits(gallery, spec, None)
            if gallery.spec.index == spec.index:
                return gallery, _known(view, gallery)
        except (StoreExistsError, StoreMismatchError):
            _log.info("%s: left by a copy of something else; begun again", staged)
        except BaseException:
            gallery.close()
            raise
        gallery.close()
    if staged.exists():
        shutil.rmtree(staged)
    return LocalGallery.create(str(staged), spec), 0


def _place(target: str) -> Path:
    return LocalGallery.place(target).absolute()


# -- items -----------------------------------------------------------------------------------------


def _batches(view: View, ids: Ids) -> Iterator[Records]:
    """Yield items and embeddings, the same number at a time from every kind of gallery."""
    dim = view.projection.dim_in
    step = max(1, min(_ITEMS, _BYTES // (4 * dim)))
    for start in range(0, len(ids), step):
        block = ids[start : start + step]
        rows = [rows for _, rows in view.embedding_blocks(block)]
        yield Records(list(view.items(block)), rows[0] if len(rows) == 1 else np.concatenate(rows))


def _send(view: View, gallery: Gallery, done: int, progress: Progress) -> None:
    ids = view.ids
    with (
        gallery.changing(),
        progress_bar(progress, total=len(ids), initial=done, unit=" images", desc="copying") as bar,
    ):
        for items, embeddings in _batches(view, ids[done:]):
            gallery.add(items, embeddings)
            bar.update(len(items))


def _check(view: View, gallery: Gallery, source: str, progress: Progress) -> None:
    """Raise if the target is not equal to the source, item by item."""
    with (
        _frozen(gallery) as there,
        progress_bar(progress, total=len(view.ids), unit=" images", desc="comparing") as bar,
    ):
        found = None
        if len(there.ids) != len(view.ids):
            found = f"{len(there.ids):,} items"
        else:
            found = _first_difference(view, there, view.ids, gallery.spec, bar)
    if found is not None:
        raise StoreError(
            f"{gallery.name}: expected the {len(view.ids):,} items of {source} and no others, "
            f"found {found}; another process may have changed it meanwhile"
        )


def _first_difference(view: View, there: View, ids: Ids, spec: GallerySpec, bar: Any) -> str | None:
    """Return the first difference between some items of a source and all of a target, in words."""
    done = 0
    for ours, theirs in zip(_batches(view, ids), _batches(there, there.ids), strict=True):
        kept = as_kept(ours.embeddings, metric=spec.metric, dtype=spec.dtype).astype(spec.dtype)
        equal = (kept == theirs.embeddings.astype(spec.dtype)).all(axis=1)
        for n, (item, other) in enumerate(zip(ours.items, theirs.items, strict=True)):
            if item.key != other.key:
                return f"{other.key!r} in place of {item.key!r} (number {done + n + 1:,})"
            if item != other:
                return f"{item.key!r} with other contents (number {done + n + 1:,})"
            if not equal[n]:
                return f"{item.key!r} with another embedding (number {done + n + 1:,})"
        done += len(ours.items)
        if bar is not None:
            bar.update(len(ours.items))
    return None
