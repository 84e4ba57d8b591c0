"""The facade: pictures in, hits out; everything else is delegated."""

from __future__ import annotations

import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from tqdm import tqdm

from imgret import adaptation
from imgret.abc import Cropper, Embedder, VectorIndex
from imgret.abc.checks import check_count, check_vectors
from imgret.croppers import NoCrop
from imgret.errors import EmptyGalleryError, ImgretError, InvalidInputError
from imgret.evaluation import (
    CropReport,
    Recall,
    Report,
    evaluate,
    measure_recall,
    report_crops,
)
from imgret.evaluation.queries import Queries, QueryLabels
from imgret.hits import Batch, Hits, make_hits
from imgret.ingest import (
    IngestInterrupted,
    IngestReport,
    Known,
    Labels,
    Line,
    Metadata,
    Source,
    Writer,
    describe,
    embed_sources,
    folder_sources,
    list_sources,
    one_each,
    path_of,
    read_sidecar,
)
from imgret.ingest.sources import check_sources
from imgret.making import check_given, new_manifest, same_cropper, same_embedder
from imgret.naming import Name, Namer
from imgret.parts import find_cropper, find_embedder
from imgret.projections import LinearProjection, fit_pca
from imgret.searcher import Searcher, index_part
from imgret.storage import Item, Part, Store
from imgret.types import Embeddings, ImageLike, Metric

__all__ = ["Retriever"]

Dtype: TypeAlias = Literal["float16", "float32"]
Mode: TypeAlias = Literal["r", "r+", "a"]

_KEEP: Any = object()


class Retriever:
    """A gallery of pictures that is searched by picture.

    ``Retriever()`` keeps the gallery in memory; `save` writes it, `load` reads it back into
    memory, and `open` works on it where it lies on disk.

    Parameters
    ----------
    embedder : str or Embedder
        A registered name (``"general"``), the path of an ONNX bundle, or an object.
    cropper : str or Cropper
        ``"none"``, ``"center"``, ``"spectral"``, the path of a saliency bundle, or an
        object. Queries are cropped by the same rule as the gallery.
    index : str or VectorIndex
        ``"flat"`` (exact), ``"hnsw"``, ``"ivf"``, ``"faiss:<factory string>"``, ``"auto"``,
        another registered name, or an empty index object.
    metric : {"cosine", "ip", "l2"}
        Scores are higher-is-better for all three.
    dtype : {"float16", "float32"}
        How embeddings are kept. What is indexed and scored is what is kept.

    Examples
    --------
    >>> retriever = Retriever()                              # doctest: +SKIP
    >>> retriever.add_folder("photos/", labels="parent")     # doctest: +SKIP
    >>> hits = retriever.search("query.jpg", k=6)            # doctest: +SKIP
    >>> retriever.save("photos.imgret")                      # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        embedder: str | Embedder = "general",
        cropper: str | Cropper = "none",
        index: str | VectorIndex = "flat",
        metric: Metric = "cosine",
        dtype: Dtype = "float16",
    ) -> None:
        embedder, cropper = find_embedder(embedder), find_cropper(cropper)
        manifest, prepared = new_manifest(embedder, cropper, index, metric, dtype)
        self._start(Store.in_memory(manifest), embedder, cropper, prepared)

    def _start(
        self,
        store: Store,
        embedder: Embedder,
        cropper: Cropper,
        prepared: VectorIndex | None = None,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._cropper = cropper
        self._changing = threading.RLock()
        self._unresolved: weakref.WeakSet[Batch] = weakref.WeakSet()
        self._searcher = Searcher(store, prepared)
        self._namer: tuple[object, Namer] | None = None  # and what it was learned from

    # -- making, opening, keeping --------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: Mode = "r",
        *,
        embedder: str | Embedder | None = None,
        cropper: str | Cropper | None = None,
        index: str | VectorIndex | None = None,
        metric: Metric | None = None,
        dtype: Dtype | None = None,
    ) -> Self:
        """Work on a gallery where it lies on disk.

        Parameters
        ----------
        path : path
            The directory, by convention ``NAME.imgret``.
        mode : {"r", "r+", "a"}
            ``"r"`` reads; ``"r+"`` reads and writes what is there; ``"a"`` makes it first
            if it is not. Many may read while one writes.
        embedder, cropper, index, metric, dtype
            As for `Retriever`. An existing gallery knows its own; what is given must agree
            with it.

        Raises
        ------
        StoreNotFoundError, StoreVersionError, StoreCorruptError
            There is none, it is of a newer format, or damaged.
        StoreLockedError, StoreReadOnlyError
            It cannot be written, and was to be.
        StoreMismatchError
            It was made with another embedder, cropper, index or metric.
        """
        path = Path(path)
        if mode not in {"r", "r+", "a"}:
            raise InvalidInputError(f"mode: expected 'r', 'r+' or 'a', found {mode!r}")
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
            self = cls.__new__(cls)
            self._start(Store.create(path, manifest), made_embedder, made_cropper, prepared)
            return self
        store = Store.open(path, writable=mode != "r")
        return cls._attach(store, path, embedder, cropper, index=index, metric=metric, dtype=dtype)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: str | Embedder | None = None,
        cropper: str | Cropper | None = None,
    ) -> Self:
        """Read a gallery into memory, every vector checked; the files are not held on to.

        Takes and raises what `open` does.
        """
        return cls._attach(Store.load(Path(path)), Path(path), embedder, cropper)

    @classmethod
    def _attach(
        cls,
        store: Store,
        path: Path,
        embedder: str | Embedder | None,
        cropper: str | Cropper | None,
        **given: Any,
    ) -> Self:
        try:
            self = cls.__new__(cls)
            made = same_embedder(store.manifest, path, embedder)
            crop = same_cropper(store.manifest, path, cropper)
            check_given(store.manifest, path, given)
            self._start(store, made, crop)
            self._searcher.restore(path)
        except BaseException:
            store.close()
            raise
        return self

    @classmethod
    def reembed(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: str | Embedder = "general",
        cropper: str | Cropper | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Make a gallery anew from the pictures of another, with another embedder.

        Keys, labels and metadata are taken over; the other gallery is not changed, and its
        embedder is not needed. `save` puts the result where it is wanted.

        Parameters
        ----------
        path : path
            The other gallery.
        embedder, cropper
            As for `Retriever`; the cropper is by default the other gallery's.
        progress : bool, optional
            As for `add_folder`.

        Raises
        ------
        InvalidInputError
            A picture is no longer where it was, or was never in a file; nothing is made.
        """
        other = Store.open(Path(path), writable=False)
        try:
            manifest = other.manifest
            items = list(other.catalog.items(other.catalog.live_ids()).values())
        finally:
            other.close()
        lost = [item.key for item in items if item.path is None or not Path(item.path).is_file()]
        if lost:
            raise InvalidInputError(
                f"{path}: expected the file of every picture, found none for {len(lost)} of "
                f"{len(items)}, the first {lost[0]!r}; put the files back, or remove those items"
            )
        made = cls(
            embedder=embedder,
            cropper=same_cropper(manifest, Path(path), None) if cropper is None else cropper,
            metric=manifest.metric,
            dtype=manifest.dtype,
        )
        report = made._ingest(
            [
                Source(item.key, str(item.path), Path(str(item.path)), item.label, item.metadata)
                for item in items
            ],
            progress=progress,
        )
        if report.failed:
            line = report.failed[0]
            raise InvalidInputError(
                f"{path}: expected every picture to be readable, found {len(report.failed)} that "
                f"are not, the first {line.path}: {line.reason}; mend them, or remove those items"
            )
        made.reindex(manifest.index.name, **manifest.index.config)
        return made

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
            own = self._store.path
            if path is None and own is None:
                raise InvalidInputError("path: expected one for a gallery in memory, found None")
            if path is None or (own is not None and Path(path).absolute() == own.absolute()):
                self._store.check_writable()
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

        Hits found before stay valid.
        """
        with self._changing:
            self._settle()
            try:
                if self._store.path is not None and self._store.writable:
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

    # -- what is in it -------------------------------------------------------------------

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
        (id_,) = self._store.catalog.require([key])
        return self._store.catalog.items([id_])[id_]

    @property
    def embedder(self) -> Embedder:
        """What turns pictures into vectors."""
        return self._embedder

    @property
    def cropper(self) -> Cropper:
        """What cuts pictures down to their subject."""
        return self._cropper

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

    def embeddings(self, keys: Iterable[str] | None = None) -> Embeddings:
        """Return the kept embeddings of some items, by default of all, in order.

        Returns
        -------
        float32 array of shape (n, dim)
            As the embedder gave them, but for rounding to the gallery's dtype.
        """
        self._store.check_open()
        ids = (
            self._store.catalog.live_ids()
            if keys is None
            else np.array(self._store.catalog.require(list(keys)), dtype=np.int64)
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

    # -- changing it ---------------------------------------------------------------------

    def add(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        keys: str | Sequence[str] | None = None,
        labels: str | Sequence[str | None] | None = None,
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        exif: bool = False,
        duplicates: Literal["add", "skip"] = "add",
        threads: int | None = None,
        progress: bool | None = False,
    ) -> IngestReport:
        """Add pictures.

        Parameters
        ----------
        images : ImageLike or sequence of ImageLike
            Paths, bytes, file objects, uint8 RGB arrays or PIL images.
        keys : str or sequence of str, optional
            New names; by default the path of a file, ``image-000001`` and so on for others.
        labels, metadata : optional
            One a picture: a class name; a mapping of JSON values.
        exif : bool
            Whether date, camera and place are read from the EXIF block of files and bytes into
            the metadata, under the name ``exif``: see `imgret.images.exif_facts`.
        duplicates : {"add", "skip"}
            What to do with a file whose bytes are in the gallery already: both are reported.
        threads : int, optional
            By default one for each core.
        progress : bool, optional
            Whether to draw a progress bar on stderr; None: where that is a terminal.

        Returns
        -------
        IngestReport
            A picture of a list that cannot be read is reported as failed. A single one
            raises.

        Raises
        ------
        DuplicateKeyError
            A key is given twice or is in the gallery; nothing is added.
        InvalidInputError
            Another number of keys, labels or metadata than of pictures.
        ImageError
            The only picture cannot be read.
        """
        single = not isinstance(images, (list, tuple))
        many: list[ImageLike] = [images] if single else list(images)  # type: ignore[arg-type]  # a list by now
        n = len(many)
        with self._changing:
            self._store.check_writable()
            sources = list_sources(
                many,
                one_each(keys, n, "keys", single=single),
                one_each(labels, n, "labels", single=single),
                one_each(metadata, n, "metadata", single=single),
                self._store.catalog,
            )
            return self._ingest(
                sources,
                exif=exif,
                duplicates=duplicates,
                threads=threads,
                progress=progress,
                raise_failures=single,
            )

    def add_folder(
        self,
        folder: str | os.PathLike[str],
        *,
        labels: Labels = None,
        metadata: Metadata = None,
        exif: bool = False,
        prefix: str = "",
        prune: bool = False,
        duplicates: Literal["add", "skip"] = "add",
        threads: int | None = None,
        progress: bool | None = None,
    ) -> IngestReport:
        """Add every picture below a folder; adding it again takes in what has changed.

        A picture that cannot be read costs only itself and is reported. Its key is the path
        relative to the folder, with forward slashes. An unchanged file (same size and
        modification time, or same bytes) is skipped, a changed one is embedded anew, one of
        the bytes of a file that is gone is taken for that one renamed. Labels that are given
        are taken over in any case. After an interrupt the same call goes on.

        Parameters
        ----------
        folder : path
        labels : "parent", callable, mapping or None
            Class names: the name of the folder a picture lies in (none for those at the
            top); what a callable says of its path; looked up by its key; none.
        metadata : callable, mapping, path or None
            Mappings of JSON values: what a callable says of its path; looked up by its key; its
            row of a ``.csv`` or ``.jsonl`` file, which names it by ``key`` or by ``path`` (or
            ``file``), and its label by ``label``; none. What is known already is added to.
        exif : bool
            As for `add`.
        prefix : str
            Put before each key, to keep two folders apart.
        prune : bool
            Whether items whose files are gone from the folder are removed; they are reported
            either way.
        duplicates, threads, progress
            As for `add`; the bar is drawn where stderr is a terminal.

        Returns
        -------
        IngestReport

        Raises
        ------
        ImageNotFoundError
            There is no such folder.
        IngestInterrupted
            Ctrl-C; it is a KeyboardInterrupt, and its ``report`` tells what was done.
        """
        with self._changing:
            self._store.check_writable()
            if isinstance(metadata, (str, os.PathLike)):
                rows = read_sidecar(Path(metadata), Path(folder), prefix)
                metadata, labels = rows.facts, rows.labels if labels is None else labels
            found = folder_sources(Path(folder), labels, prefix, self._store.catalog)
            described = describe(found.sources, metadata)
            report = self._ingest(
                described.sources,
                exif=exif,
                duplicates=duplicates,
                threads=threads,
                progress=progress,
                vanished=found.vanished,
                prune=prune,
            )
        report.ignored = found.ignored
        report.unmatched, report.undescribed = described.unmatched, described.undescribed
        report.record(found.failed)
        return report

    def add_vectors(
        self,
        vectors: Any,
        *,
        keys: Sequence[str],
        labels: Sequence[str | None] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Add embeddings made elsewhere: all of them, or on any error none.

        Parameters
        ----------
        vectors : array of shape (n, dim)
            What the gallery's embedder would give.
        keys : sequence of str
            ``n`` new names.
        labels, metadata : optional
            One a vector, as for `add`.
        """
        vectors = check_vectors(vectors, self._store.dim, "vectors")
        n = len(vectors)
        with self._changing:
            self._store.check_writable()
            sources = list_sources(
                [None] * n,
                one_each(keys, n, "keys"),
                one_each(labels, n, "labels"),
                one_each(metadata, n, "metadata"),
                self._store.catalog,
            )
            if sources:
                self._settle()
                items = [Item(s.key, label=s.label, metadata=s.metadata) for s in sources]
                self._store.add(vectors, items)
                self._sync_after_adding()

    def remove(self, keys: str | Iterable[str]) -> int:
        """Take items out: all of them, or if a key is unknown none.

        Returns
        -------
        int
            How many there were.

        Raises
        ------
        KeyNotFoundError
            Naming the key the gallery does not hold.
        """
        names = [keys] if isinstance(keys, str) else list(dict.fromkeys(keys))
        with self._changing:
            self._store.check_writable()
            ids = self._store.catalog.require(names)
            if ids:
                self._settle()
                self._store.remove(ids)
                self._searcher.sync()
            return len(ids)

    def update(
        self,
        key: str,
        *,
        image: ImageLike | None = None,
        label: str | None = _KEEP,
        metadata: Mapping[str, Any] = _KEEP,
    ) -> None:
        """Change an item: its picture, its label, its metadata; what is not given stays.

        Raises
        ------
        KeyNotFoundError
            The gallery does not hold the key.
        ImageError
            The new picture cannot be read; the item is as it was.
        """
        with self._changing:
            self._store.check_writable()
            (id_,) = self._store.catalog.require([key])
            item = self._store.catalog.items([id_])[id_]
            now = replace(
                item,
                label=item.label if label is _KEEP else label,
                metadata=item.metadata if metadata is _KEEP else metadata,
            )
            source = Source(key, image, path_of(image), now.label, now.metadata, Known(id_, now))
            check_sources([source])
            self._settle()
            if image is not None:
                self._ingest([source], progress=False, raise_failures=True)
            if self._store.catalog.ids_of([key])[key] == id_:  # not embedded anew
                self._store.catalog.replace(id_, now)

    def reindex(self, index: str | VectorIndex | None = None, **options: Any) -> None:
        """Build the index anew from the kept embeddings; no picture is read.

        Parameters
        ----------
        index : str or VectorIndex, optional
            As for `Retriever`; by default the one in use.
        **options
            For the index, such as ``M=48`` for ``"hnsw"``.

        Raises
        ------
        UnknownNameError, InvalidInputError
            No such index or option, or too few items to train it: the one in use stays.
        """
        with self._changing:
            self._store.check_writable()
            if index is None:
                part = self._store.manifest.index
                part = Part(part.name, {**part.config, **options})
                prepared = None
            else:
                part, prepared = index_part(index, options, self._searcher.dim, self.metric)
            self._searcher.rebuild(part, prepared)
            self._searcher.checkpoint()

    def project(self, kind: Literal["pca"] | None, *, dim: int = 256, whiten: float = 0.0) -> None:
        """Choose the map from embedding to indexed vector; no picture is read.

        The full embeddings stay kept, so that this can be changed and undone.

        Parameters
        ----------
        kind : {"pca", None}
            Principal components of the gallery's embeddings, or none.
        dim : int
            Dimension to keep.
        whiten : float
            0 keeps variances, 1 evens them out; between them, a power between. 0.5 is best
            where the pictures are of one kind and differ in detail; it costs a little where
            they are of many kinds.

        Raises
        ------
        EmptyGalleryError
            There is nothing to fit on.
        InvalidInputError
            ``dim`` above the embedding's, or above what the items can tell.
        """
        with self._changing:
            self._store.check_writable()
            if kind not in {"pca", None}:
                raise InvalidInputError(f"kind: expected 'pca' or None, found {kind!r}")
            projection = None
            if kind == "pca":
                ids = self._store.catalog.live_ids()
                if not len(ids):
                    raise EmptyGalleryError(
                        "project: expected a gallery with items to fit on, found an empty one"
                    )
                blocks = (block for _, block in self._store.blocks(ids))
                projection = fit_pca(blocks, dim, whiten=whiten)
            self._searcher.project(projection)

    def adapt(
        self, *, dim: int | None = None, shrinkage: float | None = None
    ) -> adaptation.AdaptReport:
        """Learn from the labels what tells the classes apart, and search by that.

        A discriminant projection (LDA with shrinkage) is tried by cross-validation: what it
        is measured with is never what it was fitted on. If top-1 surely rises, it is fitted
        on all that is labelled and the index is built anew; else the gallery stays as it is.
        No picture is read. Items added later are searched by the same projection; call it
        again to learn from them. ``project(None)`` goes back.

        Parameters
        ----------
        dim : int, optional
            Dimension of the indexed vectors, less than the number of classes; by default as
            many as there can be.
        shrinkage : float, optional
            Between 0 and 1; by default chosen by the cross-validation.

        Returns
        -------
        AdaptReport
            The gain over the embeddings themselves, with its interval; ``applied`` says
            whether it is in use.

        Raises
        ------
        InvalidInputError
            Too few labels to learn from or to measure with.
        """
        with self._changing:
            self._store.check_writable()
            return adaptation.adapt(
                self._store, self._searcher.project, dim=dim, shrinkage=shrinkage
            )

    def create_filter_index(self, field: str) -> None:
        """Make filters on a field quick that let few of many items pass.

        Kept with the gallery. Keys and labels have one from the start.

        Parameters
        ----------
        field : str
            ``path``, or a field of the metadata as `search` names it.
        """
        with self._changing:
            self._store.check_writable()
            self._store.catalog.create_filter_index(field)

    # -- asking it -----------------------------------------------------------------------

    def search(
        self,
        image: ImageLike,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
    ) -> Hits:
        """Find the pictures most like one.

        Parameters
        ----------
        image : ImageLike
            Path, bytes, file object, uint8 RGB array or PIL image.
        k : int
            Hits wanted, at least 1; more than there are gives all there are.
        where : mapping, optional
            Only items that pass this filter are found, such as ``{"label": "rose", "year":
            {"$gte": 2020}}``: never fewer than ``k`` while that many pass. Fields are
            ``key``, ``label``, ``path`` and those of the metadata, where dots descend;
            operators ``$eq $ne $gt $gte $lt $lte $in $nin $exists $contains $and $or $not``.
        threshold : float, optional
            Hits of a lower score are left out.

        Returns
        -------
        Hits

        Raises
        ------
        ImageError
            The picture cannot be read.
        EmptyGalleryError
            There is nothing to find.
        InvalidInputError
            The filter has an unknown operator, or a field that no item has.
        """
        return self.search_many([image], k, where=where, threshold=threshold)[0]

    def search_many(
        self,
        images: Iterable[ImageLike],
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        threads: int | None = None,
    ) -> list[Hits]:
        """Find the pictures most like each of some.

        Takes and raises what `search` does, for several at once.

        Returns
        -------
        list of Hits
            In the order of the pictures.
        """
        if isinstance(images, (str, bytes, os.PathLike)):
            raise InvalidInputError(
                "images: expected a list of pictures, found one; search() takes a single one"
            )
        queries = list(images)
        k = check_count(k, "k")
        self._require_items()
        if where is not None:
            self._store.catalog.check_where(where)  # before any picture is read
        hits = self._search(self.embed(queries, threads=threads), k, threshold, queries, where)
        self._settle()
        return hits

    def classify(self, image: ImageLike, k: int = 10, *, threshold: float | None = None) -> Name:
        """Tell the name of what a picture shows, or that it is unknown.

        The nearest items vote for their labels, the more alike the heavier. How far a vote is
        to be trusted is learned from the gallery, each item asked without itself; that is
        done by the first call, and again when the gallery has changed.

        Parameters
        ----------
        image : ImageLike
        k : int
            Items that vote.
        threshold : float, optional
            Confidence below which the label is None; by default learned as well.

        Returns
        -------
        Name

        Raises
        ------
        InvalidInputError
            The gallery has too few labels.
        ImageError, EmptyGalleryError
            As for `search`.
        """
        return self.classify_many([image], k, threshold=threshold)[0]

    def classify_many(
        self,
        images: Iterable[ImageLike],
        k: int = 10,
        *,
        threshold: float | None = None,
        threads: int | None = None,
    ) -> list[Name]:
        """Name each of some pictures: see `classify`."""
        if threshold is not None and not 0 <= threshold <= 1:
            raise InvalidInputError(
                f"threshold: expected a confidence between 0 and 1, found {threshold!r}"
            )
        namer = self._name_by(check_count(k, "k"))
        found = self.search_many(images, k, threads=threads)
        return [namer.name(hits, threshold) for hits in found]

    def search_vectors(
        self,
        vectors: Any,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
    ) -> list[Hits]:
        """Find the items nearest to embeddings.

        Parameters
        ----------
        vectors : array of shape (n, dim)
            As the gallery's embedder makes them.
        k, where, threshold
            As for `search`.

        Returns
        -------
        list of Hits
            One a vector. Keys and labels are looked up when first asked for, and show what
            was in the gallery at the time of the search.
        """
        k = check_count(k, "k")
        self._require_items()
        return self._search(vectors, k, threshold, None, where)

    def embed(self, images: Sequence[ImageLike], *, threads: int | None = None) -> Embeddings:
        """Crop and embed pictures as the gallery does, adding nothing.

        Returns
        -------
        float32 array of shape (n, dim)

        Raises
        ------
        ImageError
            One of them cannot be read.
        """
        sources = [Source(str(n), image, path_of(image)) for n, image in enumerate(images)]
        embeddings = np.empty((len(sources), self._embedder.dim), dtype=np.float32)
        done = 0
        for outcomes in embed_sources(sources, self._embedder, self._cropper, threads=threads):
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                embeddings[done] = outcome.embedding
                done += 1
        return embeddings

    def evaluate(
        self,
        queries: Queries | None = None,
        labels: QueryLabels | None = None,
        *,
        k: Sequence[int] = (1, 5, 10),
        near_identical: float = 0.98,
        n_resamples: int = 1000,
        seed: int = 0,
        threads: int | None = None,
        progress: bool | None = False,
    ) -> Report:
        """Measure how well labelled queries find the items of their class.

        Without queries every labelled item is asked for the others (leave-one-out), by its
        stored embedding: no picture is read. An item that is the query itself, by its path
        or by the sha256 of its file, is left out of that query's ranking. A query that
        cannot be read, or that has nothing to find, counts as 0 and is told. The gallery
        cannot be changed meanwhile.

        Parameters
        ----------
        queries : path or iterable of ImageLike, optional
            A folder, searched through, or pictures.
        labels : sequence of str, "parent", callable or mapping
            The class of each query: one a picture; the name of the folder it lies in (the
            default for a folder); what a callable says of its path; looked up by its name.
        k : sequence of int
            Ranks to measure at.
        near_identical : float
            Cosine of two embeddings from which a query and its best hit are called
            near-identical, if that hit is also at least four times as close as the tenth. The
            default was chosen with the embedder ``"general"``.
        n_resamples, seed : int
            Of the bootstrap behind the confidence intervals.
        threads : int, optional
            By default one for each core.
        progress : bool, optional
            As for `add`.

        Returns
        -------
        Report

        Raises
        ------
        InvalidInputError
            A label is missing, there is another number of labels than of queries, there is
            no query, or no item has a label.
        EmptyGalleryError
            There is nothing to find.
        """
        with self._changing:
            self._require_items()
            return evaluate(
                self._store,
                self._searcher.search,
                self._searcher.sync(),
                self._embedder,
                self._cropper,
                projection=self._searcher.projection,
                queries=queries,
                labels=labels,
                k=k,
                near_identical=near_identical,
                n_resamples=n_resamples,
                seed=seed,
                threads=threads,
                progress=progress,
            )

    def recall(self, k: int = 10, *, n_queries: int = 500, seed: int = 0) -> Recall:
        """Measure how many of the true nearest neighbours the index finds.

        Some items, drawn at random, are asked for their ``k`` nearest others, by the index and by
        an exact search of the kept embeddings. Of items that are equally near any will do.

        Parameters
        ----------
        k : int
            Fewer than there are items.
        n_queries : int
            Items that are asked for others; all of them where there are fewer.
        seed : int
            Of the draw, and of the bootstrap behind the interval.

        Returns
        -------
        Recall
            ``value`` is 1 for an exact index, but for what rounding decides.

        Raises
        ------
        InvalidInputError
            A number is out of its range.
        EmptyGalleryError
            There are no items.
        """
        with self._changing:
            self._require_items()
            index, projection = self._searcher.sync(), self._searcher.projection
            return measure_recall(
                self._store,
                self._searcher.search,
                (lambda vectors: vectors) if projection is None else projection.apply,
                k=k,
                n_queries=n_queries,
                seed=seed,
                metric=self._store.manifest.metric,
                index=index.name or type(index).__name__,
            )

    def crop_report(
        self,
        cropper: str | Cropper | None = None,
        *,
        n_worst: int = 24,
        threads: int | None = None,
    ) -> CropReport:
        """Measure what cropping does to retrieval, on the gallery's labelled pictures.

        Each picture is read again and embedded whole and cropped. Every one is then asked for the
        others: among whole pictures, among crops, and among the means of both embeddings
        (`imgret.embedders.TwoViewEmbedder`). The gallery stays as it is, and its projection is
        left out of account.

        Parameters
        ----------
        cropper : str or Cropper, optional
            By default the gallery's, or ``"saliency"`` where that crops nothing.
        n_worst : int
            Of the crops that cost most, how many the report's page shows.
        threads : int, optional
            By default one for each core.

        Returns
        -------
        CropReport

        Raises
        ------
        InvalidInputError
            No item with a label comes from a file.
        EmptyGalleryError
            There are no items.
        """
        check_count(n_worst, "n_worst")
        if cropper is None:
            cropper = self._cropper if self._cropper.crops else "saliency"
        with self._changing:
            self._require_items()
            return report_crops(
                self._store,
                self._embedder,
                find_cropper(cropper),
                search_in=self._beside,
                n_worst=n_worst,
                threads=threads,
            )

    def keep_whole(self, keys: str | Iterable[str], *, threads: int | None = None) -> IngestReport:
        """Embed some items anew without cropping, such as those of `CropReport.wrong`.

        Parameters
        ----------
        keys : str or iterable of str
            Of items that come from files.
        threads : int, optional
            By default one for each core.

        Returns
        -------
        IngestReport
            An item whose picture cannot be read is reported as failed, and stays as it is.

        Raises
        ------
        KeyNotFoundError
            Naming the key the gallery does not hold; nothing is changed.
        InvalidInputError
            An item does not come from a file; nothing is changed.
        """
        names = [keys] if isinstance(keys, str) else list(dict.fromkeys(keys))
        with self._changing:
            self._store.check_writable()
            ids = self._store.catalog.require(names)
            items = self._store.catalog.items(ids)
            if lost := [items[id_].key for id_ in ids if items[id_].path is None]:
                raise InvalidInputError(
                    f"keys: expected items that come from files, found {lost[0]!r}"
                    f"{f' and {len(lost) - 1} more' if len(lost) > 1 else ''}, which do not"
                )
            sources = []
            for id_ in ids:
                # Without size, time and hash the picture counts as changed.
                item = replace(items[id_], size=None, mtime_ns=None, sha256=None)
                path = Path(str(item.path))
                known = Known(id_, item)
                sources.append(Source(item.key, path, path, item.label, item.metadata, known))
            return self._ingest(sources, cropper=NoCrop(), threads=threads, progress=False)

    # -- inside --------------------------------------------------------------------------

    def _beside(self, vectors: Embeddings, keys: list[str], labels: list[str]) -> Report:
        """Evaluate embeddings in a gallery of their own, leave one out."""
        beside = type(self)(embedder=self._embedder, metric=self.metric, dtype="float32")
        beside.add_vectors(vectors, keys=keys, labels=labels)
        return beside.evaluate(k=(1, 5))

    def _require_items(self) -> None:
        self._store.check_open()
        if not len(self._store.catalog):
            raise EmptyGalleryError(
                "search: expected a gallery with items, found an empty one; add pictures first"
            )

    def _name_by(self, k: int) -> Namer:
        """Return what names, learned from the gallery as it is now."""
        self._require_items()
        with self._changing:
            index = self._searcher.sync()
            # An index that was built anew is another object: a projection, too, changes it.
            basis = (self._store.catalog.version, index, k)
            if self._namer is None or self._namer[0] != basis:
                learned = Namer.learn(
                    self._store, self._searcher.search, self._searcher.projection, k
                )
                self._namer = basis, learned
            return self._namer[1]

    def _search(
        self,
        vectors: Any,
        k: int,
        threshold: float | None,
        queries: Sequence[ImageLike] | None,
        where: Mapping[str, Any] | None = None,
    ) -> list[Hits]:
        neighbors = self._searcher.search(vectors, k, where)
        batch, hits = make_hits(
            neighbors,
            self._store.manifest.metric,
            self._store.catalog,
            queries=queries if queries is not None else [None] * len(neighbors.ids),
            threshold=threshold,
        )
        self._unresolved.add(batch)
        return hits

    def _settle(self) -> None:
        """Look up what earlier searches found, before it changes."""
        for batch in list(self._unresolved):
            batch.resolve()
        self._unresolved.clear()

    def _ingest(
        self,
        sources: Sequence[Source],
        *,
        exif: bool = False,
        cropper: Cropper | None = None,
        duplicates: Literal["add", "skip"] = "add",
        threads: int | None = None,
        progress: bool | None = None,
        raise_failures: bool = False,
        vanished: Mapping[int, Item] | None = None,
        prune: bool = False,
    ) -> IngestReport:
        if duplicates not in {"add", "skip"}:
            raise InvalidInputError(f"duplicates: expected 'add' or 'skip', found {duplicates!r}")
        if threads is not None:
            check_count(threads, "threads")
        report = IngestReport()
        started = time.perf_counter()
        writer = Writer(
            self._store, report, skip_duplicates=duplicates == "skip", vanished=vanished
        )
        # An item of the same bytes lends its embedding, unless that was cropped otherwise.
        lends = cropper is None and len(self._store.catalog) > 0
        find_twin = self._find_twin if lends else None
        bar = tqdm(
            total=len(sources),
            unit="img",
            desc="indexing",
            disable=None if progress is None else not progress,
            dynamic_ncols=True,
        )
        self._settle()
        with bar:
            try:
                for outcomes in embed_sources(
                    sources,
                    self._embedder,
                    self._cropper if cropper is None else cropper,
                    find_twin=find_twin,
                    refuse=self._store.refusals,
                    exif=exif,
                    threads=threads,
                    on_stage=report.add_stage,
                ):
                    if raise_failures and outcomes[0].error is not None:
                        raise outcomes[0].error
                    writer.take(outcomes)
                    self._searcher.follow()
                    bar.update(len(outcomes))
            except KeyboardInterrupt:
                writer.commit()
                report.seconds = time.perf_counter() - started
                raise IngestInterrupted(report) from None
            finally:
                writer.commit()  # what is embedded is kept, whatever happens
        if prune and writer.vanished:
            self._store.remove(list(writer.vanished))
        what = "its file is gone" + ("; removed" if prune else "; prune=True removes it")
        report.record(
            Line("vanished", item.key, item.path, what) for item in writer.vanished.values()
        )
        self._sync_after_adding()
        report.seconds = time.perf_counter() - started
        return report

    def _find_twin(self, sha256: bytes) -> int | None:
        found = self._store.catalog.by_sha256(sha256)
        return None if found is None else found[0]

    def _sync_after_adding(self) -> None:
        try:
            self._searcher.sync()
        except ImgretError as error:  # an index that needs more items to be trained
            warnings.warn(
                f"the items are stored, but cannot be searched yet: {error}", stacklevel=3
            )
