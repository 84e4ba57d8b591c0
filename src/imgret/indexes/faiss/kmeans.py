"""k-means clustering with Faiss."""

from __future__ import annotations

from typing import Any

import numpy as np

from imgret.indexes.faiss import faiss
from imgret.indexes.faiss.base import threads
from imgret.types import Embeddings, Ids

__all__ = ["assign", "train_centroids"]


def train_centroids(vectors: Embeddings, n: int, *, spherical: bool, seed: int) -> Embeddings:
    """Learn centroids by k-means (Faiss ``Clustering``, 25 rounds).

    Parameters
    ----------
    vectors : float32 array of shape (m, dim)
        Training vectors, C-contiguous; of length 1 if ``spherical``.
    n : int
        Number of centroids, at most ``m``.
    spherical : bool
        If true, the nearest centroid is the one with the greatest cosine, and centroids have
        length 1 (Dhillon and Modha, "Concept Decompositions for Large Sparse Text Data using
        Clustering", 2001); otherwise it is the one with the smallest Euclidean distance.
    seed : int
        Seed of the initial centroids, 0 to 2**31 - 1.

    Returns
    -------
    float32 array of shape (n, dim)
        The centroids; the same arguments give the same centroids.
    """
    parameters = faiss.ClusteringParameters()
    parameters.spherical = spherical
    parameters.seed = seed
    parameters.min_points_per_centroid = 1  # avoids a warning on stderr
    parameters.max_points_per_centroid = len(vectors)  # avoids sampling
    dim = vectors.shape[1]
    clustering = faiss.Clustering(dim, n, parameters)
    with threads(len(vectors) * n * dim * parameters.niter):
        clustering.train(vectors, _flat(dim, spherical=spherical))
    centroids: Embeddings = faiss.vector_to_array(clustering.centroids).reshape(n, dim)
    return centroids


def assign(
    vectors: Embeddings, centroids: Embeddings, *, spherical: bool
) -> tuple[Ids, Embeddings]:
    """Return the nearest centroid of each vector and its score.

    Parameters
    ----------
    vectors, centroids : float32 arrays of shape (m, dim) and (n, dim)
    spherical : bool
        If true, scores are inner products; otherwise they are negated squared distances.

    Returns
    -------
    numbers : int64 array of shape (m,)
        Row of the nearest centroid.
    scores : float32 array of shape (m,)
    """
    index = _flat(centroids.shape[1], spherical=spherical)
    index.add(centroids)
    with threads(vectors.size * len(centroids)):
        scores, numbers = index.search(vectors, 1)
    return numbers[:, 0], scores[:, 0] if spherical else np.negative(scores[:, 0])


def _flat(dim: int, *, spherical: bool) -> Any:
    return faiss.IndexFlatIP(dim) if spherical else faiss.IndexFlatL2(dim)
