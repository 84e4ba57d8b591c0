"""Cross-validation folds of labelled items, each searched for among the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from imgret.projections import Discriminant, LinearProjection, Projection
from imgret.support.checks import check_scorable
from imgret.support.exact import exact_search
from imgret.support.statistics import fold_of
from imgret.types import Embeddings, Ids, Metric, Neighbors

__all__ = ["CrossFit", "sample_items"]

# Rows of the score matrix at a time: 512 x 16,384 float32 take 32 MB.
_QUERIES = 512


def sample_items(codes: Ids, most: int) -> Ids:
    """Return increasing positions of about ``most`` items, in whole classes where possible.

    A whole class keeps its number of images, which makes it easy or hard. From a class with more
    items than a tenth of ``most``, only that many are taken.
    """
    if len(codes) <= most:
        return np.arange(len(codes))
    generator = np.random.default_rng(0)
    shuffled = generator.permutation(len(codes))
    rank = generator.permutation(int(codes.max()) + 1)  # random order of the classes
    order = shuffled[np.argsort(rank[codes[shuffled]], kind="stable")]
    _, starts, counts = np.unique(rank[codes[order]], return_index=True, return_counts=True)
    within = np.arange(len(order)) - np.repeat(starts, counts)
    return np.sort(order[within < max(2, most // 10)][:most])


class CrossFit:
    """Discriminants fitted with a part of the items held out, one for each part.

    Parameters
    ----------
    embeddings : float32 array of shape (n, d)
    codes : int64 array of shape (n,)
        Class of each item; every number from 0 to the largest occurs.
    metric : {"cosine", "ip", "l2"}
    folds : int
    """

    def __init__(self, embeddings: Embeddings, codes: Ids, metric: Metric, folds: int = 3) -> None:
        self._embeddings = embeddings
        self._codes = codes
        self._metric = metric
        self._fold = fold_of(codes, folds)
        self.held_out = [np.flatnonzero(self._fold == fold) for fold in range(folds)]
        self._fits: list[Discriminant | None] = [None] * folds

    def neighbors(
        self, fold: int, queries: Ids, k: int, projection: Projection
    ) -> tuple[Ids, Embeddings]:
        """Return positions and scores, (m, k) each, of the items nearest to held-out ones."""
        rest = np.flatnonzero(self._fold != fold)
        vectors = projection.apply(self._embeddings)
        vectors = check_scorable(vectors, vectors.shape[1], self._metric, "embeddings")
        k = min(k, len(rest))
        found = list(_searched(vectors, queries, rest, k, self._metric))
        return np.concatenate([n.ids for n in found]), np.concatenate([n.scores for n in found])

    def projection(self, fold: int, shrinkage: float, dim: int | None) -> LinearProjection:
        """Return the projection fitted without a fold, with at most ``dim`` dimensions."""
        fit = self._fits[fold]
        if fit is None:
            rest = np.flatnonzero(self._fold != fold)
            blocks = [(self._embeddings[rest], self._codes[rest])]  # all classes: see `fold_of`
            fit = Discriminant(blocks, int(self._codes.max()) + 1)
            self._fits[fold] = fit
        return fit.projection(shrinkage, None if dim is None else min(dim, fit.max_dim))


def _searched(
    vectors: Embeddings, queries: Ids, rest: Ids, k: int, metric: Metric
) -> Iterator[Any]:
    gallery = vectors[rest]
    for start in range(0, len(queries), _QUERIES):
        block = queries[start : start + _QUERIES]
        found: Neighbors = exact_search(vectors[block], [(rest, gallery)], k, metric)
        yield found
