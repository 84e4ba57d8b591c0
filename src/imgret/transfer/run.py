"""Galleries to files, and files to galleries."""

from __future__ import annotations

import glob
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from imgret import registry
from imgret.abc import Cropper, Gallery
from imgret.errors import (
    DimensionError,
    DuplicateKeyError,
    InvalidInputError,
    KeyNotFoundError,
    StoreExistsError,
    StoreMismatchError,
)
from imgret.filters import parse_filter
from imgret.galleries.local import LocalGallery
from imgret.galleries.local.files import sync, writing
from imgret.galleries.local.writer_lock import LOCK, WriterLock
from imgret.indexes.make import EmbedderLike, find_cropper, find_embedder
from imgret.ingest.progress import Progress, progress_bar
from imgret.pipeline.compatible import check_given, new_spec, same_cropper, same_embedder
from imgret.search import View
from imgret.support.given import plain_filter
from imgret.support.rounding import as_kept
from imgret.transfer.csv_file import read_csv, write_csv
from imgret.transfer.header import GalleryHeader
from imgret.transfer.npz_file import NpzTable, write_npz
from imgret.transfer.parquet_file import ParquetTable, write_parquet
from imgret.transfer.records import Records
from imgret.transfer.shards import shards_in
from imgret.transfer.table import Table
from imgret.types import Dtype, Item, Metric

__all__ = ["FORMATS", "Imported", "all_items", "export_items", "import_items", "load_items"]

FORMATS = (".parquet", ".npz", ".csv")
_TABLES: dict[str, type[ParquetTable | NpzTable]] = {".parquet": ParquetTable, ".npz": NpzTable}
CropperLike: TypeAlias = str | os.PathLike[str] | Cropper
_log = logging.getLogger(__name__)


class Imported(NamedTuple):
    """What an import has done.

    Attributes
    ----------
    added, changed, unchanged : int
        Numbers of items.
    total : int
        Number of items of the gallery now.
    columns : str
        Which columns were taken for keys and vectors, in words; empty for a file of imgret.
    """

    added: int
    changed: int
    unchanged: int
    total: int
    columns: str = ""


# -- out -------------------------------------------------------------------------------------


def all_items(gallery: Gallery, where: Mapping[str, Any] | None = None) -> View:
    """Return the view of the items that match a filter, or of all; the gallery may be empty.

    Raises
    ------
    InvalidInputError
        The filter is not valid, or names a field that no item has.
    """
    parsed = None if where is None else parse_filter(plain_filter(where))
    if parsed is None or not len(gallery):
        return gallery.view()
    gallery.check_where(parsed)
    return gallery.view(parsed)


def export_items(
    view: View,
    header: GalleryHeader,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress = None,
) -> int:
    """Write the items of a view to a file, and return their number.

    The file is complete or not there at all. Items and vectors are read and written in pieces.

    Parameters
    ----------
    view : View
    header : GalleryHeader
        Header for the items of the view's gallery.
    path : path
        File to write: ``.parquet``, ``.npz``, or ``.csv``, which has no vectors.
    overwrite : bool
        Whether an existing file is replaced.
    progress : bool or callable, optional
        As for `imgret.Retriever.add_folder`.

    Raises
    ------
    InvalidInputError
        The name ends in something else, or the folder does not exist.
    StoreExistsError
        The file exists.
    MissingExtraError
        The format needs an extra.
    StoreError
        The file cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    with (
        _new_file(path, overwrite=overwrite) as unfinished,
        progress_bar(progress, total=len(view), unit=" images", desc="exporting") as bar,
    ):
        if suffix == ".csv":
            fields = dict.fromkeys(name for item in view.items() for name in item.metadata)
            count = write_csv(unfinished, _counted(view.items(), bar), fields)
        else:
            write = write_parquet if suffix == ".parquet" else write_npz
            count = write(unfinished, header, _batches(view, bar))
    _log.info("exported %d items to %s", count, path)
    return count


def _batches(view: View, bar: Any) -> Iterator[Records]:
    for ids, embeddings in view.embedding_blocks():
        yield Records(list(view.items(ids)), embeddings)
        bar.update(len(ids))


def _counted(items: Iterable[Item], bar: Any) -> Iterator[Item]:
    for item in items:
        yield item
        bar.update(1)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidInputError(
            f"{path}: expected a file name that ends in {', '.join(FORMATS)}, found "
            f"{suffix or 'none of these'!r}"
        )
    return suffix


@contextmanager
def _new_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield the path of a file to write; it appears under its name when the block is done."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        found = "a folder" if path.is_dir() else f"no folder {path.absolute().parent}"
        raise InvalidInputError(f"{path}: expected the path of a file to write, found {found}")
    _check_free(path, overwrite=overwrite)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with writing(path):
            yield unfinished
            sync(unfinished)
            _check_free(path, overwrite=overwrite)
            unfinished.replace(path)
            sync(path.absolute().parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _check_free(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise StoreExistsError(
            f"{path}: expected an unused path, found a file; overwrite=True (--force) replaces it"
        )


# -- in --------------------------------------------------------------------------------------


class _WantedParts(NamedTuple):
    """Parts that the user asks of a gallery; None where they are left to the file."""

    embedder: EmbedderLike | None = None
    cropper: CropperLike | None = None
    metric: Metric | None = None
    dtype: Dtype | None = None


def open_table(
    path: str | os.PathLike[str], *, key: str | None = None, vector: str | None = None
) -> Table:
    """Open a file of items and embeddings.

    Raises
    ------
    InvalidInputError
        The file does not exist, or holds something else.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise InvalidInputError(f"{path}: expected a file, found {found}")
    if suffix == ".csv":
        raise InvalidInputError(
            f"{path}: expected a file with embeddings, found CSV, which has none; export the "
            f"gallery to .parquet or .npz, or index the images"
        )
    return _TABLES[suffix](path, key=key, vector=vector)


def load_items(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    vector: str | None = None,
    embedder: EmbedderLike | None = None,
    cropper: CropperLike | None = None,
    metric: Metric | None = None,
    dtype: Dtype | None = None,
    progress: Progress = None,
) -> LocalGallery:
    """Read a file into a new gallery in memory; parameters and errors as for `import_items`."""
    with open_table(path, key=key, vector=vector) as table:
        header = _header_for(table, _WantedParts(embedder, cropper, metric, dtype))
        gallery = LocalGallery.in_memory(header.spec)
        try:
            _fill(gallery, table, header, progress)
        except BaseException:
            gallery.close()
            raise
        return gallery


def import_items(
    path: str | os.PathLike[str],
    uri: str,
    *,
    key: str | None = None,
    vector: str | None = None,
    embedder: EmbedderLike | None = None,
    cropper: CropperLike | None = None,
    metric: Metric | None = None,
    dtype: Dtype | None = None,
    progress: Progress = None,
) -> Imported:
    """Read a file into a gallery: all of its items or, on any error, none.

    A gallery that does not exist is made, as the file's header describes it. Items that the
    gallery has already are left as they are if they are equal, and refused if they differ. So an
    import that was interrupted can be repeated. A CSV file has no embeddings: it changes labels
    and metadata of items that exist.

    Parameters
    ----------
    path : path
        File to read, or a folder of Parquet shards; of each shard, all rows are added or none.
    uri : str
        Path or URI of the gallery.
    key, vector : str, optional
        Columns of keys and vectors, in a file of another program.
    embedder, cropper, metric, dtype
        Parts of the new gallery. A file of another program needs the embedder that made its
        vectors; for a file of imgret, they must agree with it.
    progress : bool or callable, optional
        As for `imgret.Retriever.add_folder`.

    Raises
    ------
    InvalidInputError
        The file is not valid.
    StoreMismatchError, DimensionError
        The vectors are of another embedder than the gallery's, or of another dimension.
    DuplicateKeyError
        The gallery has an item of this key with other contents.
    """
    if Path(path).is_dir() and (shards := shards_in(Path(path))):
        given: dict[str, Any] = {"key": key, "vector": vector, "embedder": embedder}
        given |= {"cropper": cropper, "metric": metric, "dtype": dtype, "progress": progress}
        done = [import_items(shard, uri, **given) for shard in shards]
        added, unchanged = sum(each.added for each in done), sum(each.unchanged for each in done)
        return Imported(added, 0, unchanged, done[-1].total, done[-1].columns)
    kind = registry.gallery(uri)
    if Path(path).suffix.lower() == ".csv" and Path(path).is_file():
        if not kind.is_taken(uri):
            open_table(path)  # raises
        with closing(kind.open(uri, writable=True)) as gallery:
            return _edit(gallery, Path(path))
    with open_table(path, key=key, vector=vector) as table:
        wanted = _WantedParts(embedder, cropper, metric, dtype)
        if kind.is_taken(uri):
            with closing(kind.open(uri, writable=True)) as gallery:
                _check_same(gallery, table, wanted)
                return _extend(gallery, table, progress)
        header = _header_for(table, wanted)
        if kind is not LocalGallery:
            with closing(kind.create(uri, header.spec)) as gallery:
                try:
                    _fill(gallery, table, header, progress)
                except BaseException:
                    gallery.discard_if_unused()
                    raise
                return Imported(len(gallery), 0, 0, len(gallery), table.chosen)
        with (
            _new_gallery(LocalGallery.place(uri)) as staged,
            closing(LocalGallery.create(str(staged), header.spec)) as gallery,
        ):
            _fill(gallery, table, header, progress)
            count = len(gallery)
        return Imported(count, 0, 0, count, table.chosen)


def _header_for(table: Table, wanted: _WantedParts) -> GalleryHeader:
    """Return the header of a new gallery for the items of a file."""
    embedder, cropper, metric, dtype = wanted
    if table.header is not None:
        spec = table.header.spec
        home = str(table.path.absolute().parent)
        check_given(spec, str(table.path), {"metric": metric, "dtype": dtype})
        if embedder is not None:
            spec = spec.with_(embedder=same_embedder(spec, home, embedder).part)
        if cropper is not None:
            spec = spec.with_(cropper=same_cropper(spec, home, cropper).part)
        return replace(table.header, spec=spec)
    if embedder is None:
        raise InvalidInputError(
            f"{table.path}: expected the embedder that made the vectors ({table.dim}-d), as the "
            f"file does not say which it was, found none; give it as embedder= (--embedder), so "
            f"that queries are embedded alike"
        )
    made = find_embedder(embedder)
    if made.dim != table.dim:
        raise DimensionError(
            f"{table.path}: expected vectors of dimension {made.dim}, as embedder "
            f"{made.name or type(made).__name__!r} makes them, found {table.dim}; give the "
            f"embedder that made them"
        )
    spec, _ = new_spec(
        made, find_cropper(cropper or "none"), "flat", metric or "cosine", dtype or "float16"
    )
    return GalleryHeader(spec)


def _check_same(gallery: Gallery, table: Table, wanted: _WantedParts) -> None:
    """Raise if the vectors of a file do not belong into a gallery."""
    spec, name = gallery.spec, gallery.name
    check_given(spec, name, {"metric": wanted.metric, "dtype": wanted.dtype})
    if wanted.embedder is not None:
        same_embedder(spec, name, wanted.embedder)
    if wanted.cropper is not None:
        same_cropper(spec, name, wanted.cropper)
    advice = "import it into a gallery of its own, by another --output"
    if table.dim != spec.dim:
        raise DimensionError(
            f"{table.path}: expected vectors of dimension {spec.dim}, as in {gallery.name}, found "
            f"{table.dim}; {advice}"
        )
    if table.header is None:
        return
    other = table.header.spec
    if other.fingerprint != spec.fingerprint:
        raise StoreMismatchError(
            f"{table.path}: expected vectors of the embedder of {gallery.name}, "
            f"{spec.embedder.name!r} (fingerprint {spec.fingerprint[:19]}), found those of "
            f"{other.embedder.name!r} (fingerprint {other.fingerprint[:19]}), which cannot be "
            f"compared; {advice}"
        )
    if other.cropper.name != spec.cropper.name:
        raise StoreMismatchError(
            f"{table.path}: expected images cropped by {spec.cropper.name!r}, as in "
            f"{gallery.name}, found {other.cropper.name!r}; {advice}"
        )


def _fill(gallery: Gallery, table: Table, header: GalleryHeader, progress: Progress) -> None:
    """Add everything to a new gallery."""
    with gallery.changing(), _bar(progress, len(table)) as bar:
        if header.projection is not None:
            gallery.project(header.projection)
        for items, embeddings in table.batches():
            _add(gallery, table, items, embeddings)
            bar.update(len(items))
        gallery.catch_up()
    _log.info("imported %d items from %s", len(gallery), table.path)


def _extend(gallery: Gallery, table: Table, progress: Progress) -> Imported:
    """Add what is new to a gallery that exists, after everything was checked."""
    with gallery.changing(), _bar(progress, 2 * len(table)) as bar:
        seen: set[str] = set()
        unchanged = 0
        for items, embeddings in table.batches():
            for item, reason in zip(items, gallery.refusals(embeddings), strict=True):
                if reason is not None:
                    raise InvalidInputError(f"{table.path}: {item.key}: {reason}")
                if item.key in seen:
                    raise DuplicateKeyError(
                        f"{table.path}: expected each key once, found {item.key!r} twice"
                    )
                seen.add(item.key)
            unchanged += len(_known(gallery, table, items, embeddings))
            bar.update(len(items))
        added: list[str] = []
        try:
            for items, embeddings in table.batches():
                known = _known(gallery, table, items, embeddings)
                new = [n for n, item in enumerate(items) if item.key not in known]
                if new:
                    _add(gallery, table, [items[n] for n in new], embeddings[new])
                    added += [items[n].key for n in new]
                bar.update(len(items))
            gallery.catch_up()
        except BaseException:
            if added:
                gallery.remove(added)
            raise
    _log.info("imported %d items from %s; %d were known", len(added), table.path, unchanged)
    return Imported(len(added), 0, unchanged, len(gallery), table.chosen)


def _bar(progress: Progress, total: int) -> Any:
    return progress_bar(progress, total=total, unit=" images", desc="importing")


def _add(gallery: Gallery, table: Table, items: list[Item], embeddings: Any) -> None:
    try:
        gallery.add(items, np.asarray(embeddings, dtype=np.float32))
    except InvalidInputError as error:
        raise type(error)(f"{table.path}: {error}") from error


def _known(gallery: Gallery, table: Table, items: list[Item], embeddings: Any) -> set[str]:
    """Return the keys of items that the gallery has already, equal in everything.

    Raises
    ------
    DuplicateKeyError
        The gallery has one of them with other contents.
    """
    found = gallery.find([item.key for item in items])
    if not found:
        return set()
    spec = gallery.spec
    places = [n for n, item in enumerate(items) if item.key in found]
    rows = np.asarray(embeddings, dtype=np.float32)[places]
    kept = np.asarray(as_kept(rows, metric=spec.metric, dtype=spec.dtype)).astype(spec.dtype)
    stored = gallery.embeddings([items[n].key for n in places])
    equal = (kept.astype(np.float32) == stored).all(axis=1)
    different = [
        items[n].key
        for n, same in zip(places, equal.tolist(), strict=True)
        if not same or found[items[n].key] != items[n]
    ]
    if different:
        raise DuplicateKeyError(
            f"{table.path}: expected items that {gallery.name} does not have, or has just the "
            f"same, found {different[0]!r} with other contents"
            + (f" and {len(different) - 1} more" if len(different) > 1 else "")
            + "; nothing was imported. Remove them first, or import into a gallery of its own"
        )
    return set(found)


def _edit(gallery: Gallery, path: Path) -> Imported:
    """Change labels and metadata of items as a CSV file says, all or none."""
    edits = read_csv(path)
    with gallery.changing():
        found = gallery.match([row.key for row in edits.rows])
        changes: dict[str, Item] = {}
        for row in edits.rows:
            item = found.get(row.key)
            if item is None:
                raise KeyNotFoundError(
                    f"{path}, line {row.line}: expected the key of an item of {gallery.name}, "
                    f"found {row.key!r}; a CSV file has no embeddings and can only change items: "
                    f"`imgret index` adds images"
                )
            label = row.label if edits.has_labels else item.label
            metadata = row.metadata if edits.has_metadata else item.metadata
            if (label or None) != (item.label or None) or metadata != item.metadata:
                changes[item.key] = replace(item, label=label, metadata=metadata)
        gallery.change(changes)
    _log.info("changed %d items as %s says", len(changes), path)
    return Imported(0, len(changes), len(edits.rows) - len(changes), len(gallery))


# -- a directory that appears when it is complete ------------------------------------------------


@contextmanager
def _new_gallery(path: Path) -> Iterator[Path]:
    """Yield a directory beside a path; it is renamed to it when the block is done."""
    path = path.absolute()
    staged = path.with_name(f".{path.name}.importing-{secrets.token_hex(4)}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(path)
        try:
            yield staged
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            if path.exists():
                raise StoreExistsError(
                    f"{path}: another process has just created something here; nothing was imported"
                )
            staged.rename(path)
            sync(path.parent)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _clear_abandoned(path: Path) -> None:
    """Delete what killed imports have left behind."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.importing-*"):
        with suppress(OSError):  # locked: another import is under way
            WriterLock(left / LOCK).release()
            shutil.rmtree(left, ignore_errors=True)
