"""A search request, checked before any work is done, and its answer."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from imgret.abc.reranker import Asked, Reranker
from imgret.filters import Filter
from imgret.rerank.named import rank_again, wanted
from imgret.search.hits import Batch, Probability
from imgret.search.query import combined
from imgret.search.view import View
from imgret.types import Embeddings, Metric

__all__ = ["Request", "answer", "query_vector"]


class _Calibration(Protocol):
    @property
    def projection(self) -> str | None: ...

    @property
    def probability(self) -> Probability: ...


class Request(NamedTuple):
    """A search request with checked values.

    Attributes
    ----------
    k : int
    where : Filter or None
    threshold : float or None
    precision : float or None
        Precision from which the threshold was derived.
    rerankers : tuple of Reranker
    calibration : ScoreCalibration or None
        Calibration of the scores; None if it does not apply to them.
    """

    k: int
    where: Filter | None
    threshold: float | None
    precision: float | None
    rerankers: tuple[Reranker, ...]
    calibration: _Calibration | None


def query_vector(
    embeddings: Embeddings, weights: NDArray[np.float32], negative_weight: float, view: View
) -> Embeddings:
    """Return the vector of one query of several images, negatives last: shape (1, dim)."""
    vectors = view.project(embeddings, "images")
    if len(embeddings) == 1:
        return vectors
    n = len(weights)
    return combined(vectors[:n], weights, vectors[n:], negative_weight, view.metric)


def answer(vectors: Embeddings, request: Request, view: View, *, max_pixels: int) -> Batch:
    """Search, and re-rank the hits if the request has re-rankers.

    Parameters
    ----------
    vectors : float32 array of shape (n, dim)
        Vectors as `View.project` returns them.
    request : Request
    view : View
    max_pixels : int
        Pixel limit with which a page of the hits reads images.
    """
    metric: Metric | None = view.metric
    rerankers = request.rerankers
    if not rerankers:
        found = view.search(vectors, request.k)
        best = found.scores[:, 0]
    else:
        asked = Asked(vectors, view.search(vectors, wanted(rerankers, request.k)[0]))
        found, best = rank_again(rerankers, asked, request.k, view, request.threshold)
        if any(reranker.scores == "own" for reranker in rerankers):
            metric = None
    calibration = request.calibration
    return Batch(
        found,
        metric,
        view,
        request.threshold,
        best=best,
        probability=None if calibration is None else calibration.probability,
        max_pixels=max_pixels,
    )
