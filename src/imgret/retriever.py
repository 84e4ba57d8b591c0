"""The facade: images in, hits out. Each method is its documentation and a call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from imgret import registry
from imgret.abc import Cropper, Embedder, Gallery, VectorIndex
from imgret.croppers import NoCrop
from imgret.curation import (
    Clusters,
    DuplicateGroup,
    LabelIssue,
    Map2D,
    NeighborGraph,
    Outlier,
    build_neighbor_graph,
    draw_map,
    find_duplicates,
    find_mislabelled,
    find_outliers,
    fit_clusters,
)
from imgret.curation.map2d import Method
from imgret.errors import EmptyGalleryError, InvalidInputError, StoreExistsError
from imgret.evaluation import (
    CropReport,
    Recall,
    Report,
    Tuning,
    evaluate,
    measure_recall,
    report_crops,
    tune,
)
from imgret.evaluation.queries import Queries, QueryLabels
from imgret.filters import parse_filter
from imgret.galleries.local import LocalGallery
from imgret.images import MAX_PIXELS
from imgret.indexes.make import find_cropper, find_embedder
from imgret.ingest import (
    IngestReport,
    Labels,
    Metadata,
    ingest,
    ingest_folder,
    list_sources,
    one_each,
)
from imgret.ingest.again import ingest_all, items_to_reembed, update_item, whole_sources
from imgret.learning import (
    AdaptReport,
    CalibrationReport,
    Classifier,
    Name,
    ScoreCalibration,
    adapt,
    calibrate,
    given_pairs,
    near_pairs,
)
from imgret.learning.calibrate import threshold_of
from imgret.learning.curves import find_curve
from imgret.pipeline.attach import Places, attach
from imgret.pipeline.compatible import new_spec, same_cropper
from imgret.pipeline.pipeline import Late, Pipeline
from imgret.projections import LinearProjection, fit_pca
from imgret.rerank.expansion import check_alpha
from imgret.rerank.named import Rerank, find_rerankers
from imgret.search import SearchPlan, StaleViewError, View
from imgret.search.augment import augmented_embeddings
from imgret.search.hits import Batch, Hits
from imgret.search.query import check_box, check_weights, cut, several
from imgret.search.request import Request, answer, query_vector
from imgret.support.checks import check_count, check_number, check_seed, check_vectors
from imgret.support.given import (
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
from imgret.types import Box, Dtype, Embeddings, ImageLike, Item, Json, Metric

__all__ = ["Retriever"]

Mode: TypeAlias = Literal["r", "r+", "a"]

_KEEP: Any = object()
# Of the mean of the negatives, the query's being 1: best of 0.1 to 1 on Oxford 102 Flowers, the
# first three wrong hits taken for negatives.
NEGATIVE_WEIGHT = 0.25


class Retriever:
    """A gallery of images that is searched by image.

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
        ``"flat"`` (exact), ``"ivf-pq"``, ``"hnsw-sq8"``, ``"hnsw"``, ``"ivf"``,
        ``"faiss:<factory string>"``, ``"auto"``, another registered name, or an empty index
        object.
    metric : {"cosine", "ip", "l2"}
        Scores are higher-is-better for all three.
    dtype : {"float16", "float32"}
        How embeddings are kept. What is indexed and scored is what is kept.
    max_pixels : int
        Images of more pixels are refused, as queries and when they are added, since decoding
        takes 3 bytes a pixel in each thread. Pixels that will be decoded count: those of a large
        JPEG at the reduced scale that the embedder needs, so that photos of 200 megapixels are
        taken, unless they are progressive. Not kept with the gallery.

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
        embedder: str | os.PathLike[str] | Embedder = "general",
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
        self._compose(gallery, pipeline, Places(gallery))

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
        uri = os.fspath(path)
        kind = registry.gallery(uri)
        if mode not in {"r", "r+", "a"}:
            raise InvalidInputError(f"mode: expected 'r', 'r+' or 'a', found {mode!r}")
        max_pixels = check_count(max_pixels, "max_pixels")
        if mode == "a" and not kind.is_taken(uri):
            given = (embedder or "general", cropper or "none", index or "flat")
            embeds, crops = find_embedder(given[0]), find_cropper(given[1])
            spec, prepared = new_spec(
                embeds, crops, given[2], metric or "cosine", dtype or "float16"
            )
            try:
                gallery = kind.create(uri, spec, prepared)
            except StoreExistsError:
                pass  # another process has just made it: it is opened as any other would be
            else:
                pipeline = Pipeline(Late(embeds), Late(crops), max_pixels=max_pixels)
                return cls._of(gallery, pipeline, Places(gallery))
        gallery = kind.open(uri, writable=mode != "r")
        parts = {"index": index, "metric": metric, "dtype": dtype}
        found = attach(gallery, gallery.name, embedder, cropper, max_pixels=max_pixels, **parts)
        return cls._of(gallery, *found)

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
        embedder: str | os.PathLike[str] | Embedder = "general",
        cropper: str | os.PathLike[str] | Cropper | None = None,
        progress: bool | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """Make a gallery again from the images of another, with another embedder.

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
        max_pixels : int
            As for `Retriever`.

        Raises
        ------
        InvalidInputError
            An image is no longer where it was, or was never in a file; nothing is made.
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
        with self._gallery.locked():
            self._places.keep()
            self._gallery.save(None if path is None else Path(path))

    def close(self) -> None:
        """Bring the stored index up to date and let the files go; twice is fine.

        Hits found before stay valid. In a forked child nothing is written.
        """
        with self._gallery.locked():
            try:
                self._places.keep()
            finally:
                self._gallery.close()

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
    def _of(cls, gallery: Gallery, pipeline: Pipeline, places: Places) -> Self:
        self = cls.__new__(cls)
        self._compose(gallery, pipeline, places)
        return self

    def _compose(self, gallery: Gallery, pipeline: Pipeline, places: Places) -> None:
        self._gallery, self._pipeline, self._places = gallery, pipeline, places
        self._classifier: tuple[object, Classifier] | None = None  # and what it was learned from
        self._parsed: tuple[Json, ScoreCalibration] | None = None  # what the manifest holds, parsed

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
        return self._gallery.embeddings(None if keys is None else texts(keys, "keys"))

    def view(self, where: Mapping[str, Any] | None = None) -> View:
        """Return what reads the gallery as it is now: items, labels, vectors and searches.

        The functions of `imgret.curation`, `imgret.evaluation` and `imgret.learning` take it, and
        so run on a part of the gallery as well:
        ``find_duplicates(retriever.view({"label": "rose"}), threshold=0.95)``. Take another view
        after the gallery has changed.

        Parameters
        ----------
        where : mapping, optional
            Only items that pass this filter are there; see `search`.

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
        """What turns images into vectors; loaded now, if it was not needed before.

        Raises
        ------
        ModelError
            Its file is not found; give it to `open` or `load` by ``embedder=``.
        StoreMismatchError
            What is there is another model.
        """
        return self._pipeline.embedder

    @property
    def cropper(self) -> Cropper:
        """What cuts images down to their subject; loaded and raised as for `embedder`."""
        return self._pipeline.cropper

    @property
    def index(self) -> VectorIndex:
        """The index as it stands, brought up to date."""
        return self._gallery.index

    @property
    def index_reason(self) -> str | None:
        """Why ``index="auto"`` chose what it did; None for an index that was named."""
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
        """What turns scores into probabilities; None where it was not learned, or not for these.

        After `adapt` and `project` scores are others: `calibrate` has to be called again.
        """
        content = self._gallery.spec.calibration
        if content is None:
            return None
        if self._parsed is None or self._parsed[0] is not content:
            self._parsed = content, ScoreCalibration.from_json(content)
        found = self._parsed[1]
        fits = (found.metric, found.projection) == (self.metric, self._fingerprint)
        return found if fits else None

    @property
    def path(self) -> Path | None:
        """Directory of the gallery; None in memory."""
        return self._gallery.path

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
        progress: bool | None = False,
    ) -> IngestReport:
        """Add images.

        Parameters
        ----------
        images : ImageLike or iterable of ImageLike
            Paths, bytes, file objects, uint8 RGB arrays or PIL images: one, or a list, tuple,
            generator, pandas Series or array of shape (n, H, W, 3) of them.
        keys : str or sequence of str, optional
            New names; by default the path of a file, ``image-000001`` and so on for others.
        labels, metadata : optional
            One per image: a class name, where NaN counts as None; a mapping of JSON values. A set
            is refused, as it has no order.
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
            An image of a list that cannot be read is reported as failed. A single one
            raises.

        Raises
        ------
        DuplicateKeyError
            A key is given twice or is in the gallery; nothing is added.
        InvalidInputError
            Another number of keys, labels or metadata than of images.
        ImageError
            The only image cannot be read.
        """
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
        progress: bool | None = None,
    ) -> IngestReport:
        """Add every image below a folder; adding it again takes in what has changed.

        An image that cannot be read costs only itself and is reported. Its key is the path
        relative to the folder, with forward slashes. An unchanged file (same size and
        modification time, or same bytes) is skipped, a changed one is embedded again, one of
        the bytes of a file that is gone is taken for that one renamed. Labels that are given
        are taken over in any case. After an interrupt the same call goes on.

        It does not matter how the folder is spelled: links in its path are resolved. After the
        folder has been moved, its items are found again by their keys. Links to folders below it
        are followed, each folder is visited once. Hidden files and folders are passed over, and
        so are those which systems put beside images, such as ``@eaDir`` and ``__MACOSX``.

        Parameters
        ----------
        folder : path
        labels : "parent", callable, mapping or None
            Class names: the name of the folder an image lies in (none for those at the
            top); what a callable says of its path; looked up by its key; none.
        metadata : callable, mapping, path or None
            Mappings of JSON values: what a callable says of its path; looked up by its key; its
            row of a ``.csv`` or ``.jsonl`` file, which names it by ``key`` or by ``path`` (or
            ``file``), and its label by ``label``; none. What is known already is added to.
        exif : bool
            As for `add`.
        prefix : str
            Put before each key, to keep two folders apart.
        prune : bool or "all"
            Whether items whose files are gone from the folder are removed; they are reported
            either way. As a disk that is not mounted looks like a folder without files, True
            removes nothing where more than half of the folder's items, or all, would go, and
            nothing of folders below it that are there but empty; "all" does.
        exclude : str or sequence of str
            Patterns of files and folders to pass over, such as ``"raw"``, ``"*.png"`` or
            ``"2019/**/drafts"``: without a slash they are compared with each name, with one
            with the path relative to the folder, where ``**`` stands for any folders. Items of
            the gallery that lie there stay as they are.
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
        with self._gallery.changing():
            return ingest_folder(
                self._gallery,
                self._pipeline,
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

    def add_vectors(
        self,
        vectors: Any,
        *,
        keys: Iterable[str],
        labels: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
    ) -> None:
        """Add embeddings made elsewhere: all of them, or on any error none.

        Parameters
        ----------
        vectors : array of shape (n, dim)
            What the gallery's embedder would give.
        keys : iterable of str
            ``n`` new names, in the order of the vectors.
        labels, metadata : optional
            One a vector, as for `add`.
        """
        vectors = check_vectors(vectors, self._gallery.spec.dim, "vectors")
        n = len(vectors)
        with self._gallery.changing():
            sources = list_sources(
                [None] * n,
                one_each(keys, n, "keys"),
                one_each(labels, n, "labels"),
                one_each(metadata, n, "metadata"),
                self._gallery,
            )
            if sources:
                items = [Item(s.key, label=s.label, metadata=s.metadata) for s in sources]
                self._gallery.add(items, vectors)
                self._gallery.catch_up()

    def update(
        self,
        key: str,
        *,
        image: ImageLike | None = None,
        label: str | None = _KEEP,
        metadata: Mapping[str, Any] = _KEEP,
    ) -> None:
        """Change an item: its image, its label, its metadata; what is not given stays.

        Raises
        ------
        KeyNotFoundError
            The gallery does not hold the key.
        ImageError
            The new image cannot be read; the item is as it was.
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
            Of items that come from files.
        threads : int, optional
            By default one for each core.

        Returns
        -------
        IngestReport
            An item whose image cannot be read is reported as failed, and stays as it is.

        Raises
        ------
        KeyNotFoundError
            Naming the key the gallery does not hold; nothing is changed.
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
        return self._gallery.remove(list(dict.fromkeys(texts(keys, "keys", ordered=False))))

    def create_filter_index(self, field: str) -> None:
        """Make filters on a field quick that let few of many items pass.

        Kept with the gallery. Keys and labels have one from the start.

        Parameters
        ----------
        field : str
            ``path``, or a field of the metadata as `search` names it.
        """
        self._gallery.create_filter_index(one_text(field, "field"))

    # -- searching -----------------------------------------------------------------------------

    def search(
        self,
        image: ImageLike | Iterable[ImageLike],
        k: int = 10,
        *,
        weights: Iterable[float] | None = None,
        negatives: ImageLike | Iterable[ImageLike] | None = None,
        negative_weight: float = NEGATIVE_WEIGHT,
        box: Box | tuple[int, int, int, int] | None = None,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        precision: float | None = None,
        rerank: Rerank | None = None,
    ) -> Hits:
        """Find the images most like one, or like several together.

        Several images are one query: the mean of their vectors, each of length 1 for metric
        ``"cosine"``, less the mean of the negatives' times ``negative_weight`` (Rocchio 1971).

        Parameters
        ----------
        image : ImageLike, or iterable of ImageLike
            Path, bytes, file object, uint8 RGB array or PIL image; or a list, tuple, generator,
            pandas Series or array of shape (n, H, W, 3) of these.
        k : int
            Hits wanted, at least 1; more than there are gives all there are.
        weights : sequence of float, optional
            Of each image, at least 0; by default all alike.
        negatives : ImageLike, or iterable of ImageLike, optional
            Images that hits should be unlike, such as wrong hits of an earlier search.
        negative_weight : float
            0 to 100. Much over the default leads away from the query, too.
        box : Box or tuple of int, optional
            Half-open pixel box (x0, y0, x1, y1) in the image as shown, EXIF orientation applied.
            That part is searched with as it is: no cropper is asked.
        where : mapping, optional
            Only items that pass this filter are found, such as ``{"label": "rose", "year":
            {"$gte": 2020}}``: never fewer than ``k`` while that many pass. Fields are
            ``key``, ``label``, ``path`` and those of the metadata, where dots descend;
            operators ``$eq $ne $gt $gte $lt $lte $in $nin $exists $contains $and $or $not``.
        threshold : float, optional
            Hits of a lower score are left out. The score is the one that hits show: with
            ``rerank``, a score of another kind.
        precision : float, optional
            Over 0 and below 1. Hits are left out that are of the query's class with a lower
            probability than this; see `calibrate`. Not with what makes scores of another kind:
            several images, negatives, and most of ``rerank``.
        rerank : str, Reranker or sequence of these, optional
            Ranks what was found again, one after the other: ``"average-qe"``, ``"alpha-qe"``,
            ``"k-reciprocal"``, ``"diffusion"``, ``"mmr"``, or an object of `imgret.rerank`, which
            tells what scores are then. Comes back short no more than a search without.

        Returns
        -------
        Hits
            Empty, and so false, where nothing is good enough: `Hits.no_match` says how far it was
            from that.

        Raises
        ------
        ImageError
            An image cannot be read.
        EmptyGalleryError
            There is nothing to find.
        InvalidInputError
            The filter has an unknown operator, or a field that no item has; another number of
            weights than of images; a box that is empty or not inside the image; a precision
            that the scores do not have, or in a gallery that is not calibrated.
        UnknownNameError
            No re-ranker has this name.

        References
        ----------
        J. Rocchio, "Relevance Feedback in Information Retrieval", 1971.
        """
        pictures, alone = several(image, "image", images=True)
        unlike, _ = several(negatives, "negatives", images=True, least=0)
        single = len(pictures) == 1 and not unlike
        request = self._request(k, where, threshold, precision, rerank, single=single)
        weigh = check_weights(weights, len(pictures))
        negative_weight = check_number(negative_weight, "negative_weight", at_least=0, at_most=100)
        region = None if box is None else check_box(box)
        if region is not None and len(pictures) > 1:
            raise InvalidInputError(
                f"box: expected a single image with it, found {len(pictures)}; cut the others "
                f"beforehand"
            )
        if region is None:
            embeddings = self._pipeline.embed([*pictures, *unlike])
        else:
            part = cut(pictures[0], region, self._pipeline.max_pixels)
            embedding = self._pipeline.embed([part], cropper=NoCrop())
            embeddings = np.concatenate([embedding, self._pipeline.embed(unlike)])
        batch = self._answer(
            request, lambda view: (query_vector(embeddings, weigh, negative_weight, view), view)
        )
        self._gallery.settle()
        return Hits(
            batch,
            0,
            image if alone else tuple(pictures),
            negatives=tuple(unlike),
            box=region,
        )

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
        """Find the items most like one of the gallery, or like several together.

        What `search` does, by the kept embeddings: no image is read. The items that are asked
        with, negatives included, are not among the hits.

        Parameters
        ----------
        key : str, or iterable of str
            Of the items that are searched with.
        negatives : str, or iterable of str, optional
            Keys of items that hits should be unlike.
        k, weights, negative_weight, where, threshold, precision, rerank
            As for `search`.

        Returns
        -------
        Hits
            `Hits.query` is the path of the item's file, or of all the files, where there are any.

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
    ) -> list[Hits]:
        """Find the images most like each of some: every image is a query of its own.

        Takes and raises what `search` does, for several at once.

        Parameters
        ----------
        images : iterable of ImageLike
            A list, tuple, generator, pandas Series, or array of shape (n, H, W, 3). A single image
            is refused, and so is a set, which has no order.

        Returns
        -------
        list of Hits
            In the order of the images.
        """
        queries = many_images(images, "images", single="search() takes a single one")
        request = self._request(k, where, threshold, precision, rerank)
        embeddings = self._pipeline.embed(queries, threads=threads)
        batch = self._answer(request, lambda view: (view.project(embeddings, "queries"), view))
        self._gallery.settle()
        return [Hits(batch, row, query) for row, query in enumerate(queries)]

    def search_vectors(
        self,
        vectors: Any,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        precision: float | None = None,
        rerank: Rerank | None = None,
    ) -> list[Hits]:
        """Find the items nearest to embeddings.

        Parameters
        ----------
        vectors : array of shape (n, dim)
            As the gallery's embedder makes them.
        k, where, threshold, precision, rerank
            As for `search`.

        Returns
        -------
        list of Hits
            One a vector. Keys and labels are looked up when first asked for, and show what
            was in the gallery at the time of the search.
        """
        request = self._request(k, where, threshold, precision, rerank)
        batch = self._answer(request, lambda view: (view.project(vectors, "queries"), view))
        return [Hits(batch, row) for row in range(len(batch))]

    def embed(self, images: Iterable[ImageLike], *, threads: int | None = None) -> Embeddings:
        """Crop and embed images as the gallery does, adding nothing.

        Parameters
        ----------
        images : iterable of ImageLike
            Several, as for `search_many`; a single one goes in as ``[image]``.
        threads : int, optional
            By default one for each core.

        Returns
        -------
        float32 array of shape (n, dim)

        Raises
        ------
        ImageError
            One of them cannot be read.
        """
        several_ = many_images(images, "images", single="a single one goes in as [image]")
        return self._pipeline.embed(several_, threads=threads)

    def explain(
        self, k: int = 10, *, where: Mapping[str, Any] | None = None, n_queries: int = 1
    ) -> SearchPlan:
        """Say which way a search goes, and why; nothing is searched.

        Parameters
        ----------
        k : int
        where : mapping, optional
            As for `search`.
        n_queries : int
            Queries asked at once; the more, the sooner comparing with all that match is cheapest.

        Returns
        -------
        SearchPlan
            What the index does without a filter; beside what passes a filter, whether the index
            looks for it, or all that passes is compared.

        Raises
        ------
        InvalidInputError
            As for `search`.
        EmptyGalleryError
            There are no items.
        """
        parsed = None if where is None else parse_filter(plain_filter(where))
        return self._gallery.explain(k, parsed, n_queries)

    def classify(self, image: ImageLike, k: int = 10, *, threshold: float | None = None) -> Name:
        """Tell the name of what an image shows, or that it is unknown.

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
        asked = one_image(image, "image", several="classify_many()")
        return self.classify_many([asked], k, threshold=threshold)[0]

    def classify_many(
        self,
        images: Iterable[ImageLike],
        k: int = 10,
        *,
        threshold: float | None = None,
        threads: int | None = None,
    ) -> list[Name]:
        """Name each of some images: see `classify` and, for what they may be, `search_many`."""
        queries = many_images(images, "images", single="classify() takes a single one")
        if (threshold := threshold_or_none(threshold)) is not None and not 0 <= threshold <= 1:
            raise InvalidInputError(
                f"threshold: expected a confidence between 0 and 1, found {threshold!r}"
            )
        classifier = self._classify_by(check_count(k, "k"))
        found = self.search_many(queries, k, threads=threads)
        return [classifier.name(hits, threshold) for hits in found]

    # -- how it searches -----------------------------------------------------------------------

    def reindex(self, index: str | VectorIndex | None = None, **options: Any) -> None:
        """Rebuild the index from the kept embeddings; no image is read.

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
        """Find the fastest options of search that reach a recall, and keep them.

        The true neighbours of some queries are found by comparing with everything. Then
        the options of the index (``ef_search``, ``nprobe``, ``refine``) are tried, and the
        cheapest that finds enough of them is used from now on: it is part of the manifest until
        another index is chosen. The gallery cannot be changed meanwhile; searches can be made,
        by the options that are being tried.

        Parameters
        ----------
        recall : float
            Share of the true ``k`` nearest to be found, over 0 and at most 1.
        k : int
            Fewer than there are items.
        queries : iterable of ImageLike, optional
            Images like those that will be searched with. By default items of the gallery are
            asked for others, as by `recall`.
        n_queries : int
            How many items are asked where no queries are given.
        seed : int
            Of the draw.

        Returns
        -------
        Tuning
            All that was measured, and what was chosen: a table by ``print``, a plot in a
            notebook and by ``to_svg``.

        Raises
        ------
        InvalidInputError
            Fewer than 100 items, a number out of its range, or a recall that no option reaches:
            nothing is changed.
        EmptyGalleryError
            There are no items.
        StoreReadOnlyError
            The gallery was opened for reading.
        """
        if queries is not None:
            queries = many_images(queries, "queries", single="give a list of them")
        with self._gallery.changing(), self._gallery.viewed() as view:
            tuning = tune(
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
        """Choose the map from embedding to indexed vector; no image is read.

        The full embeddings stay kept, so that this can be changed and undone.

        Parameters
        ----------
        kind : {"pca", None}
            Principal components of the gallery's embeddings, or none.
        dim : int
            Dimension to keep.
        whiten : float
            0 keeps variances, 1 evens them out; between them, a power between. 0.5 is best
            where the images are of one kind and differ in detail; it costs a little where
            they are of many kinds.

        Raises
        ------
        EmptyGalleryError
            There is nothing to fit on.
        InvalidInputError
            ``dim`` above the embedding's, or above what the items can tell.
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
        """Learn from the labels what tells the classes apart, and search by that.

        A discriminant projection (LDA with shrinkage) is tried by cross-validation: what it
        is measured with is never what it was fitted on. If top-1 surely rises, it is fitted
        on all that is labelled and the index is rebuilt; else the gallery stays as it is.
        No image is read. Items added later are searched by the same projection; call it
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
        if dim is not None:
            dim = check_count(dim, "dim")
        started = time.perf_counter()
        self._gallery.need("projection")
        with self._gallery.changing(), self._gallery.viewed() as view:
            projection, report = adapt(view, dim=dim, shrinkage=shrinkage)
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
        """Learn how likely it is that a hit of some score is of the query's class.

        `search` then takes a precision instead of a threshold, and its hits have probabilities.
        What is learned is kept in the manifest. It holds for the metric and the projection in
        use, and as long as the gallery does not change much: call it again after `adapt`, after
        `project`, and after many items were added. No image is read.

        Parameters
        ----------
        pairs : iterable of (key, key, bool), optional
            Items, and whether they are of one class. By default labelled items with their nearest
            labelled others; where the gallery was adapted, items by a projection that was fitted
            without them. Of pairs that are given nobody knows whether the projection was fitted
            to them: take items that had no label when `adapt` was called.
        method : {"isotonic", "logistic"}
            Any curve that never falls, by pool-adjacent-violators, or the logistic function of a
            line, which is better with fewer than some thousand pairs.
        k : int
            Others an item is paired with.
        n_queries : int
            Items that are paired; all of them where there are fewer.
        seed : int
            Of the draw, and of the folds of the cross-validation.

        Returns
        -------
        CalibrationReport
            How good it is on images that were held out, and what a precision costs.

        Raises
        ------
        InvalidInputError
            There are too few pairs of one class or of different ones, or a pair is none.
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
        find_curve(method)
        k, n_queries, seed = (
            check_count(k, "k"),
            check_count(n_queries, "n_queries"),
            check_seed(seed),
        )
        with self._gallery.changing(), self._gallery.viewed() as view:
            if pairs is None:
                known = near_pairs(view, k=k, n_queries=n_queries, seed=seed)
            else:
                known = given_pairs(view, pairs)
            learned, report = calibrate(
                known, method=method, metric=view.metric, projection=self._fingerprint, seed=seed
            )
            self._gallery.change_spec(calibration=learned.to_json())
            return report

    def augmented(self, k: int = 10, *, alpha: float = 0.0) -> Self:
        """Return a gallery in memory of the same items, moved towards their nearest.

        Neighbours of one class come closer together, so that a query that finds one of them finds
        the others. The neighbours are found by the index, and read in pieces. What is kept of each
        item is a weighted mean of embeddings; keys, labels, metadata, paths and boxes are the
        same, and so are projection and kind of index. What `calibrate` and `tune` learned is not
        taken over, as scores are others. Leave-one-out figures of such a gallery flatter: its
        items know each other. Measure with images that are not in it.

        Parameters
        ----------
        k : int
            Items whose mean is taken, the item itself included.
        alpha : float
            Items weigh their cosine to the power ``alpha``, negative cosines nothing; with 0 all
            alike.

        Returns
        -------
        Retriever

        Raises
        ------
        EmptyGalleryError
            There are no items.
        InvalidInputError
            A number is out of its range.

        References
        ----------
        As for `imgret.rerank.augment_gallery`.
        """
        k, alpha = check_count(k, "k"), check_alpha(alpha)
        with self._gallery.viewed() as view:
            spec = self._gallery.spec.with_(projection=None, tuned=None, calibration=None)
            gallery = LocalGallery.in_memory(spec)
            for ids, embeddings in augmented_embeddings(view, k, alpha):
                gallery.store.add(embeddings, list(view.items(ids)))
            gallery.project(self.projection)
            return self._of(gallery, self._pipeline, Places(gallery))

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

        Without queries every labelled item is asked for the others (leave-one-out), by its
        stored embedding: no image is read. An item that is the query itself, by its path
        or by the sha256 of its file, is left out of that query's ranking. A query that
        cannot be read, or that has nothing to find, counts as 0 and is reported. The gallery
        cannot be changed meanwhile.

        Parameters
        ----------
        queries : path or iterable of ImageLike, optional
            A folder, searched through, or images.
        labels : sequence of str, "parent", callable or mapping
            The class of each query: one per image; the name of the folder it lies in (the
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
        with self._gallery.viewed() as view:
            return evaluate(
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

        Some items, drawn at random, are asked for their ``k`` nearest others, by the index and by
        an exact search of the kept embeddings. Of items that are equally near any will do.

        A graph (``"hnsw"``, ``"hnsw-sq8"``) finds what is in it more easily than a new image, and
        cells and codes (``"ivf"``, ``"ivf-pq"``) suit what they were trained on. So up to 20,000
        items ask an index of the rest, which is built for it in seconds. In a larger gallery
        vectors are made up for a graph that lie between items as new ones would, and the interval
        reaches from somewhat below their recall to that of the items.

        Parameters
        ----------
        k : int
            Fewer than there are items.
        queries : sequence of ImageLike, optional
            Images like those that will be searched with. By default items of the gallery are asked
            for others. New images may lie farther from all items than these do from each other,
            above all where the embedder was trained on the items: then only queries tell.
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
        with self._gallery.viewed() as view:
            embeddings = None if queries is None else self.embed(queries)
            return measure_recall(
                view, k=k, queries=embeddings, n_queries=n_queries, seed=check_seed(seed)
            )

    def crop_report(
        self,
        cropper: str | os.PathLike[str] | Cropper | None = None,
        *,
        n_worst: int = 24,
        threads: int | None = None,
    ) -> CropReport:
        """Measure what cropping does to retrieval, on the gallery's labelled images.

        Each image is read again and embedded whole and cropped. Every one is then asked for the
        others: among whole images, among crops, and among the means of both embeddings
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
            cropper = self.cropper if self.cropper.crops else "saliency"

        def beside(vectors: Embeddings, keys: list[str], labels: list[str]) -> Report:
            """Evaluate embeddings in a gallery of their own, leave one out."""
            other = type(self)(embedder=self.embedder, metric=self.metric, dtype="float32")
            other.add_vectors(vectors, keys=keys, labels=labels)
            return other.evaluate(k=(1, 5))

        with self._gallery.viewed() as view:
            return report_crops(
                view,
                self.embedder,
                find_cropper(cropper),
                search_in=beside,
                n_worst=n_worst,
                threads=threads,
                max_pixels=self._pipeline.max_pixels,
            )

    # -- the gallery as a whole ----------------------------------------------------------------

    def duplicates(self, threshold: float) -> list[DuplicateGroup]:
        """Find items that are almost the same.

        Two items are joined whose score reaches the threshold, and so are those that others
        join. An exact index misses none, however many are alike; one that is not may miss pairs
        of its own approximation (`recall` tells how many), but never items of equal embeddings.

        Parameters
        ----------
        threshold : float
            At most 1 for metric ``"cosine"``, at most 0 for ``"l2"``, where scores are minus
            squared distances. With the embedder ``"general"``, 0.95 is a good start; for nothing
            but the same shot, 0.98.

        Returns
        -------
        list of DuplicateGroup
            Each item is in one group at most. The largest group comes first, of equals the one
            most alike.

        Raises
        ------
        InvalidInputError
            The threshold is out of its range.
        EmptyGalleryError
            There are no items.

        Examples
        --------
        >>> for group in retriever.duplicates(0.95):  # doctest: +SKIP
        ...     retriever.remove(group.keys[1:])
        """
        with self._gallery.viewed() as view:
            return find_duplicates(view, threshold=threshold)

    def clusters(self, n: int, *, seed: int = 0) -> Clusters:
        """Part the gallery into clusters by k-means.

        Spherical k-means for metric ``"cosine"``, Euclidean for the others, of the indexed
        vectors. The centroids are learned from at most 256 items a cluster, drawn at random;
        then every item is assigned to the nearest.

        Parameters
        ----------
        n : int
            At most as many as there are items. There may be fewer clusters in the end, where
            fewer items differ.
        seed : int
            Of the draw and of the first centroids: the same one gives the same clusters.

        Returns
        -------
        Clusters

        Raises
        ------
        InvalidInputError
            ``n`` is out of its range.
        EmptyGalleryError
            There are no items.

        References
        ----------
        S. Lloyd, "Least Squares Quantization in PCM", 1982; I. Dhillon and D. Modha, "Concept
        Decompositions for Large Sparse Text Data using Clustering", 2001, for the spherical kind.
        """
        with self._gallery.viewed() as view:
            return fit_clusters(view, n=n, seed=check_seed(seed))

    def neighbor_graph(self, k: int = 10) -> NeighborGraph:
        """Find the nearest others of every item.

        Parameters
        ----------
        k : int
            Others of each item; all of them where there are fewer.

        Returns
        -------
        NeighborGraph
            As good as the index: see `recall`.

        Raises
        ------
        InvalidInputError
            ``k`` is below 1.
        EmptyGalleryError
            There are no items.
        """
        with self._gallery.viewed() as view:
            return build_neighbor_graph(view, k=k)

    def outliers(self, n: int = 100, *, k: int = 10) -> list[Outlier]:
        """Find the items that are least like any others: what may not belong here.

        They are ranked by the mean score of their ``k`` nearest others.

        Parameters
        ----------
        n : int
            How many to return; all where there are fewer.
        k : int
            Others of each item; all of them where there are fewer. A group of up to ``k`` alike
            stands out as well.

        Returns
        -------
        list of Outlier
            The lowest score first; none where there is but one item.

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
            return find_outliers(view, k=k, n=n)

    def mislabelled(self, *, k: int = 20, threshold: float = 0.5) -> list[LabelIssue]:
        """Find the items that may have the wrong label.

        The nearest others that have a label vote for theirs, the nearest with weight 1, the
        farthest with weight 0, by score between them. What counts is by how much another label
        leads over the item's own. An item whose label no other has is left out. After
        `adapt` the vote is a good deal surer, wrong labels or not.

        Parameters
        ----------
        k : int
            Others that vote; all of them where there are fewer. Best about the size of a class.
        threshold : float
            Items of a lower confidence are left out: 0 to 1. Low, it finds more that are wrong,
            and more that are right.

        Returns
        -------
        list of LabelIssue
            The surest first.

        Raises
        ------
        InvalidInputError
            A number is out of its range, or there are fewer than two labels.
        EmptyGalleryError
            There are no items.

        References
        ----------
        D. Wilson, "Asymptotic Properties of Nearest Neighbor Rules Using Edited Data", 1972;
        S. Dudani, "The Distance-Weighted k-Nearest-Neighbor Rule", 1976, for the weights.
        """
        with self._gallery.viewed() as view:
            return find_mislabelled(view, k=k, threshold=threshold)

    def map2d(self, method: Method = "pca", *, seed: int = 0) -> Map2D:
        """Lay the gallery out in the plane, to be looked at: `Map2D.to_html`, `Map2D.save`.

        Parameters
        ----------
        method : {"pca", "umap"}
            The two principal components of the indexed vectors: at once, and coarse. Or UMAP,
            started from these: the graph of the 14 nearest others of each item, unfolded; what
            is alike ends up together. It needs ``pip install 'imgret[umap]'``.
        seed : int
            Of UMAP.

        Returns
        -------
        Map2D

        Raises
        ------
        InvalidInputError
            There is no such method, there are fewer than 3 items, or all of them are equal.
        MissingExtraError
            UMAP is not installed.
        EmptyGalleryError
            There are no items.

        References
        ----------
        L. McInnes, J. Healy and J. Melville, "UMAP: Uniform Manifold Approximation and Projection
        for Dimension Reduction", 2018; D. Kobak and G. Linderman, "Initialization is critical for
        preserving global data structure in both t-SNE and UMAP", 2021.
        """
        with self._gallery.viewed() as view:
            return draw_map(
                view,
                method=method,
                seed=check_seed(seed),
                max_pixels=self._pipeline.max_pixels,
            )

    # -- inside ------------------------------------------------------------------------------

    @property
    def _fingerprint(self) -> str | None:
        """Of the projection: scores of another are not comparable."""
        projection = self._gallery.projection
        return None if projection is None else projection.fingerprint

    def _request(
        self,
        k: int,
        where: Mapping[str, Any] | None,
        threshold: float | None,
        precision: float | None,
        rerank: Rerank | None,
        *,
        single: bool = True,
    ) -> Request:
        """Check what is asked for, before any image is read."""
        k = check_count(k, "k")
        threshold = None if threshold is None else threshold_or_none(threshold)
        parsed = None if where is None else parse_filter(plain_filter(where))
        self._gallery.require_items()
        rerankers = () if rerank is None else find_rerankers(rerank)
        if parsed is not None:
            self._gallery.check_where(parsed)
        kept = not rerankers or all(reranker.scores == "kept" for reranker in rerankers)
        calibration = self.calibration
        if precision is not None:
            is_other = calibration is None and self._gallery.spec.calibration is not None
            least = threshold_of(precision, calibration, of_another_projection=is_other)
            if not (single and kept):
                raise InvalidInputError(
                    f"precision: expected scores as they were calibrated, found those of "
                    f"{'a re-ranking' if single else 'a query of several images'}, which are "
                    f"different; leave precision out, and give a threshold of that kind"
                )
            threshold = least if threshold is None else max(least, threshold)
        if not (single and kept):
            calibration = None
        return Request(k, parsed, threshold, precision, rerankers, calibration)

    def _answer(self, request: Request, query: Callable[[View], tuple[Embeddings, View]]) -> Batch:
        """Search with the vectors that a query is, in a view; again where that is stale."""
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
                threshold_of(request.precision, None, of_another_projection=True)  # raises
            request = request._replace(calibration=None)
        vectors, view = query(view)
        batch = answer(vectors, request, view, max_pixels=self._pipeline.max_pixels)
        self._gallery.remember(batch)
        return batch

    def _classify_by(self, k: int) -> Classifier:
        """Return what classifies, learned from the gallery as it is now."""
        with self._gallery.viewed() as view:
            basis = (self._gallery.version, k)
            if self._classifier is None or self._classifier[0] != basis:
                self._classifier = basis, Classifier.learn(view, k)
            return self._classifier[1]
