"""A gallery that is asked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from imgret.abc.checks import check_count
from imgret.errors import InvalidInputError
from imgret.hits import Hits, make_hits
from imgret.ingest import (
    Source,
    embed_sources,
    path_of,
)
from imgret.naming import Name, Namer
from imgret.retriever.gallery import Gallery
from imgret.types import Embeddings, ImageLike

__all__ = ["Searching"]


class Searching(Gallery):
    """Search by picture and by vector, and names."""

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
