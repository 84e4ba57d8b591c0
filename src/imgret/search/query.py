"""A query, of one image, a part of one or several combined, and the request it belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from imgret import images
from imgret.abc.reranker import Asked, Reranker
from imgret.errors import InvalidInputError
from imgret.filters import Filter
from imgret.rerank.named import rank_again, wanted
from imgret.search.hits import Batch, Probability
from imgret.search.view import View
from imgret.support.checks import whole_number
from imgret.support.given import listed, one_or_many_images, texts
from imgret.support.metric import DistanceMetric
from imgret.types import Box, Embeddings, Image, ImageLike

__all__ = [
    "Request",
    "answer",
    "check_box",
    "check_weights",
    "combined",
    "cut",
    "query_vector",
    "several",
]

# Length below which a combination of unit vectors is only rounding error.
_NOTHING = 1e-4


def several(
    given: Any, name: str, *, images: bool = False, least: int = 1
) -> tuple[list[Any], bool]:
    """Return images or keys as a list, and whether the caller passed a single one.

    Parameters
    ----------
    given : ImageLike or str, or iterable of these
    name : str
        Name of the argument.
    images : bool
        Whether to expect images rather than keys.
    least : {0, 1}
        Minimum number of them; with 0, None gives an empty list.

    Raises
    ------
    InvalidInputError
        They are of another type, or too few.
    """
    if given is None and not least:
        return [], False
    found: list[Any]
    if images:
        found, alone = one_or_many_images(given, name)
    else:
        found, alone = list(texts(given, name)), isinstance(given, str)
    if len(found) < least:
        raise InvalidInputError(f"{name}: expected at least one, found none")
    return found, alone


def check_weights(weights: Any, n: int) -> NDArray[np.float32]:
    """Return the weights of ``n`` images, scaled to a maximum of 1; by default all are 1.

    Raises
    ------
    InvalidInputError
        The number of weights is not ``n``, one is negative or not finite, or all are 0.
    """
    if weights is None:
        return np.ones(n, dtype=np.float32)
    if not isinstance(weights, np.ndarray) and isinstance(weights, Iterable):
        weights = listed(weights, "weights", f"{n}, one for each image,")
    try:
        found = np.asarray(weights)
        found = found.astype(np.float64, casting="same_kind") if found.size else np.empty(0)
    except (TypeError, ValueError):
        found = np.empty(())
    if found.shape != (n,):
        raise InvalidInputError(f"weights: expected {n}, one for each image, found {weights!r}")
    if not (np.isfinite(found) & (found >= 0)).all() or not found.any():
        raise InvalidInputError(
            f"weights: expected finite numbers of at least 0, not all 0, found {weights!r}; pass "
            f"images that the hits should be unlike as negatives"
        )
    scaled: NDArray[np.float32] = (found / found.max()).astype(np.float32)
    return scaled


def check_box(box: Any) -> Box:
    """Return a box of whole numbers that is not empty.

    Raises
    ------
    InvalidInputError
        ``box`` is not four whole numbers, or it is empty.
    """
    try:
        x0, y0, x1, y1 = map(whole_number, box)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"box: expected four whole numbers (x0, y0, x1, y1), found {box!r}"
        ) from None
    if x1 <= x0 or y1 <= y0:
        raise InvalidInputError(
            f"box: expected x0 < x1 and y0 < y1, as a box is half-open, found {(x0, y0, x1, y1)}, "
            f"which is empty"
        )
    return Box(x0, y0, x1, y1)


def cut(image: ImageLike, box: Box, max_pixels: int) -> Image:
    """Read an image and return the part of it that is in the box.

    Raises
    ------
    InvalidInputError
        The box is not inside the image; the message gives the size of the image.
    ImageError
        The image cannot be read.
    """
    whole = images.load(image, max_pixels=max_pixels)
    height, width = whole.shape[:2]
    if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height:
        raise InvalidInputError(
            f"box: expected one inside the image, which is {width} pixels wide and {height} "
            f"high, found {tuple(box)}"
        )
    return whole[box.y0 : box.y1, box.x0 : box.x1]


def combined(
    vectors: Embeddings,
    weights: NDArray[np.float32],
    negatives: Embeddings,
    negative_weight: float,
    metric: DistanceMetric,
) -> Embeddings:
    """Return one query vector from several: their weighted mean, minus that of the negatives.

    Parameters
    ----------
    vectors, negatives : float32 arrays of shape (n, d) and (m, d)
        Vectors as `View.project` returns them.
    weights : float32 array of shape (n,)
    negative_weight : float
    metric : DistanceMetric

    Returns
    -------
    float32 array of shape (1, d)
        Query vector, of length 1 for metric ``"cosine"``.

    Raises
    ------
    InvalidInputError
        The combination has no direction left.

    References
    ----------
    J. Rocchio, "Relevance Feedback in Information Retrieval", 1971.
    """
    query: Embeddings = weights @ vectors / weights.sum()
    if len(negatives):
        query -= np.float32(negative_weight) * negatives.mean(axis=0)
    if metric.on_sphere:
        if np.linalg.norm(query) < _NOTHING:
            raise InvalidInputError(
                "images: expected images that have something in common that the negatives do not "
                "share, found nothing; leave some out, or lower negative_weight"
            )
        query = metric.prepare(query[None])[0]
    return np.ascontiguousarray(query[None])


# -- requests --------------------------------------------------------------------------------------


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
    metric: DistanceMetric | None = view.metric
    rerankers = request.rerankers
    if not rerankers:
        found = view.find(vectors, request.k)
        best = found.scores[:, 0]
    else:
        asked = Asked(vectors, view.find(vectors, wanted(rerankers, request.k)[0]))
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
