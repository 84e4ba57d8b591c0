"""A gallery that is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgret.abc import Cropper
from imgret.croppers import NoCrop
from imgret.errors import InvalidInputError
from imgret.filters import Filter, parse_filter
from imgret.galleries.local.view import LocalView
from imgret.ingest import (
    Source,
    embed_sources,
    path_of,
)
from imgret.learning import Classifier, Name, ScoreCalibration
from imgret.rerank import Asked, Reranker
from imgret.rerank.named import Rerank, find_rerankers, rank_anew, wanted
from imgret.retriever.augmenting import Augmenting
from imgret.retriever.calibrating import Calibrating
from imgret.search import View
from imgret.search.hits import Batch, Hits
from imgret.search.query import check_box, check_weights, combined, cut, several
from imgret.support.checks import check_count, check_number
from imgret.support.given import many_images, one_image, plain_filter, threshold_or_none
from imgret.types import Box, Embeddings, ImageLike, Metric

__all__ = ["Searching"]

# Of the mean of the negatives, the query's being 1: best of 0.1 to 1 on Oxford 102 Flowers, the
# first three wrong hits taken for negatives.
NEGATIVE_WEIGHT = 0.25


class _Wish(NamedTuple):
    """What is wanted of a search, checked."""

    k: int
    where: Filter | None
    threshold: float | None
    rerankers: tuple[Reranker, ...]
    calibration: ScoreCalibration | None


class Searching(Augmenting, Calibrating):
    """Search by picture and by vector, and names."""

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
        """Find the pictures most like one, or like several together.

        Several pictures are one query: the mean of their vectors, each of length 1 for metric
        ``"cosine"``, less the mean of the negatives' times ``negative_weight`` (Rocchio 1971).

        Parameters
        ----------
        image : ImageLike, or iterable of ImageLike
            Path, bytes, file object, uint8 RGB array or PIL image; or a list, tuple, generator,
            pandas Series or array of shape (n, H, W, 3) of these.
        k : int
            Hits wanted, at least 1; more than there are gives all there are.
        weights : sequence of float, optional
            Of each picture, at least 0; by default all alike.
        negatives : ImageLike, or iterable of ImageLike, optional
            Pictures that hits should be unlike, such as wrong hits of an earlier search.
        negative_weight : float
            0 to 100. Much over the default leads away from the query, too.
        box : Box or tuple of int, optional
            Half-open pixel box (x0, y0, x1, y1) in the picture as shown, EXIF orientation applied.
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
            several pictures, negatives, and most of ``rerank``.
        rerank : str, Reranker or sequence of these, optional
            Ranks what was found anew, one after the other: ``"average-qe"``, ``"alpha-qe"``,
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
            A picture cannot be read.
        EmptyGalleryError
            There is nothing to find.
        InvalidInputError
            The filter has an unknown operator, or a field that no item has; another number of
            weights than of pictures; a box that is empty or not inside the picture; a precision
            that the scores do not have, or in a gallery that is not calibrated.
        UnknownNameError
            No re-ranker has this name.

        References
        ----------
        J. Rocchio, "Relevance Feedback in Information Retrieval", 1971.
        """
        where = plain_filter(where)
        pictures, alone = several(image, "image", images=True)
        unlike, _ = several(negatives, "negatives", images=True, least=0)
        wish = self._wish(k, where, threshold, precision, rerank, single=_single(pictures, unlike))
        weigh = check_weights(weights, len(pictures))
        negative_weight = check_number(negative_weight, "negative_weight", at_least=0, at_most=100)
        region = None if box is None else check_box(box)
        if region is not None and len(pictures) > 1:
            raise InvalidInputError(
                f"box: expected a single picture with it, found {len(pictures)}; cut the others "
                f"beforehand"
            )
        if region is None:
            embeddings = self._embed([*pictures, *unlike], self.cropper)
        else:
            part = self._embed([cut(pictures[0], region, self._max_pixels)], NoCrop())
            embeddings = np.concatenate([part, self._embed(unlike, self.cropper)])
        view = LocalView(self._store, self._searcher, wish.where)
        query = self._query(embeddings, weigh, negative_weight, view)
        batch = self._batch(query, wish, view)
        self._settle()
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

        What `search` does, by the kept embeddings: no picture is read. The items that are asked
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
        where = plain_filter(where)
        keys, alone = several(key, "key")
        unlike, _ = several(negatives, "negatives", least=0)
        wish = self._wish(k, where, threshold, precision, rerank, single=_single(keys, unlike))
        weigh = check_weights(weights, len(keys))
        negative_weight = check_number(negative_weight, "negative_weight", at_least=0, at_most=100)
        ids = self._store.catalog.require([*keys, *unlike])
        items = self._store.catalog.items(ids)
        view = LocalView(self._store, self._searcher, wish.where, without=sorted(set(ids)))
        embeddings = self._store.read(np.array(ids, dtype=np.int64))
        query = self._query(embeddings, weigh, negative_weight, view)
        batch = self._batch(query, wish, view)
        paths = [items[id_].path for id_ in ids]
        shown = tuple(path for path in paths[: len(keys)] if path is not None)
        return Hits(
            batch,
            0,
            (shown[0] if shown else None) if alone else shown,
            negatives=tuple(path for path in paths[len(keys) :] if path is not None),
            box=items[ids[0]].box if len(keys) == 1 else None,
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
        """Find the pictures most like each of some: every picture is a query of its own.

        Takes and raises what `search` does, for several at once.

        Parameters
        ----------
        images : iterable of ImageLike
            A list, tuple, generator, pandas Series, or array of shape (n, H, W, 3). A single image
            is refused, and so is a set, which has no order.

        Returns
        -------
        list of Hits
            In the order of the pictures.
        """
        queries = many_images(images, "images", single="search() takes a single one")
        where = plain_filter(where)
        wish = self._wish(k, where, threshold, precision, rerank)
        view = LocalView(self._store, self._searcher, wish.where)
        vectors = view.project(self._embed(queries, self.cropper, threads), "queries")
        batch = self._batch(vectors, wish, view)
        self._settle()
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
        where = plain_filter(where)
        wish = self._wish(k, where, threshold, precision, rerank)
        view = LocalView(self._store, self._searcher, wish.where)
        batch = self._batch(view.project(vectors, "queries"), wish, view)
        return [Hits(batch, row) for row in range(len(batch))]

    def embed(self, images: Iterable[ImageLike], *, threads: int | None = None) -> Embeddings:
        """Crop and embed pictures as the gallery does, adding nothing.

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
        several = many_images(images, "images", single="a single one goes in as [image]")
        return self._embed(several, self.cropper, threads)

    def _embed(
        self, images: Sequence[ImageLike], cropper: Cropper, threads: int | None = None
    ) -> Embeddings:
        if threads is not None:
            threads = check_count(threads, "threads")
        sources = [Source(str(n), image, path_of(image)) for n, image in enumerate(images)]
        embeddings = np.empty((len(sources), self.embedder.dim), dtype=np.float32)
        done = 0
        for outcomes in embed_sources(
            sources, self.embedder, cropper, threads=threads, max_pixels=self._max_pixels
        ):
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                embeddings[done] = outcome.embedding
                done += 1
        return embeddings

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
        """Name each of some pictures: see `classify` and, for what they may be, `search_many`."""
        queries = many_images(images, "images", single="classify() takes a single one")
        if (threshold := threshold_or_none(threshold)) is not None and not 0 <= threshold <= 1:
            raise InvalidInputError(
                f"threshold: expected a confidence between 0 and 1, found {threshold!r}"
            )
        classifier = self._classify_by(check_count(k, "k"))
        found = self.search_many(queries, k, threads=threads)
        return [classifier.name(hits, threshold) for hits in found]

    def _wish(
        self,
        k: int,
        where: Mapping[str, Any] | None,
        threshold: float | None,
        precision: float | None,
        rerank: Rerank | None,
        *,
        single: bool = True,
    ) -> _Wish:
        """Check what is asked for, before any picture is read."""
        k, threshold = check_count(k, "k"), threshold_or_none(threshold)
        self._require_items()
        rerankers = find_rerankers(rerank)
        parsed = None if where is None else parse_filter(where)
        if parsed is not None:
            self._store.catalog.check_where(parsed)
        kept = not rerankers or all(reranker.scores == "kept" for reranker in rerankers)
        if precision is not None:
            least = self._threshold_of(precision)
            if not (single and kept):
                raise InvalidInputError(
                    f"precision: expected scores as they were calibrated, found those of "
                    f"{'a re-ranking' if single else 'a query of several pictures'}, which are "
                    f"others; leave precision out, and give a threshold of that kind"
                )
            threshold = least if threshold is None else max(least, threshold)
        calibration = self.calibration if single and kept else None
        return _Wish(k, parsed, threshold, rerankers, calibration)

    @staticmethod
    def _query(
        embeddings: Embeddings, weights: NDArray[np.float32], negative_weight: float, view: View
    ) -> Embeddings:
        """Return the vector of one query of several images, the negatives last."""
        vectors = view.project(embeddings, "images")
        if len(embeddings) == 1:
            return vectors
        n = len(weights)
        return combined(vectors[:n], weights, vectors[n:], negative_weight, view.metric)

    def _batch(self, vectors: Embeddings, wish: _Wish, view: View) -> Batch:
        """Search, and rank what was found again where that is asked for."""
        metric: Metric | None = view.metric
        if not wish.rerankers:
            found = view.search(vectors, wish.k)
            best = found.scores[:, 0]
        else:
            found = view.search(vectors, wanted(wish.rerankers, wish.k)[0])
            asked = Asked(vectors, found)
            found, best = rank_anew(wish.rerankers, asked, wish.k, view, wish.threshold)
            if any(reranker.scores == "own" for reranker in wish.rerankers):
                metric = None
        calibration = wish.calibration
        batch = Batch(
            found,
            metric,
            self._store.catalog,
            wish.threshold,
            best=best,
            probability=None if calibration is None else calibration.probability,
        )
        self._unresolved.add(batch)
        return batch

    def _classify_by(self, k: int) -> Classifier:
        """Return what classifies, learned from the gallery as it is now."""
        with self._changing:
            view = self._view()
            # An index that was built again is another object: a projection, too, changes it.
            basis = (self._store.catalog.version, self._searcher.sync(), k)
            if self._classifier is None or self._classifier[0] != basis:
                self._classifier = basis, Classifier.learn(view, k)
            return self._classifier[1]


def _single(pictures: Sequence[Any], negatives: Sequence[Any]) -> bool:
    return len(pictures) == 1 and not negatives
