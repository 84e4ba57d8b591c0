"""Database-side augmentation: every item moves towards its nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from imgret.rerank.expansion import weights_of
from imgret.search.view import View
from imgret.types import Embeddings, Ids

__all__ = ["augmented_embeddings"]

# Items that are moved at once; the embeddings of their neighbours are held in memory.
_BLOCK = 512


def augmented_embeddings(view: View, k: int, alpha: float) -> Iterator[tuple[Ids, Embeddings]]:
    """Yield ids and new embeddings, each projected to the mean of an item and its neighbours.

    Parameters
    ----------
    view : View
    k, alpha
        As for `imgret.Retriever.augmented`.
    """
    for ids, embeddings in view.embedding_blocks():
        for start in range(0, len(ids), _BLOCK):
            some = ids[start : start + _BLOCK]
            yield some, _moved(some, embeddings[start : start + _BLOCK], view, k, alpha)


def _moved(ids: Ids, embeddings: Embeddings, view: View, k: int, alpha: float) -> Embeddings:
    """Return embeddings that are projected to the means of each item and its neighbours."""
    near = view.search(view.project(embeddings), k).ids
    # The item itself comes first: an approximate index, or a duplicate, may have displaced it.
    others = np.where(near == ids[:, None], -1, near)
    order = np.argsort(others < 0, axis=1, kind="stable")[:, : k - 1]
    members = np.concatenate([ids[:, None], np.take_along_axis(others, order, axis=1)], axis=1)
    # Where there are fewer than k, the item stands in, with a weight of 0.
    standing = np.where(members < 0, ids[:, None], members)
    held, places = np.unique(standing, return_inverse=True)
    places = places.reshape(members.shape)
    kept = view.embeddings(held)
    vectors = view.projection.apply(kept)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), np.float32(1e-12))
    unit = vectors / lengths[:, None]
    cosines = np.einsum("nd,nkd->nk", unit[places[:, 0]], unit[places])
    weights = weights_of(cosines, alpha) * (members >= 0)
    weights[:, 0] = 1
    if view.metric.on_sphere:
        weights /= lengths[places]  # so that the projected vectors that are added have length 1
    # Weights add up to 1, so that a projection subtracts its mean exactly once.
    weights /= weights.sum(axis=1, keepdims=True)
    moved: Embeddings = np.einsum("nk,nkd->nd", weights, kept[places])
    return moved
