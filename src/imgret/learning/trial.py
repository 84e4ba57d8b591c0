"""Trial of a discriminant projection: chooses its shrinkage and measures its gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.learning.adapt_report import Gain
from imgret.learning.folds import CrossFit
from imgret.projections import IdentityProjection, Projection
from imgret.support.statistics import interval, resampled_means
from imgret.types import Embeddings, Ids, Metric

__all__ = ["Trial", "try_out"]

_SHRINKAGES = (0.1, 0.3, 0.6)
_HITS = 5
# Fewer held-out images than this are not meaningful.
_MIN_QUERIES = 30
_RESAMPLES = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trial:
    """Outcome of `try_out`.

    Attributes
    ----------
    shrinkage : float
        Best shrinkage over all folds.
    top1, map5 : Gain
    queries : int
    """

    shrinkage: float
    top1: Gain
    map5: Gain
    queries: int

    @property
    def helps(self) -> bool:
        """Whether top-1 reliably rises, and mAP@5 does not fall."""
        return self.top1.low > 0 and self.map5.after >= self.map5.before


def try_out(
    embeddings: Embeddings,
    codes: Ids,
    metric: Metric,
    *,
    dim: int | None = None,
    shrinkage: float | None = None,
) -> Trial:
    """Compare a discriminant projection with the embeddings themselves, by cross-validation.

    Each third of the items is searched for among the rest, with a projection fitted on the
    rest. Each fold is judged with the shrinkage that did best on the other folds, so that the
    choice does not flatter the figures.

    Parameters
    ----------
    embeddings : float32 array of shape (n, d)
    codes : int64 array of shape (n,)
        Class of each item; every number from 0 to the largest occurs.
    metric : {"cosine", "ip", "l2"}
    dim : int, optional
        Number of directions to keep; by default as many as the classes allow.
    shrinkage : float, optional
        The only shrinkage to try; by default several are tried.

    Raises
    ------
    InvalidInputError
        There are too few labels: fewer than two classes, or fewer than 30 items in classes of
        two or more.
    """
    counts = np.bincount(codes)
    usable = int(counts[counts > 1].sum())
    if len(counts) < 2 or usable < _MIN_QUERIES:
        raise InvalidInputError(
            f"labels: expected at least 2 classes and {_MIN_QUERIES} images in classes of two or "
            f"more to learn from, found {len(counts)} classes and {usable} such images; label "
            f"more images first"
        )
    cross = CrossFit(embeddings, codes, metric)
    candidates = _SHRINKAGES if shrinkage is None else (shrinkage,)

    def answered(fold: int, queries: Ids, projection: Projection) -> Floats:
        found, _ = cross.neighbors(fold, queries, _HITS, projection)
        return _measures(codes[found], codes[queries])

    identity = IdentityProjection(embeddings.shape[1])
    before = [answered(fold, queries, identity) for fold, queries in enumerate(cross.held_out)]
    tried = [
        np.stack(
            [answered(fold, queries, cross.projection(fold, value, dim)) for value in candidates]
        )
        for fold, queries in enumerate(cross.held_out)
    ]
    # Sum of top-1 and average precision for each fold and candidate.
    scores = np.stack([fold.sum(axis=(1, 2)) for fold in tried])
    total = scores.sum(axis=0)
    after = [fold[int((total - own).argmax())] for fold, own in zip(tried, scores, strict=True)]
    plain, adapted = np.concatenate(before, axis=1), np.concatenate(after, axis=1)
    top1, map5 = _gains(plain, adapted)
    return Trial(candidates[int(total.argmax())], top1, map5, queries=usable)


def _measures(found: Ids, own: Ids) -> Floats:
    """Return top-1 and average precision at 5 of each query: shape (2, n)."""
    right = found == own[:, None]
    precision = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
    average = (precision * right).sum(axis=1) / np.maximum(right.sum(axis=1), 1)
    return np.stack([right[:, 0].astype(np.float64), average])


def _gains(before: Floats, after: Floats) -> list[Gain]:
    """Return the gain of each metric, from arrays of shape (metrics, n)."""
    differences = {str(n): row for n, row in enumerate(after - before)}
    bounds = interval(resampled_means(differences, n_resamples=_RESAMPLES, seed=0), 0.95)
    columns = zip(before.mean(axis=1), after.mean(axis=1), *bounds, strict=True)
    return [Gain(*map(float, column)) for column in columns]
