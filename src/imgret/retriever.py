"""The facade: images in, hits out. Each method documents and delegates."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np

from imgret import registry
from imgret.abc import Cropper, Embedder, Gallery, VectorIndex
from imgret.croppers import NoCrop
from imgret.errors import (
    DuplicateKeyError,
    EmptyGalleryError,
    InvalidInputError,
    StoreCorruptError,
    StoreExistsError,
    StoreNotFoundError,
    UnsupportedError,
)
from imgret.filters import parse_filter
from imgret.galleries.local import LocalGallery
from imgret.images import MAX_PIXELS, load
from imgret.indexes.make import EmbedderLike, find_cropper, find_embedder
from imgret.ingest import (
    IngestReport,
    Labels,
    Metadata,
    ingest,
    ingest_folder,
    ingest_from,
    list_sources,
    need_new,
    one_each,
    vector_items,
)
from imgret.ingest.again import ingest_all, items_to_reembed, update_item, whole_sources
from imgret.ingest.progress import Progress
from imgret.pipeline.attach import PartLocations, attach
from imgret.pipeline.compatible import new_spec, same_cropper
from imgret.pipeline.pipeline import Late, Pipeline, Runs
from imgret.projections import LinearProjection, fit_pca
from imgret.rerank.expansion import check_alpha
from imgret.rerank.named import Rerank, find_rerankers
from imgret.search import SearchPlan, StaleViewError, View
from imgret.search.augment import augmented_embeddings
from imgret.search.hits import Batch, Hits, HitsList
from imgret.search.query import (
    Request,
    answer,
    check_box,
    check_weights,
    cut,
    query_vector,
    several,
)
from imgret.support.checks import check_count, check_number, check_seed, check_vectors
from imgret.support.given import (
    TEMPLATE,
    is_frame,
    label_or_none,
    many_images,
    one_image,
    one_or_many_images,
    one_text,
    plain_filter,
    plain_metadata,
    texts,
    threshold_or_none,
)
from imgret.support.lazy import LazyModule
from imgret.support.tables import data_frame
from imgret.types import Box, Dtype, Embeddings, Hit, ImageLike, Item, Json, Metric

if TYPE_CHECKING:
    import pandas as pd

    from imgret import curation, evaluation, explain, learning, transfer
    from imgret.curation import (
        Clusters,
        Copies,
        DuplicateGroup,
        Duplicates,
        LabelIssues,
        Map2D,
        Moved,
        NeighborGraph,
        Outliers,
    )
    from imgret.curation.map2d import Method
    from imgret.evaluation import CropReport, Recall, Report, Tuning
    from imgret.evaluation.queries import Queries, QueryLabels
    from imgret.explain import Explanation
    from imgret.galleries.report import CheckReport
    from imgret.learning import AdaptReport, CalibrationReport, Classifier, Name, ScoreCalibration
    from imgret.transfer import CopyReport
else:  # a search needs none of them
    curation, evaluation = LazyModule("imgret.curation"), LazyModule("imgret.evaluation")
    explain, learning = LazyModule("imgret.explain"), LazyModule("imgret.learning")
    transfer = LazyModule("imgret.transfer")

__all__ = ["Retriever"]

Mode: TypeAlias = Literal["r", "r+", "a"]

_KEEP: Any = object()
# Weight of the negatives' mean, where the query's mean has weight 1. Best of 0.1 to 1 on Oxford 102
# Flowers, with the first three wrong hits as negatives.
NEGATIVE_WEIGHT = 0.25


class Retriever:
    """A gallery of images that is searched by image.

    ``Retriever()`` keeps the gallery in memory. `save` writes it to disk, `load` reads it back
    into memory, and `open` works on it in place on disk.

    Parameters
    ----------
    embedder : str or Embedder
        A registered name such as ``"general"``, the path of an ONNX bundle, or an object.
    cropper : str or Cropper
        ``"none"``, ``"center"``, ``"spectral"``, the path of a saliency bundle, or an
        object. Queries are cropped by the same rule as the gallery.
    index : str or VectorIndex
        ``"flat"`` (exact), ``"ivf-pq"``, ``"hnsw-sq8"``, ``"hnsw"``, ``"ivf"``,
        ``"faiss:<factory string>"``, ``"auto"``, another registered name, or an empty index
        object.
    metric : {"cosine", "ip", "l2"}
        Scores are higher-is-better for all three.
    dtype : {"float16", "float32"}
        Type in which embeddings are stored. The stored values are indexed and scored.
    max_pixels : int
        Maximum number of pixels of an image, both for queries and for images that are added.
        Larger images are refused, since decoding takes 3 bytes a pixel in each thread. Only
        pixels that will be decoded count. A large JPEG is decoded at the reduced scale that the
        embedder needs, so photos of 200 megapixels are accepted, unless they are progressive.
        The limit is not stored with the gallery.

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
        embedder: EmbedderLike = "general",
        cropper: str | os.PathLike[str] | Cropper = "none",
        index: str | VectorIndex = "flat",
        metric: Metric = "cosine",
        dtype: Dtype = "float16",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        embedder, cropper = find_embedder(embedder), find_cropper(cropper)
        spec, prepared = new_spec(embedder, cropper, index, metric, dtype)
        pipeline = Pipeline(Late(embedder), Late(cropper), max_pixels=max_pixels)
        gallery = LocalGallery.in_memory(spec, prepared)
        self._compose(gallery, pipeline, PartLocations(gallery))

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        mode: Mode = "r",
        *,
        embedder: EmbedderLike | None = None,
        cropper: str | os.PathLike[str] | Cropper | None = None,
        index: str | VectorIndex | None = None,
        metric: Metric | None = None,
        dtype: Dtype | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """Open a gallery on disk and work on it in place.

        This takes milliseconds, for ten items as for ten million. Items and embeddings are read
        from disk when needed, and the first search reads or builds the index; access `index` to
        do that earlier. A model is loaded when the first image is embedded. Methods that embed
        no image, such as `remove`, `search_key` and `duplicates`, do not load it. `open` already
        compares the model file with the gallery's fingerprint.

        Parameters
        ----------
        path : path or str
            Directory of the gallery, by convention ``NAME.imgret``; or its URI, such as
            ``"postgresql://host/database"``, which needs the extra ``postgres``.
        mode : {"r", "r+", "a"}
            ``"r"`` reads, ``"r+"`` reads and writes an existing gallery, and ``"a"`` also
            creates a missing one. Many processes may read while one writes. A gallery opened for
            writing belongs to this process: in a forked child every change raises
            `StoreForkedError`, and reads see the gallery as it was at the fork.
        embedder, cropper, index, metric, dtype
            As for `Retriever`. An existing gallery stores its own values, and any argument must
            agree with them. Model files are compared by fingerprint: if a file was moved, give
            its new path. A gallery opened for writing stores that path.
        max_pixels : int
            As for `Retriever`; not stored with the gallery.

        Raises
        ------
        StoreNotFoundError, StoreVersionError, StoreCorruptError
            There is no gallery at the path, it has a newer format, or it is damaged. Damage to
            vectors or to the index is noticed when they are read.
        StoreLockedError, StoreReadOnlyError
            Write access was requested but is not possible.
        StoreMismatchError
            The gallery was made with another embedder, cropper, index or metric, or its model
            file was replaced.
        """
        uri = os.fspath(path)
        kind = registry.gallery(uri)
        if mode not in {"r", "r+", "a"}:
            raise InvalidInputError(f"mode: expected 'r', 'r+' or 'a', found {mode!r}")
        max_pixels = check_count(max_pixels, "max_pixels")
        while True:  # with mode "a", other processes may create and delete an empty gallery here
            try:
                if mode == "a" and not kind.is_taken(uri):
                    given = (embedder or "general", cropper or "none", index or "flat")
                    embeds, crops = find_embedder(given[0]), find_cropper(given[1])
                    spec, prepared = new_spec(
                        embeds, crops, given[2], metric or "cosine", dtype or "float16"
                    )
                    with suppress(StoreExistsError):
                        gallery = kind.create(uri, spec, prepared)
                        pipeline = Pipeline(Late(embeds), Late(crops), max_pixels=max_pixels)
                        return cls._of(gallery, pipeline, PartLocations(gallery))
                gallery = kind.open(uri, writable=mode != "r")
                break
            except StoreNotFoundError:
                if mode != "a" or kind.is_taken(uri):
                    raise
        parts = {"index": index, "metric": metric, "dtype": dtype}
        found = attach(gallery, gallery.name, embedder, cropper, max_pixels=max_pixels, **parts)
        return cls._of(gallery, *found)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: EmbedderLike | None = None,
        cropper: str | os.PathLike[str] | Cropper | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """Read a gallery into memory, check every vector, and close the files.

        Parameters and errors are those of `open`.
        """
        max_pixels = check_count(max_pixels, "max_pixels")
        path = Path(path)
        gallery = LocalGallery.load(path)
        return cls._of(
            gallery,
            *attach(gallery, str(path.absolute()), embedder, cropper, max_pixels=max_pixels),
        )

    @classmethod
    def reembed(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: EmbedderLike = "general",
        cropper: str | os.PathLike[str] | Cropper | None = None,
        progress: Progress = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """Build a new gallery from the images of an existing one, with another embedder.

        Keys, labels and metadata are copied. The existing gallery is not changed, and its
        embedder is not needed. The result is in memory; write it with `save`.

        Parameters
        ----------
        path : path
            Path of the existing gallery.
        embedder, cropper
            As for `Retriever`. The default cropper is that of the existing gallery.
        progress : bool, optional
            As for `add_folder`.
        max_pixels : int
            As for `Retriever`.

        Raises
        ------
        InvalidInputError
            An image file is missing, or an image never came from a file. No gallery is made.
        """
        uri = os.fspath(path)
        with closing(registry.gallery(uri).open(uri, writable=False)) as other:
            spec, items = other.spec, items_to_reembed(other)
        if cropper is None:
            cropper = same_cropper(spec, other.name, None).made
        made = cls(
            embedder=embedder,
            cropper=cropper,
            metric=spec.metric,
            dtype=spec.dtype,
            max_pixels=max_pixels,
        )
        with made._gallery.changing():
            ingest_all(made._gallery, made._pipeline, items, other.name, progress=progress)
        made.reindex(spec.index.name, **spec.index.config)
        return made

    @staticmethod
    def copy(
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        index: str | None = None,
        progress: Progress = None,
    ) -> CopyReport:
        """Copy a gallery to another place, also from a directory to a server and back.

        Items, embeddings and the description of the gallery are sent in pieces, in their order,
        and compared one by one at the end; no image is read and no model is loaded. After an
        interruption, call it again: what the target has already is compared and not sent again.
        The same call brings items that were added to the source since. A new directory appears
        when it is complete.

        Parameters
        ----------
        source, target : path or URI
            Directories, or URIs such as ``postgresql://host/photos``. The target does not exist,
            or holds the first items of the source and nothing else.
        index : str, optional
            Index of a new target. By default that of the source; of another kind of gallery,
            ``"flat"`` for an exact one and otherwise ``"hnsw"`` on a server.
        progress : bool or callable, optional
            As for `add_folder`; called while items are sent, and again while they are compared.

        Returns
        -------
        CopyReport
            Its ``notes`` say what the target cannot have, such as a projection on a server.

        Raises
        ------
        StoreNotFoundError, StoreVersionError, StoreCorruptError
            There is no gallery at ``source``, it has a newer format, or it is damaged.
        StoreMismatchError
            The target is a gallery of another embedder, cropper, metric or dtype.
        StoreExistsError
            The target has other items; nothing is copied.
        StoreError
            The target cannot be written, or differs from the source at the end.
        """
        return transfer.copy_gallery(
            os.fspath(source), os.fspath(target), index=index, progress=progress
        )

    @classmethod
    def from_parquet(
        cls,
        path: str | os.PathLike[str],
        *,
        output: str | os.PathLike[str] | None = None,
        embedder: EmbedderLike | None = None,
        cropper: str | os.PathLike[str] | Cropper | None = None,
        metric: Metric | None = None,
        dtype: Dtype | None = None,
        key_column: str | None = None,
        vector_column: str | None = None,
        progress: Progress = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """Make a gallery from a file that `to_parquet` or ``imgret export`` wrote.

        It has the same items, embeddings and projection, and answers alike. No image is read. The
        ``.npz`` files of ``imgret export`` are read as well, and so are tables of other programs
        that have a column of keys and one of vectors. Other columns become metadata.

        Parameters
        ----------
        path : path
            ``.parquet`` or ``.npz`` file.
        output : path, optional
            Directory of the gallery, which is then opened for writing. By default the gallery is
            in memory. A gallery that exists gets the items that it does not have.
        embedder, cropper, metric, dtype
            As for `Retriever`. A file of imgret has its own values, with which any argument must
            agree. A table of another program needs the embedder that made its vectors.
        key_column, vector_column : str, optional
            Columns of keys and vectors in a table of another program. By default ``key``, ``id``,
            ``image_path`` and the like, and ``vector``, ``embedding`` or the only column of
            lists of numbers.
        progress : bool or callable, optional
            As for `add_folder`.
        max_pixels : int
            As for `Retriever`.

        Returns
        -------
        Retriever

        Raises
        ------
        InvalidInputError
            The file is damaged, has no such columns, or does not say which embedder it needs.
        DimensionError, StoreMismatchError
            The vectors are of another dimension or another embedder than asked for, or than those
            of the gallery at ``output``.
        DuplicateKeyError
            A key occurs twice, or the gallery at ``output`` has other contents under it.
        MissingExtraError
            PyArrow is not installed.
        """
        max_pixels = check_count(max_pixels, "max_pixels")
        given: dict[str, Any] = {
            "key": key_column,
            "vector": vector_column,
            "embedder": embedder,
            "cropper": cropper,
            "metric": metric,
            "dtype": dtype,
            "progress": progress,
        }
        if output is not None:
            transfer.import_items(path, os.fspath(output), **given)
            return cls.open(output, "r+", embedder=embedder, cropper=cropper, max_pixels=max_pixels)
        gallery = transfer.load_items(path, **given)
        home = str(Path(path).absolute().parent)
        return cls._of(gallery, *attach(gallery, home, embedder, cropper, max_pixels=max_pixels))

    def to_parquet(
        self,
        path: str | os.PathLike[str],
        *,
        where: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        progress: Progress = None,
    ) -> int:
        """Write keys, paths, labels, boxes, metadata and embeddings to a Parquet file.

        The file also describes the gallery, so that `from_parquet` can make it again. Items are
        read and written in pieces, and the file appears when it is complete. The columns are in
        :doc:`/how-to/data-in-and-out`.

        Parameters
        ----------
        path : path
            File to write; its name ends in ``.parquet``. With ``.npz`` or ``.csv`` at the end, it
            is written in that format; CSV has no embeddings.
        where : mapping, optional
            Filter that items must match: see `search`.
        overwrite : bool
            Whether an existing file is replaced.
        progress : bool or callable, optional
            As for `add_folder`.

        Returns
        -------
        int
            Number of items.

        Raises
        ------
        StoreExistsError
            The file exists.
        StoreError
            The file cannot be written; nothing is left of it.
        MissingExtraError
            PyArrow is not installed.
        """
        with self._gallery.locked():
            view = transfer.all_items(self._gallery, where)
            header = transfer.GalleryHeader.of(self._gallery)
            return transfer.export_items(view, header, path, overwrite=overwrite, progress=progress)

    def to_pandas(self, where: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return a data frame with one row per item, in the order they were added.

        Its columns are ``key``, ``label``, ``path``, ``box`` (a tuple), ``size`` in bytes,
        ``modified`` (UTC) and ``metadata`` (a dict; ``pandas.json_normalize`` makes columns of
        it). `embeddings` returns the vectors of ``frame["key"]``.

        Parameters
        ----------
        where : mapping, optional
            Filter that items must match: see `search`.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        with self._gallery.locked():
            rows = [
                (
                    item.key,
                    item.label,
                    item.path,
                    None if item.box is None else tuple(item.box),
                    item.size,
                    item.mtime_ns,
                    dict(item.metadata),
                )
                for item in transfer.all_items(self._gallery, where).items()
            ]
        columns = ("key", "label", "path", "box", "size", "modified", "metadata")
        return data_frame(columns, rows, what="to_pandas", times=("modified",), counts=("size",))

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write the gallery. An existing one is replaced only once everything is written.

        Parameters
        ----------
        path : path, optional
            Directory that does not exist or is a gallery. For a gallery on disk the default is
            its own directory: that updates the stored index, since its items are on disk already.

        Raises
        ------
        InvalidInputError
            The gallery is in memory and no path was given.
        StoreError
            The disk is full, the path holds something other than a gallery, or a gallery that
            is open for writing. Existing files stay untouched.
        """
        with self._gallery.locked():
            self._places.keep()
            self._gallery.save(None if path is None else Path(path))

    def check(self, *, repair: bool = False) -> CheckReport:
        """Check every file of the gallery for damage, and repair it if asked to.

        Compared are the manifest and each row of the catalog and of the vectors with their
        checksums, the structure of the catalog, the projection with its fingerprint, the stored
        index with the vectors, and the thumbnails that `imgret serve` keeps.

        Parameters
        ----------
        repair : bool
            Whether to repair the damage. All sound items are kept; damaged ones are removed, and
            are listed in the report with what can be read of them. The gallery must be open for
            writing. If anything interrupts the repair, no sound item is lost.

        Returns
        -------
        CheckReport

        Raises
        ------
        StoreReadOnlyError
            A repair was requested, and the gallery is not open for writing.
        StoreCorruptError
            A repair was requested, and there is nothing that could be kept.
        UnsupportedError
            The gallery is in memory, or stored by a server.
        """
        return self._gallery.check(repair=repair)

    def compact(self) -> int:
        """Delete what is left of removed items, and give the space back to the disk.

        The row and the embedding of a removed or replaced item stay in the files until then, or
        until more than half of all rows, and at least 1,000, are of such items: a change, `save`
        and `close` then do the same by themselves. The remaining items are written into a new
        directory that takes the place of the old one. Processes that have the gallery open keep
        seeing the old files; views taken before can be looked at, but not searched.

        Returns
        -------
        int
            Number of removed items whose data were deleted.

        Raises
        ------
        StoreReadOnlyError
            The gallery is not open for writing.
        StoreCorruptError
            An item is damaged; nothing is changed. See `check`.
        UnsupportedError
            The gallery is stored by a server.
        """
        return self._gallery.compact()

    def close(self) -> None:
        """Update the stored index and close the files; closing twice is fine.

        Earlier hits stay valid. In a forked child nothing is written.
        """
        with self._gallery.locked():
            try:
                self._places.keep()
            finally:
                self._gallery.close()

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Any, ...]]:
        """Pickle a gallery that was opened for reading: it is opened again from its path.

        So a pool of processes, or the workers of a ``DataLoader``, can be given one. Each sees what
        is in the gallery when it opens it.

        Raises
        ------
        UnsupportedError
            The gallery is in memory, on a server, or opened for writing.
        """
        again = partial(type(self).open, **self._places.to_open(self._pipeline))
        return again, (self._gallery.path,)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @classmethod
    def _of(cls, gallery: Gallery, pipeline: Pipeline, places: PartLocations) -> Self:
        self = cls.__new__(cls)
        self._compose(gallery, pipeline, places)
        return self

    def _compose(self, gallery: Gallery, pipeline: Pipeline, places: PartLocations) -> None:
        self._gallery, self._pipeline, self._places = gallery, pipeline, places
        self._classifier: tuple[object, Classifier] | None = None  # keyed by version and k
        self._parsed: dict[str, tuple[Json, ScoreCalibration]] = {}  # JSON and its parsed form

    # -- what is in it -------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._gallery)

    def __contains__(self, key: object) -> bool:
        return key in self._gallery

    def __iter__(self) -> Iterator[str]:
        """Keys, in the order they were added."""
        return iter(self._gallery)

    def __getitem__(self, key: str) -> Item:
        """Return the item of this key: path, box, label, metadata.

        Raises
        ------
        KeyNotFoundError
        """
        return self._gallery.get([one_text(key, "key")])[0]

    def embeddings(self, keys: str | Iterable[str] | None = None) -> Embeddings:
        """Return the stored embeddings of some items, by default of all, in order.

        Parameters
        ----------
        keys : str or iterable of str, optional
            Keys of the items; a str is a single key.

        Returns
        -------
        float32 array of shape (n, dim)
            The embedder's output, rounded to the gallery's dtype. For metric ``"cosine"``,
            embeddings whose values are too small for float16 are scaled to length 1.
        """
        return self._gallery.embeddings(None if keys is None else texts(keys, "keys"))

    def view(self, where: Mapping[str, Any] | None = None) -> View:
        """Return a read-only view of the gallery as it is now, with items, vectors and searches.

        The functions of `imgret.curation`, `imgret.evaluation` and `imgret.learning` take a view,
        so they can also run on a part of the gallery:
        ``find_duplicates(retriever.view({"label": "rose"}), threshold=0.95)``. Take a new view
        after the gallery has changed.

        Parameters
        ----------
        where : mapping, optional
            Filter that the items of the view must match; see `search`.

        Returns
        -------
        View
        """
        parsed = None if where is None else parse_filter(plain_filter(where))
        self._gallery.require_items()
        if parsed is not None:
            self._gallery.check_where(parsed)
        return self._gallery.view(parsed)

    @property
    def embedder(self) -> Embedder:
        """The embedder, which turns images into vectors; loaded when first needed.

        Raises
        ------
        ModelError
            The model file is not found; pass its path to `open` or `load` as ``embedder=``.
        StoreMismatchError
            The file holds another model.
        """
        return self._pipeline.embedder

    @property
    def cropper(self) -> Cropper:
        """The cropper, which crops images to their subject; loads and raises like `embedder`."""
        return self._pipeline.cropper

    @property
    def index(self) -> VectorIndex:
        """The index, brought up to date with the gallery."""
        return self._gallery.index

    @property
    def index_reason(self) -> str | None:
        """Reason for the choice of ``index="auto"``; None for an index chosen by name."""
        return self._gallery.index_reason

    @property
    def projection(self) -> LinearProjection | None:
        """The map from embedding to indexed vector; None where they are the same."""
        return self._gallery.projection

    @property
    def metric(self) -> Metric:
        """``"cosine"``, ``"ip"`` or ``"l2"``."""
        return self._gallery.spec.metric

    @property
    def calibration(self) -> ScoreCalibration | None:
        """The mapping from scores to probabilities; None without one for the current scores.

        `adapt` and `project` change the scores: call `calibrate` again after them.
        """
        return self._calibration("images", self._gallery.spec.calibration)

    @property
    def text_calibration(self) -> ScoreCalibration | None:
        """The same for scores of texts with images: see `calibrate_text`."""
        return self._calibration("texts", self._gallery.spec.text_calibration)

    def _calibration(self, queries: str, content: Json | None) -> ScoreCalibration | None:
        if content is None:
            return None
        if queries not in self._parsed or self._parsed[queries][0] is not content:
            try:
                self._parsed[queries] = content, learning.ScoreCalibration.from_json(content)
            except StoreCorruptError as error:
                raise StoreCorruptError(f"{self._gallery.name}: {error}") from error
        found = self._parsed[queries][1]
        fits = (found.metric, found.projection) == (self.metric, self._fingerprint)
        return found if fits else None

    @property
    def path(self) -> Path | None:
        """Directory of the gallery; None for one in memory or on a server."""
        return self._gallery.path

    @property
    def name(self) -> str:
        """Name of the gallery in messages: its path, or its URI without a password."""
        return self._gallery.name

    @property
    def version(self) -> Hashable:
        """A value that is another one after every change to search results, by any process."""
        self._gallery.check_open()
        return self._gallery.version

    def __repr__(self) -> str:
        return f"<Retriever {self._gallery!r}>"

    # -- adding, changing, removing ------------------------------------------------------------

    def add(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        keys: str | Iterable[str] | None = None,
        labels: str | Iterable[str | None] | None = None,
        metadata: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
        exif: bool = False,
        duplicates: Literal["add", "skip"] = "add",
        threads: int | None = None,
        progress: Progress = False,
    ) -> IngestReport:
        """Add images.

        Parameters
        ----------
        images : ImageLike or iterable of ImageLike
            Paths, bytes, file objects, uint8 RGB arrays or PIL images: one, or a list, tuple,
            generator, pandas Series or array of shape (n, H, W, 3) of them.
        keys : str or sequence of str, optional
            Keys of the new items. The default is the path for files, and ``image-000001`` and so
            on for other images.
        labels, metadata : optional
            One value per image. A label is a class name, and NaN counts as None; metadata is a
            mapping of JSON values, and a data frame has one row per image. A set is refused, as it
            has no order.
        exif : bool
            If true, date, camera and place are read from the EXIF block of files and bytes and
            stored in the metadata under ``exif``: see `imgret.images.exif_facts`.
        duplicates : {"add", "skip"}
            What to do with a file whose bytes are in the gallery already. It is reported in
            either case.
        threads : int, optional
            Number of threads, by default one for each core.
        progress : bool or callable, optional
            If true, a progress bar is drawn; if None, only in a notebook and when stderr is a
            terminal. A callable is called with the number of images done and of all.

        Returns
        -------
        IngestReport
            Images of a list that cannot be read are reported as failed. A single unreadable
            image raises instead.

        Raises
        ------
        DuplicateKeyError
            A key is given twice or is in the gallery already; nothing is added.
        InvalidInputError
            The number of keys, labels or metadata differs from the number of images.
        ImageError
            The only image cannot be read.
        """
        if is_frame(images):
            raise InvalidInputError(
                "images: expected images or paths, found a table; add_from() takes a table, with "
                "its labels and metadata, and add() takes one of its columns"
            )
        many, single = one_or_many_images(images, "images")
        n = len(many)
        with self._gallery.changing():
            sources = list_sources(
                many,
                one_each(keys, n, "keys", single=single),
                one_each(labels, n, "labels", single=single),
                one_each(metadata, n, "metadata", single=single),
                self._gallery,
            )
            return ingest(
                self._gallery,
                self._pipeline,
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
        prune: bool | Literal["all"] = False,
        exclude: str | Sequence[str] = (),
        duplicates: Literal["add", "skip"] = "add",
        threads: int | None = None,
        progress: Progress = None,
        on: str | None = None,
    ) -> IngestReport:
        """Add every image below a folder; adding the folder again picks up what has changed.

        An image that cannot be read is reported, and the others are still added. The key of an
        image is its path relative to the folder, with forward slashes. An unchanged file (same
        size and modification time, or same bytes) is skipped, and a changed one is embedded
        again. A new file with the bytes of a missing one counts as that file renamed. New labels
        are applied in all of these cases. After an interrupt, repeat the call to continue.

        Links in the path of the folder are resolved, so its spelling does not matter. After the
        folder has been moved, its items are found again by their keys. Links to folders below it
        are followed, and each folder is visited once. Hidden files and folders are skipped, and
        so are those which systems put beside images, such as ``@eaDir`` and ``__MACOSX``.

        Parameters
        ----------
        folder : path
            Folder to add.
        labels : "parent", callable, mapping or None
            Class names. ``"parent"`` takes the name of the folder that contains the image (no
            label for images at the top). A callable gets the path of the image, a mapping is
            looked up by its key (so is a pandas Series, by its index), and None sets no labels.
        metadata : callable, mapping, path or None
            Mappings of JSON values. A callable gets the path of the image, and a mapping is
            looked up by its key, a data frame by its index. A path is that of a ``.csv`` or
            ``.jsonl`` file with one row per image, which has its ``key`` or ``path`` (or ``file``)
            and may have its ``label``. New values are merged into existing metadata.
        exif : bool
            As for `add`.
        prefix : str
            Prefix of each key, to tell the images of two folders apart.
        prune : bool or "all"
            Whether items whose files are missing from the folder are removed. They are reported
            either way. An unmounted disk looks like an empty folder, so True removes nothing if
            more than half of the folder's items would go, and keeps the items of subfolders that
            exist but are empty. ``"all"`` removes those too.
        exclude : str or sequence of str
            Patterns of files and folders to skip, such as ``"raw"``, ``"*.png"`` or
            ``"2019/**/drafts"``. A pattern without a slash is compared with each name; one with
            a slash is compared with the path relative to the folder, and ``**`` stands for any
            folders. Items already in the gallery from such places stay as they are.
        duplicates, threads, progress
            As for `add`; by default a progress bar is drawn in a notebook, and if stderr is a
            terminal.
        on : str, optional
            Cluster that embeds the images: ``"ray"``, which is that of the variable
            ``RAY_ADDRESS`` or a new one, or an address such as ``"ray://host:10001"``. Needs the
            extra ``imgret[ray]``. Its machines read the files by the same paths and addresses, and
            have the model; this process writes the gallery. ``threads`` is then the number of
            workers.

        Returns
        -------
        IngestReport

        Raises
        ------
        ImageNotFoundError
            The folder does not exist.
        ClusterError
            The cluster cannot be reached, or was lost. What is committed stays.
        IngestInterrupted
            Ctrl-C was pressed. The error is a KeyboardInterrupt, and its ``report`` lists what
            was done.
        """
        with self._gallery.changing(), self._embedding(on) as pipeline:
            return ingest_folder(
                self._gallery,
                pipeline,
                folder,
                labels=labels,
                metadata=metadata,
                exif=exif,
                prefix=prefix,
                prune=prune,
                exclude=exclude,
                duplicates=duplicates,
                threads=threads,
                progress=progress,
            )

    def add_from(
        self,
        sources: Any,
        *,
        labels: Labels = None,
        metadata: Metadata = None,
        exif: bool = False,
        prefix: str | None = None,
        prune: bool | Literal["all"] = False,
        exclude: str | Sequence[str] = (),
        path_column: str | None = None,
        label_column: str | None = None,
        duplicates: Literal["add", "skip"] = "add",
        threads: int | None = None,
        progress: Progress = None,
        on: str | None = None,
    ) -> IngestReport:
        """Add images from folders, archives, files, addresses and tables; repeat it to update.

        Unchanged images are skipped, changed ones are embedded again, and an image that cannot be
        read is reported while the others are still added, as in `add_folder`. A file that the
        gallery holds already keeps its key, however it is named this time.

        =================== ==================================================================
        source              key of an image
        =================== ==================================================================
        a folder            path relative to the folder: ``2019/a.jpg``
        several folders     the same after the name of the folder: ``photos/2019/a.jpg``
        ``.zip``, ``.tar``, name of the archive and of the member: ``photos.zip/2019/a.jpg``
        ``.tar.gz``, ...
        an image file       path as given, without ``./``
        an address          the address; of ``s3://bucket/photos``:
                            ``s3://bucket/photos/2019/a.jpg``
        a table             column ``key`` if there is one, else the path as the table has it
        =================== ==================================================================

        Folders and archives of the same name are distinguished by the names above them
        (``2019/raw/a.jpg``), and each keeps the prefix that its images have in the gallery.

        Parameters
        ----------
        sources : path, address, data frame, or iterable of them
            A table is a ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file or a pandas data frame
            with one row per image. Its paths are relative to the folder of the file, or else to
            the current directory; columns other than path, key and label become metadata.
            Addresses (``s3://``, ``https://`` and others that fsspec knows) need the extra
            ``imgret[remote]``; they name an image, a folder or a pattern such as
            ``s3://bucket/2019/*.jpg``.
        labels, metadata, exif, exclude, duplicates, threads, progress, on
            As for `add_folder`. With ``labels="parent"`` also the images of lists and tables are
            labelled by their folder, unless a table has labels.
        prefix : str, optional
            Prefix of all keys, before those of the table above; with an address it replaces the
            address of the folder.
        prune : bool or "all"
            As for `add_folder`; also for archives and for folders at an address, but not for
            files and tables, which never say that they are complete.
        path_column, label_column : str, optional
            Columns of a table with the path of the image (by default ``path``, ``file``,
            ``filename``, ``file_name``, ``image_path``, ``image`` or ``url``) and with its label
            (``label``).

        Returns
        -------
        IngestReport
            A report on all sources together. Sources that do not exist are reported as failed,
            but the only source raises instead.

        Raises
        ------
        ImageNotFoundError
            The only source does not exist, or nothing is at an address: not even the service
            answers, or it refuses access.
        ImageCorruptError, ImageTooLargeError
            The only source is an archive that is damaged, or unpacks to far more than images do.
        InvalidInputError
            A table is malformed or lacks a column.
        MissingExtraError
            Addresses or Parquet files are given, and what reads them is not installed.
        IngestInterrupted
            As for `add_folder`.
        """
        with self._gallery.changing(), self._embedding(on) as pipeline:
            return ingest_from(
                self._gallery,
                pipeline,
                sources,
                labels=labels,
                metadata=metadata,
                exif=exif,
                prefix=prefix,
                prune=prune,
                exclude=exclude,
                path_column=path_column,
                label_column=label_column,
                duplicates=duplicates,
                threads=threads,
                progress=progress,
            )

    def _embedding(self, on: str | None) -> AbstractContextManager[Runs]:
        """Return where images are embedded: here, or on a cluster."""
        if on is None:
            return nullcontext(self._pipeline)
        from imgret.cluster import on_cluster  # noqa: PLC0415  # an extra

        return on_cluster(one_text(on, "on"), self._pipeline)

    def add_vectors(
        self,
        vectors: Any,
        *,
        keys: Iterable[str],
        labels: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
    ) -> None:
        """Add embeddings made elsewhere: all of them or, on any error, none.

        Parameters
        ----------
        vectors : array of shape (n, dim)
            Embeddings as the gallery's embedder would return them; also a data frame, or a
            generator or column of vectors.
        keys : iterable of str
            ``n`` new keys, in the order of the vectors.
        labels, metadata : optional
            One value per vector, as for `add`.
        """
        vectors = check_vectors(vectors, self._gallery.spec.dim, "vectors")
        n = len(vectors)
        with self._gallery.changing():
            items = vector_items(
                one_each(keys, n, "keys"),
                one_each(labels, n, "labels"),
                one_each(metadata, n, "metadata"),
                self._gallery,
            )
            try:
                self._gallery.add(items, vectors)
            except DuplicateKeyError:
                need_new([item.key for item in items], self._gallery)  # raises; it says more
                raise
            if items:
                self._gallery.catch_up()

    def update(
        self,
        key: str,
        *,
        image: ImageLike | None = None,
        label: str | None = _KEEP,
        metadata: Mapping[str, Any] = _KEEP,
    ) -> None:
        """Change the image, label or metadata of an item. Omitted fields stay as they are.

        Raises
        ------
        KeyNotFoundError
            The gallery does not hold the key.
        ImageError
            The new image cannot be read; the item is unchanged.
        """
        if image is not None:
            image = one_image(image, "image")
        key = one_text(key, "key")
        changes: dict[str, Any] = {}
        if label is not _KEEP:
            changes["label"] = label_or_none(label)
        if metadata is not _KEEP:
            changes["metadata"] = plain_metadata(metadata, key)
        with self._gallery.changing():
            update_item(self._gallery, self._pipeline, key, image, changes)

    def keep_whole(self, keys: str | Iterable[str], *, threads: int | None = None) -> IngestReport:
        """Embed some items again without cropping, such as those of `CropReport.wrong`.

        Parameters
        ----------
        keys : str or iterable of str
            Keys of items that come from files.
        threads : int, optional
            Number of threads, by default one for each core.

        Returns
        -------
        IngestReport
            An item whose image cannot be read is reported as failed, and stays as it is.

        Raises
        ------
        KeyNotFoundError
            The gallery does not hold a key, which the message names; nothing is changed.
        InvalidInputError
            An item does not come from a file; nothing is changed.
        """
        names = list(dict.fromkeys(texts(keys, "keys", ordered=False)))
        with self._gallery.changing():
            sources = whole_sources(names, self._gallery)
            return ingest(
                self._gallery,
                self._pipeline,
                sources,
                cropper=NoCrop(),
                threads=threads,
                progress=False,
            )

    def remove(self, keys: str | Iterable[str]) -> int:
        """Remove items: all of them or, if a key is unknown, none.

        What is left of them on the disk goes later: see `compact`.

        Returns
        -------
        int
            Number of items removed.

        Raises
        ------
        KeyNotFoundError
            The gallery does not hold a key, which the message names.
        """
        return self._gallery.remove(list(dict.fromkeys(texts(keys, "keys", ordered=False))))

    def create_filter_index(self, field: str) -> None:
        """Speed up filters on a field that match few of many items.

        The index is stored with the gallery. Keys and labels are indexed from the start.

        Parameters
        ----------
        field : str
            ``path``, or a metadata field, named as in `search`.
        """
        self._gallery.create_filter_index(one_text(field, "field"))

    # -- searching -----------------------------------------------------------------------------

    def search(
        self,
        image: ImageLike | Iterable[ImageLike] | None = None,
        k: int = 10,
        *,
        text: str | Iterable[str] | None = None,
        keys: str | Iterable[str] | None = None,
        weights: Iterable[float] | None = None,
        negatives: ImageLike | Iterable[ImageLike] | None = None,
        negative_text: str | Iterable[str] | None = None,
        negative_keys: str | Iterable[str] | None = None,
        negative_weight: float = NEGATIVE_WEIGHT,
        box: Box | tuple[int, int, int, int] | None = None,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        precision: float | None = None,
        rerank: Rerank | None = None,
    ) -> Hits:
        """Find the images most similar to one image, or to several together.

        Several images, texts and items form one query: the mean of their vectors, minus the mean
        of the negatives' vectors times ``negative_weight`` (Rocchio 1971). For metric
        ``"cosine"`` each vector is first scaled to length 1.

        Parameters
        ----------
        image : ImageLike, or iterable of ImageLike, optional
            Path, bytes, file object, uint8 RGB array or PIL image; or a list, tuple, generator,
            pandas Series or array of shape (n, H, W, 3) of these.
        k : int
            Number of hits to return, at least 1. A smaller gallery returns all its items.
        text : str, or iterable of str, optional
            Description of what is looked for, alone or with the image (``text="at night"``). The
            embedder must read text, as CLIP and SigLIP do. Scores of texts with images are lower
            than those of images with images, so that thresholds differ.
        keys : str, or iterable of str, optional
            Keys of items that are part of the query, such as hits of an earlier search that were
            right. They are not among the hits.
        weights : sequence of float, optional
            Weight per image, then per text, then per key, at least 0. By default all weigh the
            same.
        negatives : ImageLike, or iterable of ImageLike, optional
            Images that hits should be unlike, such as wrong hits of an earlier search.
        negative_text : str, or iterable of str, optional
            Descriptions that hits should not match.
        negative_keys : str, or iterable of str, optional
            Keys of items that hits should be unlike; they are not among the hits.
        negative_weight : float
            Weight of the negatives, 0 to 100. Values far above the default also lead away from
            the query.
        box : Box or tuple of int, optional
            Half-open pixel box (x0, y0, x1, y1) in the image as shown, EXIF orientation applied.
            That part of the image is the query; the cropper is not used.
        where : mapping, optional
            Filter that hits must match, such as ``{"label": "rose", "year": {"$gte": 2020}}``. The
            search returns ``k`` hits if at least ``k`` items match. Fields are ``key``,
            ``label``, ``path`` and those of the metadata, where dots separate nested fields.
            Operators are ``$eq $ne $gt $gte $lt $lte $in $nin $exists $contains $and $or $not``.
        threshold : float, optional
            Minimum score of a hit. It applies to the score that hits show, which with ``rerank``
            may be of another kind.
        precision : float, optional
            Minimum probability that a hit is of the query's class, above 0 and below 1; see
            `calibrate`, and `calibrate_text` for a text. It cannot be used where scores are of
            another kind: with several images or texts, negatives, and most of ``rerank``.
        rerank : str, Reranker or sequence of these, optional
            Re-rankers to apply one after the other: ``"average-qe"``, ``"alpha-qe"``,
            ``"k-reciprocal"``, ``"diffusion"``, ``"mmr"``, or an object of `imgret.rerank`, whose
            documentation describes the resulting scores. Returns as many hits as a search
            without re-ranking.

        Returns
        -------
        Hits
            Empty, and so false, if nothing is good enough: `Hits.no_match` says how close the
            best item came.

        Raises
        ------
        ImageError
            An image cannot be read.
        EmptyGalleryError
            The gallery is empty.
        InvalidInputError
            The filter has an unknown operator or a field that no item has; the number of weights
            differs from the number of images; the box is empty or not inside the image; no score
            reaches the precision, or the gallery is not calibrated.
        UnknownNameError
            There is no re-ranker of this name.
        UnsupportedError
            There is a text, and the embedder reads none.
        KeyNotFoundError
            The gallery does not hold a key.

        References
        ----------
        J. Rocchio, "Relevance Feedback in Information Retrieval", 1971.
        """
        words, _ = several(text, "text", least=0)
        unlike_words, _ = several(negative_text, "negative_text", least=0)
        like_keys, _ = several(keys, "keys", least=0)
        unlike_keys, _ = several(negative_keys, "negative_keys", least=0)
        least = 0 if words or like_keys else 1
        pictures, alone = several(image, "image", images=True, least=least)
        unlike, _ = several(negatives, "negatives", images=True, least=0)
        parts = len(pictures) + len(words) + len(like_keys)
        request = self._request(
            k,
            where,
            threshold,
            precision,
            rerank,
            single=parts == 1 and not (unlike or unlike_words or unlike_keys),
            by_text=bool(words) and not (pictures or like_keys),
        )
        weigh = check_weights(weights, parts)
        negative_weight = check_number(negative_weight, "negative_weight", at_least=0, at_most=100)
        region = None if box is None else check_box(box)
        if region is not None and len(pictures) != 1:
            raise InvalidInputError(
                f"box: expected a single image with it, found {len(pictures)}; crop the others "
                f"beforehand"
            )
        nothing = np.empty((0, self._gallery.spec.dim), dtype=np.float32)
        seen = told = unseen = unlike_told = nothing
        if region is not None:
            seen = self._embed_queries(pictures, region)
            unseen = self._pipeline.embed(unlike) if unlike else nothing
        elif pictures or unlike:  # in one batch
            shown = self._pipeline.embed([*pictures, *unlike])
            seen, unseen = shown[: len(pictures)], shown[len(pictures) :]
        if words or unlike_words:
            read = self._pipeline.embed_text([*words, *unlike_words])
            told, unlike_told = read[: len(words)], read[len(words) :]

        def query(view: View) -> tuple[Embeddings, View]:
            if not (like_keys or unlike_keys):
                every = np.concatenate([seen, told, unseen, unlike_told])
                return query_vector(every, weigh, negative_weight, view), view
            whole = view if request.where is None else self._gallery.view()
            ids = whole.require([*like_keys, *unlike_keys])
            stored = whole.embeddings(ids)
            liked, unliked = stored[: len(like_keys)], stored[len(like_keys) :]
            every = np.concatenate([seen, told, liked, unseen, unlike_told, unliked])
            return query_vector(every, weigh, negative_weight, view), view.without(ids)

        batch = self._answer(request, query)
        self._gallery.settle()
        return Hits(
            batch,
            0,
            (image if alone else tuple(pictures)) if pictures else None,
            negatives=tuple(unlike),
            box=region,
            text=tuple(words),
            negative_text=tuple(unlike_words),
        )

    def search_text(
        self,
        text: str | Iterable[str],
        k: int = 10,
        *,
        weights: Iterable[float] | None = None,
        negative_text: str | Iterable[str] | None = None,
        negative_weight: float = NEGATIVE_WEIGHT,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        precision: float | None = None,
        rerank: Rerank | None = None,
    ) -> Hits:
        """Find the images that a text describes best.

        The embedder must read text, as CLIP and SigLIP do (docs/how-to/choose-a-model.md). Several
        texts form one query. Scores of texts with images are lower than those of images with
        images (0.2 to 0.35 for CLIP where an image is described well), and have a calibration of
        their own: `calibrate_text`.

        Parameters
        ----------
        text : str, or iterable of str
            Description, such as ``"a red rose"``.
        k, weights, negative_text, negative_weight, where, threshold, precision, rerank
            As for `search`.

        Returns
        -------
        Hits

        Raises
        ------
        UnsupportedError
            The embedder reads no text.
        EmptyGalleryError, InvalidInputError, UnknownNameError
            As for `search`.
        """
        words, _ = several(text, "text")
        return self.search(
            None,
            k,
            text=words,
            weights=weights,
            negative_text=negative_text,
            negative_weight=negative_weight,
            where=where,
            threshold=threshold,
            precision=precision,
            rerank=rerank,
        )

    def search_many_text(
        self,
        texts: Iterable[str],
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        precision: float | None = None,
        rerank: Rerank | None = None,
    ) -> HitsList:
        """Find the images that each of several texts describes: every text is a query of its own.

        Parameters
        ----------
        texts : iterable of str
        k, where, threshold, precision, rerank
            As for `search`.

        Returns
        -------
        HitsList
            List of `Hits`: one per text, in their order.
        """
        words, _ = several([texts] if isinstance(texts, str) else texts, "texts")
        request = self._request(k, where, threshold, precision, rerank, by_text=True)
        embeddings = self._pipeline.embed_text(words)
        batch = self._answer(request, lambda view: (view.project(embeddings, "texts"), view))
        self._gallery.settle()
        return HitsList(Hits(batch, row, text=(each,)) for row, each in enumerate(words))

    def search_key(
        self,
        key: str | Iterable[str],
        k: int = 10,
        *,
        weights: Iterable[float] | None = None,
        negatives: str | Iterable[str] | None = None,
        negative_weight: float = NEGATIVE_WEIGHT,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        precision: float | None = None,
        rerank: Rerank | None = None,
    ) -> Hits:
        """Find the items most similar to one item of the gallery, or to several together.

        This works like `search` but uses the stored embeddings, so no image is read. The query
        items, negatives included, are not among the hits.

        Parameters
        ----------
        key : str, or iterable of str
            Keys of the query items.
        negatives : str, or iterable of str, optional
            Keys of items that hits should be unlike.
        k, weights, negative_weight, where, threshold, precision, rerank
            As for `search`.

        Returns
        -------
        Hits
            `Hits.query` is the path of the item's file, or the paths of all files for several
            items, as far as the items have files.

        Raises
        ------
        KeyNotFoundError
            The gallery does not hold a key.
        EmptyGalleryError, InvalidInputError, UnknownNameError
            As for `search`.
        """
        keys, alone = several(key, "key")
        unlike, _ = several(negatives, "negatives", least=0)
        single = len(keys) == 1 and not unlike
        request = self._request(k, where, threshold, precision, rerank, single=single)
        weigh = check_weights(weights, len(keys))
        negative_weight = check_number(negative_weight, "negative_weight", at_least=0, at_most=100)
        items: list[Item] = []

        def query(view: View) -> tuple[Embeddings, View]:
            every = view if request.where is None else self._gallery.view()
            ids = every.require([*keys, *unlike])
            items[:] = every.items(ids)
            vector = query_vector(every.embeddings(ids), weigh, negative_weight, view)
            return vector, view.without(ids)

        batch = self._answer(request, query)
        paths = [item.path for item in items]
        shown = tuple(path for path in paths[: len(keys)] if path is not None)
        return Hits(
            batch,
            0,
            (shown[0] if shown else None) if alone else shown,
            negatives=tuple(path for path in paths[len(keys) :] if path is not None),
            box=items[0].box if len(keys) == 1 else None,
            query_label=items[0].label if len({i.label for i in items[: len(keys)]}) == 1 else None,
        )

    def search_many(
        self,
        images: Iterable[ImageLike],
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        precision: float | None = None,
        rerank: Rerank | None = None,
        threads: int | None = None,
    ) -> HitsList:
        """Find the images most similar to each of several: every image is a query of its own.

        The other parameters and the errors are those of `search`.

        Parameters
        ----------
        images : iterable of ImageLike
            List, tuple, generator, pandas Series, or array of shape (n, H, W, 3). A single image
            is refused, and so is a set, which has no order.

        Returns
        -------
        HitsList
            List of `Hits`: one per image, in the order of the images. A notebook shows them as
            rows.
        """
        queries = many_images(images, "images", single="search() takes a single one")
        request = self._request(k, where, threshold, precision, rerank)
        embeddings = self._pipeline.embed(queries, threads=threads)
        batch = self._answer(request, lambda view: (view.project(embeddings, "queries"), view))
        self._gallery.settle()
        return HitsList(Hits(batch, row, query) for row, query in enumerate(queries))

    def search_vectors(
        self,
        vectors: Any,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        precision: float | None = None,
        rerank: Rerank | None = None,
    ) -> HitsList:
        """Find the items nearest to embeddings.

        Parameters
        ----------
        vectors : array of shape (n, dim)
            Embeddings as the gallery's embedder makes them.
        k, where, threshold, precision, rerank
            As for `search`.

        Returns
        -------
        HitsList
            List of `Hits`: one per vector. Keys and labels are looked up on first access, and show
            the gallery as it was at the time of the search.
        """
        request = self._request(k, where, threshold, precision, rerank)
        batch = self._answer(request, lambda view: (view.project(vectors, "queries"), view))
        return HitsList([Hits(batch, row) for row in range(len(batch))])

    def embed(self, images: Iterable[ImageLike], *, threads: int | None = None) -> Embeddings:
        """Crop and embed images as the gallery does, without adding them.

        Parameters
        ----------
        images : iterable of ImageLike
            Images as for `search_many`; pass a single one as ``[image]``.
        threads : int, optional
            Number of threads, by default one for each core.

        Returns
        -------
        float32 array of shape (n, dim)

        Raises
        ------
        ImageError
            An image cannot be read.
        """
        several_ = many_images(images, "images", single="pass a single one as [image]")
        return self._pipeline.embed(several_, threads=threads)

    def embed_text(self, texts: Iterable[str]) -> Embeddings:
        """Embed texts into the space of the images; see `imgret.Embedder.embed_text`.

        Returns
        -------
        float32 array of shape (n, dim)

        Raises
        ------
        UnsupportedError
            The embedder reads no text.
        """
        words, _ = several([texts] if isinstance(texts, str) else texts, "texts", least=0)
        return self._pipeline.embed_text(words)

    def explain(
        self, k: int = 10, *, where: Mapping[str, Any] | None = None, n_queries: int = 1
    ) -> SearchPlan:
        """Explain how a search would be answered, and why, without searching.

        Parameters
        ----------
        k : int
        where : mapping, optional
            As for `search`.
        n_queries : int
            Number of queries in one call. The more there are, the sooner an exact comparison with
            all matching items becomes the cheapest.

        Returns
        -------
        SearchPlan
            How the index answers and, with a filter, how many items match it and whether the
            index or an exact comparison with them is used.

        Raises
        ------
        InvalidInputError
            As for `search`.
        EmptyGalleryError
            There are no items.
        """
        parsed = None if where is None else parse_filter(plain_filter(where))
        return self._gallery.explain(k, parsed, n_queries)

    def explain_match(
        self,
        query: ImageLike | None,
        hit: Hit | str | ImageLike,
        *,
        text: str | None = None,
        box: Box | tuple[int, int, int, int] | None = None,
        method: Literal["auto", "exact", "occlusion"] = "auto",
        n_regions: int = 3,
    ) -> Explanation:
        """Show which places of a query and of a hit make them similar.

        Both images are read again. The result has a heat map of each of them, and the regions that
        correspond best.

        Parameters
        ----------
        query : ImageLike or None
            Query image; None with ``text``. It is cropped as in `search`.
        hit : Hit, str or ImageLike
            A hit of this gallery, the key of an item, or any other image. A str is always a key:
            give the path of a file as a `pathlib.Path`.
        text : str, optional
            Description to explain instead of a query image. There is then a heat map of the hit
            alone.
        box : Box or tuple of int, optional
            Part of the query image, as for `search`.
        method : {"auto", "exact", "occlusion"}
            ``"exact"`` divides the score among the places of the network's feature map. It needs an
            `OnnxEmbedder` whose embedding is the mean of a feature map, after which only linear
            maps, powers and scaling follow. ``"occlusion"`` hides one place after the other and
            measures the drop of the score; it works for every embedder and embeds 50 images for
            each map. ``"auto"`` is exact where possible: `Explanation.method` says which one it
            was, and `Explanation.reason` why.
        n_regions : int
            Maximum number of corresponding regions, at least 1.

        Returns
        -------
        Explanation
            In a notebook both images with their heat; `Explanation.save` writes a page.

        Raises
        ------
        ImageError
            An image cannot be read; the file of the hit may be missing.
        KeyNotFoundError
            The gallery does not hold the key.
        InvalidInputError
            The hit is from another gallery, has no file, or its file has changed since it was
            added.
        ModelError
            The method is ``"exact"``, and the embedding is not a sum over places.
        UnsupportedError
            There is a text, and the embedder reads none.

        References
        ----------
        A. Stylianou, R. Souvenir and R. Pless, "Visualizing Deep Similarity Networks", 2019, for
        the exact method; M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional
        Networks", 2014, for occlusion.
        """
        return explain.explain_match(
            self.view(),
            self._pipeline,
            None if query is None else one_image(query, "query"),
            hit if isinstance(hit, Hit | str) else one_image(hit, "hit"),
            text=None if text is None else one_text(text, "text"),
            box=None if box is None else check_box(box),
            method=method,
            n_regions=check_count(n_regions, "n_regions"),
        )

    def classify(
        self,
        image: ImageLike,
        k: int = 10,
        *,
        threshold: float | None = None,
        labels: Iterable[str] | None = None,
        template: str | Iterable[str] = TEMPLATE,
    ) -> Name:
        """Classify an image, or report that its class is unknown.

        The nearest items vote for their labels, and more similar items have more weight. The
        confidence of a vote is learned from the gallery itself, leaving each item out of its own
        vote. The first call does that, and the first one after each change of the gallery.

        With ``labels`` the names alone decide, and no item is asked (zero-shot): the image is of
        the class whose description it is most similar to. The embedder must read text.

        Parameters
        ----------
        image : ImageLike
        k : int
            Number of items that vote.
        threshold : float, optional
            Confidence below which the label is None; by default learned as well, and 0 with
            ``labels``.
        labels : iterable of str, optional
            Names of the classes to choose from.
        template : str, or iterable of str
            Description of a class, with ``{}`` where its name goes; of several, the mean is
            taken.

        Returns
        -------
        Name

        Raises
        ------
        InvalidInputError
            The gallery has too few labels, or a name or template is not valid.
        UnsupportedError
            There are ``labels``, and the embedder reads no text.
        ImageError, EmptyGalleryError
            As for `search`.

        References
        ----------
        A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
        2021, for the classification by names and its temperature of 0.01.
        """
        asked = one_image(image, "image", several="classify_many()")
        found = self.classify_many(
            [asked], k, threshold=threshold, labels=labels, template=template
        )
        return found[0]

    def classify_many(
        self,
        images: Iterable[ImageLike],
        k: int = 10,
        *,
        threshold: float | None = None,
        labels: Iterable[str] | None = None,
        template: str | Iterable[str] = TEMPLATE,
        threads: int | None = None,
    ) -> list[Name]:
        """Classify several images; see `classify`, and `search_many` for what ``images`` may be."""
        queries = many_images(images, "images", single="classify() takes a single one")
        if (threshold := threshold_or_none(threshold)) is not None and not 0 <= threshold <= 1:
            raise InvalidInputError(
                f"threshold: expected a confidence between 0 and 1, found {threshold!r}"
            )
        if labels is not None:
            names = list(texts(labels, "labels", ordered=False))
            words = learning.described(names, template, self._pipeline.embed_text)
            embeddings = self._pipeline.embed(queries, threads=threads)
            return learning.classify_by_names(embeddings, names, words, threshold)
        if labels is not None:
            names = list(texts(labels, "labels", ordered=False))
            words = learning.described(names, template, self._pipeline.embed_text)
            embeddings = self._pipeline.embed(queries, threads=threads)
            return learning.classify_by_names(embeddings, names, words, threshold)
        classifier = self._classify_by(check_count(k, "k"))
        found = self.search_many(queries, k, threads=threads)
        return [classifier.name(hits, threshold) for hits in found]

    # -- how it searches -----------------------------------------------------------------------

    def reindex(self, index: str | VectorIndex | None = None, **options: Any) -> None:
        """Rebuild the index from the stored embeddings; no image is read.

        Parameters
        ----------
        index : str or VectorIndex, optional
            As for `Retriever`; by default the current index.
        **options
            Options of the index, such as ``M=48`` for ``"hnsw"``.

        Raises
        ------
        UnknownNameError, InvalidInputError
            There is no such index or option, or there are too few items to train it. The current
            index stays in use.
        """
        self._gallery.reindex(index, options)

    def tune(
        self,
        recall: float = 0.95,
        k: int = 10,
        *,
        queries: Iterable[ImageLike] | None = None,
        n_queries: int = 1000,
        seed: int = 0,
    ) -> Tuning:
        """Find the fastest search options that reach a recall, and keep them.

        The true neighbours of some queries are found by exact search. Then the options of the
        index (``ef_search``, ``nprobe``, ``refine``) are tried. The cheapest setting that finds
        enough of the true neighbours is used from now on, and stays in the manifest until
        another index is chosen. Meanwhile the gallery cannot be changed, and searches use the
        options that are being tried.

        The target is for new queries that may be farther from the items than these are from each
        other. Without given queries, it is compared with `Try.farther`, the recall of the synthetic
        vectors that `recall` uses for the lower end of its interval. Queries that resemble the
        items find more, `Try.recall`.

        Parameters
        ----------
        recall : float
            Share of the true ``k`` nearest to be found, above 0 and at most 1.
        k : int
            Number of neighbours, less than the number of items.
        queries : iterable of ImageLike, optional
            Images like those that will be searched with. By default items of the gallery are
            the queries, as for `recall`; the setting is then somewhat slower than such images
            would need.
        n_queries : int
            Number of items to use as queries if no queries are given.
        seed : int
            Seed of the random sample.

        Returns
        -------
        Tuning
            All measurements and the chosen options, as a table (``print``) or a plot (in a
            notebook, or with ``to_svg``).

        Raises
        ------
        InvalidInputError
            There are fewer than 100 items, a number is out of range, or no option reaches the
            recall. Nothing is changed.
        EmptyGalleryError
            There are no items.
        StoreReadOnlyError
            The gallery was opened for reading.
        """
        if queries is not None:
            queries = many_images(queries, "queries", single="give a list of them")
        with self._gallery.changing(), self._gallery.viewed() as view:
            tuning = evaluation.tune(
                view,
                recall=recall,
                k=k,
                queries=None if queries is None else self.embed(queries),
                n_queries=n_queries,
                seed=seed,
            )
            kept = {"recall": recall, "k": k, "reached": tuning.chosen.recall}
            self._gallery.configure(
                {"index": tuning.index, "settings": tuning.chosen.settings, **kept}
            )
            return tuning

    def project(self, kind: Literal["pca"] | None, *, dim: int = 256, whiten: float = 0.0) -> None:
        """Choose the projection from embeddings to indexed vectors; no image is read.

        The full embeddings stay stored, so the projection can be changed or undone.

        Parameters
        ----------
        kind : {"pca", None}
            ``"pca"`` for the principal components of the gallery's embeddings, None for no
            projection.
        dim : int
            Number of dimensions to keep.
        whiten : float
            Strength of whitening: 0 keeps the variances, 1 makes them equal, and values between
            take a power between. 0.5 is best where the images are of one kind and differ in
            detail; it costs a little where they are of many kinds.

        Raises
        ------
        EmptyGalleryError
            The gallery has no items to fit on.
        InvalidInputError
            ``dim`` is above the dimension of the embeddings, above the number of items, or, with
            whitening, above the number of directions in which the items vary.
        """
        if kind not in {"pca", None}:
            raise InvalidInputError(f"kind: expected 'pca' or None, found {kind!r}")
        self._gallery.need("projection")
        with self._gallery.changing():
            projection = None
            if kind == "pca":
                if not len(self):
                    raise EmptyGalleryError(
                        "project: expected a gallery with items to fit on, found an empty one"
                    )
                blocks = (block for _, block in self._gallery.view().embedding_blocks())
                projection = fit_pca(blocks, dim, whiten=whiten)
            self._gallery.project(projection)

    def adapt(self, *, dim: int | None = None, shrinkage: float | None = None) -> AdaptReport:
        """Learn from the labels a projection that separates the classes, and search with it.

        A discriminant projection (LDA with shrinkage) is evaluated by cross-validation, so it
        is never measured on the items it was fitted on. If top-1 rises significantly and mAP@5
        does not fall, it is fitted on all labelled items and the index is rebuilt; otherwise the
        gallery stays as it is. No image is read. Items added later use the same projection; call
        `adapt` again to learn from them. ``project(None)`` removes the projection.

        Parameters
        ----------
        dim : int, optional
            Dimension of the indexed vectors, less than the number of classes; by default the
            largest possible.
        shrinkage : float, optional
            Shrinkage between 0 and 1; by default chosen by cross-validation.

        Returns
        -------
        AdaptReport
            Gain over the plain embeddings, with its confidence interval. ``applied`` says whether
            the projection is in use.

        Raises
        ------
        InvalidInputError
            There are too few labels to learn from or to measure with.
        """
        if dim is not None:
            dim = check_count(dim, "dim")
        started = time.perf_counter()
        self._gallery.need("projection")
        with self._gallery.changing(), self._gallery.viewed() as view:
            projection, report = learning.adapt(view, dim=dim, shrinkage=shrinkage)
            if projection is not None:
                self._gallery.project(projection)
        return replace(report, seconds=time.perf_counter() - started)

    def calibrate(
        self,
        pairs: Iterable[tuple[str, str, bool]] | None = None,
        *,
        method: Literal["isotonic", "logistic"] = "isotonic",
        k: int = 50,
        n_queries: int = 2000,
        seed: int = 0,
    ) -> CalibrationReport:
        """Learn how likely a hit of a given score is to be of the query's class.

        `search` then takes a precision instead of a threshold, and its hits have probabilities.
        The calibration is stored in the manifest. It holds for the current metric and projection,
        and as long as the gallery does not change much: call `calibrate` again after `adapt`,
        after `project`, and after adding many items. No image is read.

        Parameters
        ----------
        pairs : iterable of (key, key, bool), optional
            Pairs of items, and whether they are of one class. By default labelled items are paired
            with their nearest labelled neighbours; in an adapted gallery these are found with a
            projection that was fitted without the item. For pairs of your own, imgret cannot
            check that: use items that had no label when `adapt` was called.
        method : {"isotonic", "logistic"}
            ``"isotonic"`` fits any non-decreasing curve, by pool-adjacent-violators.
            ``"logistic"`` fits a logistic function of the score, which is better with fewer than
            some thousand pairs.
        k : int
            Number of neighbours each item is paired with.
        n_queries : int
            Maximum number of items to pair.
        seed : int
            Seed of the random sample and of the cross-validation folds.

        Returns
        -------
        CalibrationReport
            Quality of the calibration on held-out images, and the cost of each precision.

        Raises
        ------
        InvalidInputError
            There are too few pairs of one class or of different classes, or a pair is invalid.
        KeyNotFoundError
            The gallery does not hold a key.
        EmptyGalleryError
            There are no items.
        StoreReadOnlyError
            The gallery was opened for reading.

        References
        ----------
        B. Zadrozny and C. Elkan, "Transforming Classifier Scores into Accurate Multiclass
        Probability Estimates", 2002. J. Platt, "Probabilistic Outputs for Support Vector Machines
        and Comparisons to Regularized Likelihood Methods", 1999.
        """
        learning.find_curve(method)
        k, n_queries, seed = (
            check_count(k, "k"),
            check_count(n_queries, "n_queries"),
            check_seed(seed),
        )
        with self._gallery.changing(), self._gallery.viewed() as view:
            if pairs is None:
                known = learning.near_pairs(view, k=k, n_queries=n_queries, seed=seed)
            else:
                known = learning.given_pairs(view, pairs)
            learned, report = learning.calibrate(
                known, method=method, metric=view.metric, projection=self._fingerprint, seed=seed
            )
            self._gallery.change_spec(calibration=learned.to_json())
            return report

    def calibrate_text(
        self,
        pairs: Iterable[tuple[str, str, bool]] | None = None,
        *,
        template: str | Iterable[str] = TEMPLATE,
        method: Literal["isotonic", "logistic"] = "isotonic",
        k: int = 50,
        seed: int = 0,
    ) -> CalibrationReport:
        """Learn how likely a hit of a given score is to show what a text describes.

        Scores of texts are on another scale than those of images, and have a calibration of their
        own; `search_text` then takes a precision, and its hits have probabilities.

        Parameters
        ----------
        pairs : iterable of (text, key, bool), optional
            Texts, items, and whether the text describes the item. By default each label is put
            into the template, and paired with the items that it finds.
        template : str, or iterable of str
            Description of a label, with ``{}`` where its name goes.
        method, seed
            As for `calibrate`.
        k : int
            Number of items each label is paired with.

        Returns
        -------
        CalibrationReport

        Raises
        ------
        UnsupportedError
            The embedder reads no text, or the gallery is adapted to its labels and no pairs are
            given: its own labels would look better than they are.
        InvalidInputError, KeyNotFoundError, EmptyGalleryError, StoreReadOnlyError
            As for `calibrate`.
        """
        learning.find_curve(method)
        k, seed = check_count(k, "k"), check_seed(seed)
        with self._gallery.changing(), self._gallery.viewed() as view:
            if pairs is not None:
                known = learning.given_text_pairs(view, pairs, self._pipeline.embed_text)
            elif view.projection.from_labels:
                raise UnsupportedError(
                    "calibrate_text: expected a gallery that is not adapted to its labels, found "
                    "one that is; give pairs of texts and items that had no label"
                )
            else:
                names = view.labels.names
                words = learning.described(names, template, self._pipeline.embed_text)
                known = learning.near_text_pairs(view, names, words, k=k)
            learned, report = learning.calibrate(
                known, method=method, metric=view.metric, projection=self._fingerprint, seed=seed
            )
            self._gallery.change_spec(text_calibration=learned.to_json())
            return report

    def augmented(self, k: int = 10, *, alpha: float = 0.0) -> Self:
        """Return an in-memory gallery of the same items, moved towards their nearest neighbours.

        Neighbours of one class come closer together, so a query that finds one of them also finds
        the others. The neighbours are found by the index, and read in blocks. The embedding of
        each item becomes a weighted mean of embeddings. Keys, labels, metadata, paths and boxes
        stay the same, and so do the projection and the kind of index. The results of `calibrate`
        and `tune` are not copied, as the scores change. Leave-one-out figures of such a gallery
        are too high, because each item is part of its neighbours' embeddings. Measure with images
        that are not in it.

        Parameters
        ----------
        k : int
            Number of items in each mean, the item itself included.
        alpha : float
            Exponent of the weights: an item's weight is its cosine to the power ``alpha``, and 0
            for negative cosines. With 0 all items weigh the same.

        Returns
        -------
        Retriever

        Raises
        ------
        EmptyGalleryError
            There are no items.
        InvalidInputError
            A number is out of range.

        References
        ----------
        As for `imgret.rerank.augment_gallery`.
        """
        k, alpha = check_count(k, "k"), check_alpha(alpha)
        with self._gallery.viewed() as view:
            spec = self._gallery.spec.with_(
                projection=None, tuned=None, calibration=None, text_calibration=None
            )
            gallery = LocalGallery.in_memory(spec)
            for ids, embeddings in augmented_embeddings(view, k, alpha):
                gallery.store.add(embeddings, list(view.items(ids)))
            gallery.project(self.projection)
            return self._of(gallery, self._pipeline, PartLocations(gallery))

    # -- how good it is ------------------------------------------------------------------------

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

        Without queries, every labelled item is a query for the other items (leave-one-out), by
        its stored embedding: no image is read. An item that is the query itself, by its path
        or by the sha256 of its file, is left out of that query's ranking. A query that
        cannot be read, or that has no item to find, counts as 0 and is reported. The gallery
        cannot be changed meanwhile.

        Parameters
        ----------
        queries : path or iterable of ImageLike, optional
            Folder of images, including its subfolders, or the images themselves.
        labels : sequence of str, "parent", callable or mapping
            Class of each query. A sequence has one label per image, ``"parent"`` (the default
            for a folder) takes the name of the folder that contains it, a callable gets its path,
            and a mapping is looked up by its name.
        k : sequence of int
            Ranks to measure at.
        near_identical : float
            Minimum cosine of the embeddings of a query and its best hit for the two to count as
            near-identical; that hit must also be at least four times as close as the tenth. The
            default was chosen with the embedder ``"general"``.
        n_resamples, seed : int
            Number of resamples and seed of the bootstrap behind the confidence intervals.
        threads : int, optional
            Number of threads, by default one for each core.
        progress : bool, optional
            As for `add`.

        Returns
        -------
        Report

        Raises
        ------
        InvalidInputError
            A label is missing, the number of labels differs from the number of queries, there is
            no query, or no item has a label.
        EmptyGalleryError
            The gallery is empty.
        """
        with self._gallery.viewed() as view:
            return evaluation.evaluate(
                view,
                None if queries is None else self.embedder,
                None if queries is None else self.cropper,
                queries=queries,
                labels=labels,
                k=k,
                near_identical=near_identical,
                n_resamples=n_resamples,
                seed=seed,
                threads=threads,
                max_pixels=self._pipeline.max_pixels,
                progress=progress,
            )

    def recall(
        self,
        k: int = 10,
        *,
        queries: Sequence[ImageLike] | None = None,
        n_queries: int = 500,
        seed: int = 0,
    ) -> Recall:
        """Measure how many of the true nearest neighbours the index finds.

        The ``k`` nearest neighbours of some randomly drawn items are searched by the index, and by
        an exact search of the stored embeddings. Of equally near items, any counts as correct.

        A graph (``"hnsw"``, ``"hnsw-sq8"``) finds its own items more easily than new images, and
        cells and codes (``"ivf"``, ``"ivf-pq"``) fit the vectors they were trained on. So in a
        gallery of up to 20,000 items, the result is corrected with indexes that leave out query
        items; these are built in seconds. In a larger gallery a graph is searched with synthetic
        vectors, each half as far from an item as the item's nearest neighbour.

        `Recall.value` is the recall of new queries that resemble the items. New images may be
        farther from all items than these are from each other, above all if the embedder was
        trained on the items, and then find less. So the lower end of the interval is that of
        synthetic vectors which are farther away: they are moved from items that are left out, by
        1.6 times the distance to the nearest neighbour. This covers queries whose nearest item is
        up to about 1.2 times as far away as that of an item. It does not cover images of another
        kind, such as photos of cars as queries for flowers.

        The interval predicts the recall of ``n_queries`` new queries: it holds it in 95 % of cases.

        Parameters
        ----------
        k : int
            Number of neighbours, less than the number of items.
        queries : sequence of ImageLike, optional
            Images like those that will be searched with. By default items of the gallery are the
            queries. With images given, nothing is synthetic: value and interval are those of such
            queries.
        n_queries : int
            Maximum number of items to use as queries.
        seed : int
            Seed of the random sample and of the bootstrap behind the interval.

        Returns
        -------
        Recall
            ``value`` is 1 for an exact index, except for rounding.

        Raises
        ------
        InvalidInputError
            A number is out of range.
        EmptyGalleryError
            There are no items.
        """
        with self._gallery.viewed() as view:
            embeddings = None if queries is None else self.embed(queries)
            return evaluation.measure_recall(
                view, k=k, queries=embeddings, n_queries=n_queries, seed=check_seed(seed)
            )

    def crop_report(
        self,
        cropper: str | os.PathLike[str] | Cropper | None = None,
        *,
        n_worst: int = 24,
        threads: int | None = None,
    ) -> CropReport:
        """Measure the effect of cropping on retrieval, on the gallery's labelled images.

        Each image is read again and embedded both whole and cropped. Retrieval is then measured
        leave-one-out among whole images, among crops, and among the means of both embeddings
        (`imgret.embedders.TwoViewEmbedder`). The gallery is not changed, and its projection is
        not used.

        Parameters
        ----------
        cropper : str or Cropper, optional
            Cropper to measure. The default is the gallery's, or ``"saliency"`` if that one does
            not crop.
        n_worst : int
            Number of the most harmful crops to show on the report's page.
        threads : int, optional
            Number of threads, by default one for each core.

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
            cropper = self.cropper if self.cropper.crops else "saliency"

        def beside(vectors: Embeddings, keys: list[str], labels: list[str]) -> Report:
            """Evaluate embeddings in a separate gallery, leave-one-out."""
            other = type(self)(embedder=self.embedder, metric=self.metric, dtype="float32")
            other.add_vectors(vectors, keys=keys, labels=labels)
            return other.evaluate(k=(1, 5))

        with self._gallery.viewed() as view:
            return evaluation.report_crops(
                view,
                self.embedder,
                find_cropper(cropper),
                search_in=beside,
                n_worst=n_worst,
                threads=threads,
                max_pixels=self._pipeline.max_pixels,
            )

    # -- the gallery as a whole ----------------------------------------------------------------

    def duplicates(
        self, threshold: float | None = None, *, progress: Progress = False
    ) -> Duplicates:
        """Find duplicates: groups of items that are almost the same.

        Without a threshold, these are copies of one image: at another size or quality, cropped
        (to about 60 % of each side), mirrored or turned, with a border, a watermark or in other
        light. Pairs that are near by their perceptual hashes, or unusually near by their
        embeddings, are compared pixel by pixel, so the image files are read. Where a file is
        missing, hash and embedding decide. Items that an older imgret added have no hash; it is
        computed from their files, and stored if the gallery is open for writing.

        With a threshold, two items are in one group if their score reaches it. These may also be
        different shots of one subject. An exact index misses no pair, however many are alike. An
        approximate index may miss some (`recall` measures how many), but never items of equal
        embeddings.

        In either case a chain of pairs makes one group.

        Parameters
        ----------
        threshold : float, optional
            Minimum score of a pair: at most 1 for metric ``"cosine"``, at most 0 for ``"l2"``,
            where scores are minus squared distances. With the embedder ``"general"``, 0.95 finds
            shots that look alike.
        progress : bool or callable, optional
            As for `add`; only used without a threshold.

        Returns
        -------
        Duplicates
            List of `DuplicateGroup`, which a notebook shows by their images. Each item is in at
            most one group. The largest group comes first; of groups of the same size, the most
            similar one.

        Raises
        ------
        InvalidInputError
            The threshold is out of range.
        EmptyGalleryError
            There are no items.

        Examples
        --------
        >>> groups = retriever.duplicates()  # doctest: +SKIP
        >>> groups.save("review.html")  # to look at them and choose
        >>> retriever.move_duplicates(groups, "duplicates/")  # all but the best of each group
        """
        computed: dict[str, bytes] = {}
        with self._gallery.locked():
            with self._gallery.viewed() as view:
                groups = curation.find_duplicates(
                    view,
                    threshold=threshold,
                    max_pixels=self._pipeline.max_pixels,
                    progress=progress,
                    keep_hashes=computed.update,
                )
            if computed and self._gallery.writable:
                before = self._gallery.find(list(computed))
                self._gallery.change(
                    {key: replace(item, phash=computed[key]) for key, item in before.items()}
                )
        return groups

    def duplicates_of(self, image: ImageLike) -> Copies:
        """Find the items that are copies of one image, which need not be in the gallery.

        The image is compared as in `duplicates`, with its nearest items by hash and by embedding.

        Parameters
        ----------
        image : ImageLike

        Returns
        -------
        Copies
            List of `Copy`, the most similar first; empty if there are none. If the image is in the
            gallery, its own item is among them.

        Raises
        ------
        ImageError
            The image cannot be read.
        EmptyGalleryError
            There are no items.

        Examples
        --------
        >>> if not retriever.duplicates_of("new.jpg"):  # doctest: +SKIP
        ...     retriever.add("new.jpg")
        """
        self._gallery.require_items()
        max_pixels = self._pipeline.max_pixels
        whole = load(image, max_pixels=max_pixels)
        embedding = self._embed_queries([whole], None)
        with self._gallery.viewed() as view:
            return curation.find_copies_of(view, whole, embedding, max_pixels=max_pixels)

    def move_duplicates(
        self,
        groups: Iterable[DuplicateGroup] | str | os.PathLike[str],
        folder: str | os.PathLike[str],
    ) -> Moved:
        """Move the files of duplicates into a folder, all but the best of each group.

        The best has the most pixels; of equals, the most bytes; then the first that was added. A
        list that a review page has saved says instead what to keep.

        Moved files are removed from the gallery. A file that is missing, or has another size or
        time than when it was indexed, stays where it is, and so does a file that would be moved
        while the best of its group is not as it was. No file is overwritten: a name that is taken
        gets a number.

        Parameters
        ----------
        groups : iterable of DuplicateGroup, or path
            Result of `duplicates`, or a part of it; or the JSON file of a review page.
        folder : path
            Folder to move to; made if it is missing. It should be outside the folders that are
            indexed, or the next `add_folder` finds the files there.

        Returns
        -------
        Moved
            What was moved, and what was not and why.

        Raises
        ------
        StoreReadOnlyError
            The gallery is not open for writing; nothing is moved.
        InvalidInputError
            The folder is a file, or cannot be made; or the file is no list of a review.
        """
        with self._gallery.changing():
            if isinstance(groups, (str, os.PathLike)):
                return curation.move_listed(self._gallery, Path(groups), Path(folder))
            return curation.move_extra(self._gallery, groups, Path(folder))

    def clusters(
        self,
        n: int,
        *,
        seed: int = 0,
        words: Iterable[str] | None = None,
        template: str | Iterable[str] = TEMPLATE,
    ) -> Clusters:
        """Divide the gallery into clusters by k-means.

        The indexed vectors are clustered with spherical k-means for metric ``"cosine"``, and with
        Euclidean k-means for the other metrics. The centroids are learned from a random sample of
        at most 256 items per cluster; then every item is assigned to the nearest.

        Parameters
        ----------
        n : int
            Number of clusters, at most the number of items. If fewer items differ, there are
            fewer clusters.
        seed : int
            Seed of the random sample and of the first centroids. The same seed gives the same
            clusters.
        words : iterable of str, optional
            Names to choose from for each cluster: `Clusters.names`. The embedder must read text,
            and the gallery must be searched by its embeddings (no `adapt`, no `project`).
        template : str, or iterable of str
            As for `classify`.

        Returns
        -------
        Clusters

        Raises
        ------
        InvalidInputError
            ``n`` is out of range.
        EmptyGalleryError
            There are no items.

        References
        ----------
        S. Lloyd, "Least Squares Quantization in PCM", 1982; I. Dhillon and D. Modha, "Concept
        Decompositions for Large Sparse Text Data using Clustering", 2001, for the spherical kind.
        """
        seed, names, told = check_seed(seed), list[str](), None
        if words is not None:
            if self.projection is not None:
                raise InvalidInputError(
                    "words: expected a gallery that is searched by its embeddings, in whose space "
                    "texts are, found one with a projection; call project(None) first"
                )
            names = list(texts(words, "words", ordered=False))
            told = learning.described(names, template, self._pipeline.embed_text)
        with self._gallery.viewed() as view:
            clusters = curation.fit_clusters(
                view, n=n, seed=seed, max_pixels=self._pipeline.max_pixels
            )
        if told is None:
            return clusters
        return replace(
            clusters, names=tuple(learning.nearest_names(clusters.centroids, names, told))
        )

    def neighbor_graph(self, k: int = 10) -> NeighborGraph:
        """Find the nearest neighbours of every item, without the item itself.

        Parameters
        ----------
        k : int
            Maximum number of neighbours per item.

        Returns
        -------
        NeighborGraph
            As accurate as the index: see `recall`.

        Raises
        ------
        InvalidInputError
            ``k`` is below 1.
        EmptyGalleryError
            There are no items.
        """
        with self._gallery.viewed() as view:
            return curation.build_neighbor_graph(view, k=k)

    def outliers(self, n: int = 100, *, k: int = 10) -> Outliers:
        """Find the items that are least similar to the rest and may not belong here.

        They are ranked by the mean score of their ``k`` nearest neighbours.

        Parameters
        ----------
        n : int
            Maximum number of items to return.
        k : int
            Maximum number of neighbours per item. A group of up to ``k`` similar items stands out
            as well.

        Returns
        -------
        Outliers
            List of `Outlier`, which a notebook shows by their images. The lowest score comes
            first. It is empty if the gallery has only one item.

        Raises
        ------
        InvalidInputError
            A number is below 1.
        EmptyGalleryError
            There are no items.

        References
        ----------
        S. Ramaswamy, R. Rastogi and K. Shim, "Efficient Algorithms for Mining Outliers from Large
        Data Sets", 2000; F. Angiulli and C. Pizzuti, "Fast Outlier Detection in High Dimensional
        Spaces", 2002, for the mean.
        """
        with self._gallery.viewed() as view:
            return curation.find_outliers(view, k=k, n=n, max_pixels=self._pipeline.max_pixels)

    def mislabelled(self, *, k: int = 20, threshold: float = 0.5) -> LabelIssues:
        """Find the items that may have the wrong label.

        The nearest labelled neighbours of an item vote for their labels. The nearest has weight
        1, the farthest weight 0, and the score decides the weights between. The confidence is the
        margin by which another label leads over the item's own. An item whose label no other item
        has is left out. After `adapt` the vote is much more reliable, even if some labels are
        wrong.

        Parameters
        ----------
        k : int
            Maximum number of neighbours that vote. About the size of a class works best.
        threshold : float
            Minimum confidence, 0 to 1. A low threshold finds more wrong labels, but also reports
            more correct ones.

        Returns
        -------
        LabelIssues
            List of `LabelIssue`, which a notebook shows by their images. The highest confidence
            comes first.

        Raises
        ------
        InvalidInputError
            A number is out of range, or there are fewer than two labels.
        EmptyGalleryError
            There are no items.

        References
        ----------
        D. Wilson, "Asymptotic Properties of Nearest Neighbor Rules Using Edited Data", 1972;
        S. Dudani, "The Distance-Weighted k-Nearest-Neighbor Rule", 1976, for the weights.
        """
        with self._gallery.viewed() as view:
            return curation.find_mislabelled(
                view, k=k, threshold=threshold, max_pixels=self._pipeline.max_pixels
            )

    def map2d(self, method: Method = "auto", *, seed: int = 0, progress: Progress = False) -> Map2D:
        """Lay the gallery out in two dimensions; show it with `Map2D.to_html` or `Map2D.save`.

        Parameters
        ----------
        method : {"auto", "tsne", "umap", "pca"}
            ``"tsne"`` lays out the graph of the 15 nearest neighbours of each item by t-SNE, so
            that similar items end up together. It needs ``pip install 'imgret[map]'``. ``"umap"``
            does the same by UMAP and needs ``pip install 'imgret[umap]'``. ``"pca"`` takes the
            first two principal components of the indexed vectors, which is fast and coarse: most
            classes overlap. ``"auto"`` takes ``"tsne"`` if it is installed. Otherwise it takes
            ``"pca"``, and the map says so.
        seed : int
            Seed of t-SNE and UMAP, which start from the principal components.
        progress : bool or callable, optional
            As for `add`; only used for t-SNE and UMAP.

        Returns
        -------
        Map2D

        Raises
        ------
        InvalidInputError
            There is no such method, there are fewer than 3 items, or all items are equal.
        MissingExtraError
            The method is not installed.
        EmptyGalleryError
            There are no items.

        References
        ----------
        L. van der Maaten and G. Hinton, "Visualizing Data using t-SNE", 2008; G. Linderman et al.,
        "Fast interpolation-based t-SNE for improved visualization of single-cell RNA-seq data",
        2019; J. N. Böhm, P. Berens and D. Kobak, "Attraction-Repulsion Spectrum in Neighbor
        Embeddings", 2022, for the graph of 15 neighbours; D. Kobak and P. Berens, "The art of using
        t-SNE for single-cell transcriptomics", 2019, for exaggeration above 100,000 items;
        L. McInnes, J. Healy and J. Melville, "UMAP: Uniform Manifold Approximation and Projection
        for Dimension Reduction", 2018; D. Kobak and G. Linderman, "Initialization is critical for
        preserving global data structure in both t-SNE and UMAP", 2021.
        """
        with self._gallery.viewed() as view:
            return curation.draw_map(
                view,
                method=method,
                seed=check_seed(seed),
                max_pixels=self._pipeline.max_pixels,
                progress=progress,
            )

    # -- inside ------------------------------------------------------------------------------

    @property
    def _fingerprint(self) -> str | None:
        """Fingerprint of the projection; scores of different ones are not comparable."""
        projection = self._gallery.projection
        return None if projection is None else projection.fingerprint

    def _embed_queries(self, images: list[ImageLike], region: Box | None) -> Embeddings:
        """Return the embeddings of images, or of the part of one."""
        if region is None:
            return self._pipeline.embed(images)
        part = cut(images[0], region, self._pipeline.max_pixels)
        return self._pipeline.embed([part], cropper=NoCrop())

    def _request(
        self,
        k: int,
        where: Mapping[str, Any] | None,
        threshold: float | None,
        precision: float | None,
        rerank: Rerank | None,
        *,
        single: bool = True,
        by_text: bool = False,
    ) -> Request:
        """Check the arguments of a search before any image is read."""
        k = check_count(k, "k")
        threshold = None if threshold is None else threshold_or_none(threshold)
        parsed = None if where is None else parse_filter(plain_filter(where))
        self._gallery.require_items()
        rerankers = () if rerank is None else find_rerankers(rerank)
        if parsed is not None:
            self._gallery.check_where(parsed)
        kept = not rerankers or all(reranker.scores == "kept" for reranker in rerankers)
        spec = self._gallery.spec
        stored = spec.text_calibration if by_text else spec.calibration
        calibration = self._calibration("texts" if by_text else "images", stored)
        if precision is not None:
            is_other = calibration is None and stored is not None
            least = learning.threshold_of(
                precision, calibration, of_another_projection=is_other, of_texts=by_text
            )
            if not (single and kept):
                found = "a re-ranking" if single else "a query of several images or texts"
                raise InvalidInputError(
                    f"precision: expected scores as they were calibrated, found those of {found}, "
                    f"which are different; leave precision out, and give a threshold for them"
                )
            threshold = least if threshold is None else max(least, threshold)
        if not (single and kept):
            calibration = None
        return Request(k, parsed, threshold, precision, rerankers, calibration)

    def _answer(self, request: Request, query: Callable[[View], tuple[Embeddings, View]]) -> Batch:
        """Search a view with the vectors of a query; repeat it if the view is stale."""
        try:
            return self._answer_now(request, query)
        except StaleViewError:
            with self._gallery.locked():  # the projection stays as it is
                return self._answer_now(request, query)

    def _answer_now(
        self, request: Request, query: Callable[[View], tuple[Embeddings, View]]
    ) -> Batch:
        view = self._gallery.view(request.where)
        calibration = request.calibration
        if calibration is not None and calibration.projection != view.projection.fingerprint:
            if request.precision is not None:
                learning.threshold_of(request.precision, None, of_another_projection=True)  # raises
            request = request._replace(calibration=None)
        vectors, view = query(view)
        batch = answer(vectors, request, view, max_pixels=self._pipeline.max_pixels)
        self._gallery.remember(batch)
        return batch

    def _classify_by(self, k: int) -> Classifier:
        """Return a classifier learned from the current gallery."""
        with self._gallery.viewed() as view:
            basis = (self._gallery.version, k)
            if self._classifier is None or self._classifier[0] != basis:
                self._classifier = basis, learning.Classifier.learn(view, k)
            return self._classifier[1]
