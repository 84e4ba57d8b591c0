"""k-means over a whole gallery."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from imgret.errors import InvalidInputError
from imgret.images import MAX_PIXELS
from imgret.pages.curation import PageItems, Section, sections
from imgret.pages.result import Tabular
from imgret.search import View
from imgret.support.checks import check_count
from imgret.support.terminal import plain
from imgret.types import Embeddings, Ids, Json

__all__ = ["Clusters", "fit_clusters"]

_SHOWN, _IMAGES = 24, 6  # what a page shows: clusters, and images of each
_POINTS = 256  # training points per centroid; more make no difference


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Clusters(Tabular):
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
    nearest : tuple of tuple of str
        For each of the 24 largest clusters, the keys of the 6 items nearest to its centroid.
    page_items : PageItems
        Items that a page shows.
    """

    keys: tuple[str, ...]
    assignments: Ids
    sizes: Ids
    centroids: Embeddings
    representatives: tuple[str, ...]
    score: float
    names: tuple[str, ...] = ()
    nearest: tuple[tuple[str, ...], ...] = ()
    page_items: PageItems = field(default_factory=lambda: PageItems({}))

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
            "assignments": dict(zip(self.keys, self.assignments.tolist(), strict=True)),
        }

    def _frame(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        numbers = self.assignments.tolist()
        rows: list[tuple[object, ...]] = list(zip(self.keys, numbers, strict=True))
        if not self.names:
            return ("key", "cluster"), rows
        return ("key", "cluster", "name"), [
            (key, number, self.names[number])
            for key, number in zip(self.keys, numbers, strict=True)
        ]

    def __str__(self) -> str:
        lines = [repr(self)[1:-1]]
        for number, (size, key) in enumerate(zip(self.sizes, self.representatives, strict=True)):
            name = f"{plain(self.names[number])}, " if self.names else ""
            lines.append(f"{number:>4}  {size:>6} images  {name}such as {plain(key)}")
        return "\n".join(lines)

    def _body(self) -> str:
        rows = [
            Section(
                f"{number} · {self.sizes[number]:,} images"
                + (f" · {self.names[number]}" if self.names else ""),
                keys,
                n_more=int(self.sizes[number]) - len(keys),
            )
            for number, keys in enumerate(self.nearest)
        ]
        more = len(self.sizes) - len(rows)
        hidden = f"and {more} more {'cluster' if more == 1 else 'clusters'}" if more else ""
        return sections(repr(self)[1:-1], rows, self.page_items, hidden=hidden)

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


def fit_clusters(view: View, *, n: int, seed: int = 0, max_pixels: int = MAX_PIXELS) -> Clusters:
    """Learn centroids from a sample of the items, then assign every item to the nearest.

    Parameters
    ----------
    view : View
    n, seed : int
        As for `Retriever.clusters`.
    max_pixels : int
        As for `Retriever`.
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
    shown = [
        by_score[start : start + min(_IMAGES, size)]
        for start, size in zip(
            nearest[:_SHOWN].tolist(), sizes[order][:_SHOWN].tolist(), strict=True
        )
    ]
    items = view.items(view.ids[np.concatenate(shown)])
    return Clusters(
        keys=keys,
        assignments=assignments,
        sizes=sizes[order],
        centroids=centroids[order],
        representatives=tuple(keys[place] for place in by_score[nearest].tolist()),
        score=float(scores.mean(dtype=np.float64)),
        nearest=tuple(tuple(keys[place] for place in places.tolist()) for places in shown),
        page_items=PageItems.of(items, max_pixels),
    )
