"""A gallery that is measured."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imgret.abc import Cropper
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
from imgret.galleries.local.planner import SearchPlan
from imgret.indexes.make import find_cropper
from imgret.retriever.changing import Changing
from imgret.retriever.searching import Searching
from imgret.support.checks import check_count, check_seed
from imgret.support.given import many_images, plain_filter
from imgret.types import Embeddings, ImageLike

__all__ = ["Measuring"]


class Measuring(Changing, Searching):
    """How well it finds, and at what cost."""

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
            return evaluate(
                self._view(),
                None if queries is None else self.embedder,
                None if queries is None else self.cropper,
                queries=queries,
                labels=labels,
                k=k,
                near_identical=near_identical,
                n_resamples=n_resamples,
                seed=seed,
                threads=threads,
                max_pixels=self._max_pixels,
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

        A graph (``"hnsw"``, ``"hnsw-sq8"``) finds what is in it more easily than a new image. There
        the items ask a graph of the rest, which is built for it: seconds for 20,000 items. In a
        larger gallery vectors are made up that lie between items as new ones would, and the
        interval reaches from somewhat below their recall to that of the items.

        Parameters
        ----------
        k : int
            Fewer than there are items.
        queries : sequence of ImageLike, optional
            Images like those that will be searched with. By default items of the gallery are asked
            for others; new images are often farther from all items than these from each other.
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
            return measure_recall(
                self._view(),
                k=k,
                queries=None if queries is None else self.embed(queries),
                n_queries=n_queries,
                seed=check_seed(seed),
            )

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
        self._require_items()
        return self._searcher.explain(k, plain_filter(where), n_queries)

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
        seed = check_seed(seed)
        if queries is not None:
            queries = many_images(queries, "queries", single="give a list of them")
        with self._changing:
            self._store.check_writable()
            tuning = tune(
                self._view(),
                recall=recall,
                k=k,
                queries=None if queries is None else self._embed(queries, self.cropper),
                n_queries=n_queries,
                seed=seed,
            )
            kept = {"recall": recall, "k": k, "reached": tuning.chosen.recall}
            self._searcher.configure(
                {"index": tuning.index, "settings": tuning.chosen.settings, **kept}
            )
            return tuning

    def crop_report(
        self,
        cropper: str | os.PathLike[str] | Cropper | None = None,
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
            cropper = self.cropper if self.cropper.crops else "saliency"
        with self._changing:
            return report_crops(
                self._view(),
                self.embedder,
                find_cropper(cropper),
                search_in=self._beside,
                n_worst=n_worst,
                threads=threads,
                max_pixels=self._max_pixels,
            )

    def _beside(self, vectors: Embeddings, keys: list[str], labels: list[str]) -> Report:
        """Evaluate embeddings in a gallery of their own, leave one out."""
        beside = type(self)(embedder=self.embedder, metric=self.metric, dtype="float32")
        beside.add_vectors(vectors, keys=keys, labels=labels)
        return beside.evaluate(k=(1, 5))
