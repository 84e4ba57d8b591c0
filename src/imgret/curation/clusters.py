"""k-means over a whole gallery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgret.errors import InvalidInputError
from imgret.pages.result import Result
from imgret.search import View
from imgret.support.checks import check_count
from imgret.types import Embeddings, Ids, Json

__all__ = ["Clusters", "fit_clusters"]

_POINTS = 256  # training points per centroid; more make no difference


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Clusters(Result):
    """Items grouped into clusters, which are numbered from the largest down.

    Attributes
    ----------
    keys : tuple of str
        Keys of the items, in the order they were added.
    assignments : int64 array of shape (n,)
        Cluster number of each item.
    sizes : int64 array of shape (c,)
        Number of items in each cluster, at least 1.
    centroids : float32 array of shape (c, dim)
        Centroids in the space of the indexed vectors; of length 1 for metric ``"cosine"``.
    representatives : tuple of str
        For each cluster, the key of the item nearest to its centroid.
    score : float
        Mean score of the items with their centroids. For metric ``"cosine"`` this is the cosine;
        for the other metrics, minus the squared distance, so the mean is minus the inertia of
        k-means over ``n``.
    names : tuple of str
        For each cluster, the word that describes it best; empty if no words were given.
    """

    keys: tuple[str, ...]
    assignments: Ids
    sizes: Ids
    centroids: Embeddings
    representatives: tuple[str, ...]
    score: float
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"<Clusters: {len(self.sizes)} of {len(self.keys)} items, of {self.sizes[-1]} to "
            f"{self.sizes[0]}, mean score {self.score:.4f}>"
        )

    def to_dict(self) -> Json:
        """Return everything but the centroids as JSON values."""
        return {
            "score": self.score,
            "sizes": self.sizes.tolist(),
            "representatives": list(self.representatives),
            **({"names": list(self.names)} if self.names else {}),
            **({"names": list(self.names)} if self.names else {}),
            "assignments": dict(zip(self.keys, self.assignments.tolist(), strict=True)),
        }

    def members(self, cluster: int) -> tuple[str, ...]:
        """Return the keys of one cluster.

        Raises
        ------
        InvalidInputError
            There is no cluster with this number.
        """
        if not 0 <= cluster < len(self.sizes):
            raise InvalidInputError(
                f"cluster: expected a number from 0 to {len(self.sizes) - 1}, found {cluster!r}"
            )
        return tuple(self.keys[place] for place in np.flatnonzero(self.assignments == cluster))


def fit_clusters(view: View, *, n: int, seed: int = 0) -> Clusters:
    """Learn centroids from a sample of the items, then assign every item to the nearest.

    Parameters
    ----------
    view : View
    n, seed : int
        As for `Retriever.clusters`.
    """
    from imgret.indexes.faiss.kmeans import assign, train_centroids  # noqa: PLC0415  # loads Faiss

    n = check_count(n, "n")
    if n > len(view):
        raise InvalidInputError(f"n: expected at most {len(view)}, one cluster per item, found {n}")
    spherical = view.metric.on_sphere
    generator = np.random.default_rng(seed)
    sample = np.sort(generator.choice(view.ids, min(_POINTS * n, len(view)), replace=False))
    centroids = train_centroids(
        view.read(sample),
        n,
        spherical=spherical,
        seed=int(generator.integers(2**31 - 1)),
    )
    pieces = [assign(vectors, centroids, spherical=spherical) for _, vectors in view.blocks()]
    numbers, scores = (np.concatenate(piece) for piece in zip(*pieces, strict=True))
    # With fewer distinct items than clusters, some clusters stay empty.
    sizes = np.bincount(numbers, minlength=n)
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    renumbered = np.empty(n, dtype=np.int64)
    renumbered[order] = np.arange(len(order))
    assignments = renumbered[numbers]
    # Sorted by cluster; within each, the best score comes first.
    by_score = np.lexsort((-scores, assignments))
    _, nearest = np.unique(assignments[by_score], return_index=True)
    keys = view.keys()
    return Clusters(
        keys=keys,
        assignments=assignments,
        sizes=sizes[order],
        centroids=centroids[order],
        representatives=tuple(keys[place] for place in by_score[nearest].tolist()),
        score=float(scores.mean(dtype=np.float64)),
    )
