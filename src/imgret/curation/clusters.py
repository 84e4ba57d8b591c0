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

_POINTS = 256  # for each centroid, to learn it from; more are of no use


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Clusters(Result):
    """Items parted into clusters, which are numbered from the largest down.

    Attributes
    ----------
    keys : tuple of str
        In the order they were added.
    assignments : int64 array of shape (n,)
        Number of the cluster of each.
    sizes : int64 array of shape (c,)
        Items of each cluster, at least 1.
    centroids : float32 array of shape (c, dim)
        Among the indexed vectors; of length 1 for metric ``"cosine"``.
    representatives : tuple of str
        For each cluster, the key of the item nearest to its centroid.
    score : float
        Mean over the items of the score with the centroid: their cosine for metric ``"cosine"``,
        for others minus the mean squared distance, which is minus k-means' inertia over ``n``.
    """

    keys: tuple[str, ...]
    assignments: Ids
    sizes: Ids
    centroids: Embeddings
    representatives: tuple[str, ...]
    score: float

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
            "assignments": dict(zip(self.keys, self.assignments.tolist(), strict=True)),
        }

    def members(self, cluster: int) -> tuple[str, ...]:
        """Return the keys of one cluster.

        Raises
        ------
        InvalidInputError
            There is no cluster of this number.
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
        raise InvalidInputError(
            f"n: expected at most one cluster an item, which are {len(view)}, found {n}"
        )
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
    # Where there are fewer different items than clusters, some are nobody's nearest.
    sizes = np.bincount(numbers, minlength=n)
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    renumbered = np.empty(n, dtype=np.int64)
    renumbered[order] = np.arange(len(order))
    assignments = renumbered[numbers]
    # By cluster, in each the best score first.
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
