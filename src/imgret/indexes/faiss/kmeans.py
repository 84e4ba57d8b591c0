"""k-means."""

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
        C-contiguous; of length 1 where ``spherical``.
    n : int
        Centroids, at most ``m``.
    spherical : bool
        Whether the nearest centroid is that of the greatest cosine, and centroids have length 1
        (Dhillon and Modha, "Concept Decompositions for Large Sparse Text Data using Clustering",
        2001); otherwise it is that of the least Euclidean distance.
    seed : int
        Of the first choice, 0 to 2**31 - 1.

    Returns
    -------
    float32 array of shape (n, dim)
        The same for the same arguments.
    """
    parameters = faiss.ClusteringParameters()
    parameters.spherical = spherical
    parameters.seed = seed
    parameters.min_points_per_centroid = 1  # or Faiss tells stderr of more
    parameters.max_points_per_centroid = len(vectors)  # or it takes a sample
    dim = vectors.shape[1]
    clustering = faiss.Clustering(dim, n, parameters)
    with threads(len(vectors) * n * dim * parameters.niter):
        clustering.train(vectors, _flat(dim, spherical=spherical))
    centroids: Embeddings = faiss.vector_to_array(clustering.centroids).reshape(n, dim)
    return centroids


def assign(
    vectors: Embeddings, centroids: Embeddings, *, spherical: bool
) -> tuple[Ids, Embeddings]:
    """Return the nearest centroid of each vector, and the score with it.

    Parameters
    ----------
    vectors, centroids : float32 arrays of shape (m, dim) and (n, dim)
    spherical : bool
        Whether scores are inner products; otherwise they are minus squared distances.

    Returns
    -------
    numbers : int64 array of shape (m,)
    scores : float32 array of shape (m,)
    """
    index = _flat(centroids.shape[1], spherical=spherical)
    index.add(centroids)
    with threads(vectors.size * len(centroids)):
        scores, numbers = index.search(vectors, 1)
    return numbers[:, 0], scores[:, 0] if spherical else np.negative(scores[:, 0])


def _flat(dim: int, *, spherical: bool) -> Any:
    return faiss.IndexFlatIP(dim) if spherical else faiss.IndexFlatL2(dim)
