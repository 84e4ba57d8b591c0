"""A gallery that is changed: items, index, projection."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from imgret.abc import Cropper, Embedder, VectorIndex
from imgret.croppers import NoCrop
from imgret.errors import EmptyGalleryError, ImgretError, InvalidInputError
from imgret.galleries.local.compatible import same_cropper
from imgret.galleries.local.store import Store
from imgret.images import MAX_PIXELS
from imgret.indexes.make import index_part
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
from imgret.ingest.losses import Spared, spare
from imgret.ingest.progress import progress_bar
from imgret.ingest.sources import Found, check_sources
from imgret.learning import AdaptReport, adapt
from imgret.projections import fit_pca
from imgret.retriever.gallery import Gallery
from imgret.support.checks import check_count, check_vectors
from imgret.support.given import (
    label_or_none,
    one_image,
    one_or_many_images,
    one_text,
    plain_metadata,
    texts,
)
from imgret.types import ImageLike, Item, Part

__all__ = ["Changing"]


_KEEP: Any = object()


class Changing(Gallery):
    """Adding, removing, and what is made of the embeddings."""

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
        max_pixels : int
            As for `Retriever`.

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
            cropper=same_cropper(manifest, Path(path).absolute(), None).made
            if cropper is None
            else cropper,
            metric=manifest.metric,
            dtype=manifest.dtype,
            max_pixels=max_pixels,
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
        """Add pictures.

        Parameters
        ----------
        images : ImageLike or iterable of ImageLike
            Paths, bytes, file objects, uint8 RGB arrays or PIL images: one, or a list, tuple,
            generator, pandas Series or array of shape (n, H, W, 3) of them.
        keys : str or sequence of str, optional
            New names; by default the path of a file, ``image-000001`` and so on for others.
        labels, metadata : optional
            One a picture: a class name, where NaN counts as None; a mapping of JSON values. A set
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
        many, single = one_or_many_images(images, "images")
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
        prune: bool | Literal["all"] = False,
        exclude: str | Sequence[str] = (),
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

        It does not matter how the folder is spelled: links in its path are resolved. After the
        folder has been moved, its items are found again by their keys. Links to folders below it
        are followed, each folder is visited once. Hidden files and folders are passed over, and
        so are those which systems put beside images, such as ``@eaDir`` and ``__MACOSX``.

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
        if prune is not True and prune is not False and prune != "all":
            raise InvalidInputError(f"prune: expected True, False or 'all', found {prune!r}")
        with self._changing:
            self._store.check_writable()
            if isinstance(metadata, (str, os.PathLike)):
                rows = read_sidecar(Path(metadata), Path(folder), prefix)
                metadata, labels = rows.facts, rows.labels if labels is None else labels
            catalog = self._store.catalog
            found = folder_sources(Path(folder), labels, prefix, catalog, exclude)
            described = describe(found.sources, metadata)
            if found.moved:  # so that they are known to be of this folder from now on
                catalog.replace_all(found.moved)
            report = self._ingest(
                described.sources,
                exif=exif,
                duplicates=duplicates,
                threads=threads,
                progress=progress,
                found=found,
                prune=prune,
            )
        report.ignored, report.ignored_suffixes = sum(found.ignored.values()), found.ignored
        report.excluded, report.repeated_links = found.excluded, found.repeated
        report.unmatched, report.undescribed = described.unmatched, described.undescribed
        report.record(found.failed)
        return report

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
        names = list(dict.fromkeys(texts(keys, "keys", ordered=False)))
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
        if image is not None:
            image = one_image(image, "image")
        key = one_text(key, "key")
        with self._changing:
            self._store.check_writable()
            (id_,) = self._store.catalog.require([key])
            item = self._store.catalog.items([id_])[id_]
            key = item.key  # which may be spelled otherwise
            now = replace(
                item,
                label=item.label if label is _KEEP else label_or_none(label),
                metadata=item.metadata if metadata is _KEEP else plain_metadata(metadata, key),
            )
            source = Source(key, image, path_of(image), now.label, now.metadata, Known(id_, now))
            check_sources([source])
            self._settle()
            if image is not None:
                self._ingest([source], progress=False, raise_failures=True)
            if self._store.catalog.ids_of([key])[key] == id_:  # not embedded anew
                self._store.catalog.replace(id_, now)

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
        names = list(dict.fromkeys(texts(keys, "keys", ordered=False)))
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

    def adapt(self, *, dim: int | None = None, shrinkage: float | None = None) -> AdaptReport:
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
            if dim is not None:
                dim = check_count(dim, "dim")
            started = time.perf_counter()
            projection, report = adapt(self._view(), dim=dim, shrinkage=shrinkage)
            if projection is not None:
                self._searcher.project(projection)
            return replace(report, seconds=time.perf_counter() - started)

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
            self._store.catalog.create_filter_index(one_text(field, "field"))

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
        found: Found | None = None,
        prune: bool | Literal["all"] = False,
    ) -> IngestReport:
        if duplicates not in {"add", "skip"}:
            raise InvalidInputError(f"duplicates: expected 'add' or 'skip', found {duplicates!r}")
        if threads is not None:
            check_count(threads, "threads")
        report = IngestReport()
        started = time.perf_counter()
        writer = Writer(
            self._store,
            report,
            skip_duplicates=duplicates == "skip",
            vanished=None if found is None else found.vanished,
        )
        # An item of the same bytes lends its embedding, unless that was cropped otherwise.
        find_twin = self._find_twin if cropper is None else None
        bar = progress_bar(progress, total=len(sources), unit="img", desc="indexing")
        self._settle()
        with bar:
            try:
                for outcomes in embed_sources(
                    sources,
                    self.embedder,
                    self.cropper if cropper is None else cropper,
                    find_twin=find_twin,
                    refuse=self._store.refusals,
                    exif=exif,
                    threads=threads,
                    max_pixels=self._max_pixels,
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
        if found is not None:
            self._prune(writer.vanished, found, report, prune)
        self._sync_after_adding()
        report.seconds = time.perf_counter() - started
        return report

    def _prune(
        self,
        vanished: Mapping[int, Item],
        found: Found,
        report: IngestReport,
        prune: bool | Literal["all"],  # noqa: FBT001  # passed on from an option of that name
    ) -> None:
        """Report what is gone from a folder, and remove it if that is wanted and safe."""
        spared = Spared({}, "")
        if prune is True:
            renamed = len(found.vanished) - len(vanished)
            known = sum(source.known is not None for source in found.sources)
            lost = {id_: found.lost[id_] for id_ in vanished}
            spared = spare(lost, known + renamed, found.root)
        going = [id_ for id_ in vanished if prune and id_ not in spared.reasons]
        if going:
            self._store.remove(going)
        if spared.reasons:
            report.unpruned = len(spared.reasons)
            report.warnings.append(spared.warning)
        otherwise = "removed" if prune else "prune=True removes it"
        report.record(
            Line(
                "vanished",
                item.key,
                item.path,
                f"its file is gone; {spared.reasons.get(id_, otherwise)}",
            )
            for id_, item in vanished.items()
        )

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
