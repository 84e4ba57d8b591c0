"""A gallery whose embeddings have moved towards their neighbours."""

from __future__ import annotations

from typing import Self

import numpy as np

from imgret.abc import Cropper, Embedder
from imgret.galleries.local.store import Store
from imgret.projections import LinearProjection
from imgret.rerank.expansion import check_alpha, weights_of
from imgret.retriever.gallery import Gallery, Late
from imgret.search import View
from imgret.support.checks import check_count
from imgret.types import Embeddings, Ids

__all__ = ["Augmenting"]

# Items that are moved at once: their neighbours' embeddings are in memory.
_BLOCK = 512


class Augmenting(Gallery):
    """Database-side augmentation."""

    def augmented(self, k: int = 10, *, alpha: float = 0.0) -> Self:
        """Return a gallery in memory of the same items, moved towards their nearest.

        Neighbours of one class come closer together, so that a query that finds one of them finds
        the others. The neighbours are found by the index, and read in pieces. What is kept of each
        item is a weighted mean of embeddings; keys, labels, metadata, paths and boxes are the
        same, and so are projection and kind of index. What `calibrate` and `tune` learned is not
        taken over, as scores are others. Leave-one-out figures of such a gallery flatter: its
        items know each other. Measure with pictures that are not in it.

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
        with self._changing:
            view = self._view()
            manifest = self._store.manifest.with_(
                projection=None, tuned=None, calibration=None, created="", created_with=""
            )
            store = Store.in_memory(manifest)
            for ids, embeddings in self._store.blocks(self._store.catalog.live_ids()):
                for start in range(0, len(ids), _BLOCK):
                    some = ids[start : start + _BLOCK]
                    moved = self._moved(some, embeddings[start : start + _BLOCK], view, k, alpha)
                    items = self._store.catalog.items(some)
                    store.add(moved, [items[id_] for id_ in some.tolist()])
            made = self._around(store, self._embedder, self._cropper, self._searcher.projection)
            made._max_pixels = self._max_pixels  # noqa: SLF001  # another of this class
            return made

    @classmethod
    def _around(
        cls,
        store: Store,
        embedder: Late[Embedder],
        cropper: Late[Cropper],
        projection: LinearProjection | None,
    ) -> Self:
        self = cls.__new__(cls)
        self._start(store, embedder, cropper)
        self._searcher.project(projection)
        return self

    def _moved(
        self, ids: Ids, embeddings: Embeddings, view: View, k: int, alpha: float
    ) -> Embeddings:
        """Return embeddings that are searched as the means of each item and its nearest."""
        near = view.search(view.project(embeddings), k).ids
        # The item itself comes first: an index that is not exact, or a twin, may have left it out.
        others = np.where(near == ids[:, None], -1, near)
        order = np.argsort(others < 0, axis=1, kind="stable")[:, : k - 1]
        members = np.concatenate([ids[:, None], np.take_along_axis(others, order, axis=1)], axis=1)
        held, places = np.unique(np.maximum(members, 0), return_inverse=True)
        places = places.reshape(members.shape)
        kept = view.embeddings(held)
        vectors = view.projection.apply(kept)
        lengths = np.maximum(np.linalg.norm(vectors, axis=1), np.float32(1e-12))
        unit = vectors / lengths[:, None]
        cosines = np.einsum("nd,nkd->nk", unit[places[:, 0]], unit[places])
        weights = weights_of(cosines, alpha) * (members >= 0)
        weights[:, 0] = 1
        if self.metric == "cosine":
            weights /= lengths[places]  # so that what is added up has length 1 where it is searched
        # They add up to 1, so that the mean of a projection comes out of it once.
        weights /= weights.sum(axis=1, keepdims=True)
        moved: Embeddings = np.einsum("nk,nkd->nd", weights, kept[places])
        return moved
