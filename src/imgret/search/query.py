"""What is asked: one image, a part of it, or several that are one query together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret import images
from imgret.errors import InvalidInputError
from imgret.support.checks import whole_number
from imgret.support.given import listed, one_or_many_images, texts
from imgret.support.metric import DistanceMetric
from imgret.types import Box, Embeddings, Image, ImageLike

__all__ = ["check_box", "check_weights", "combined", "cut", "several"]

# Of a combination of vectors, part of their length below which what is left is rounding.
_NOTHING = 1e-4


def several(
    given: Any, name: str, *, images: bool = False, least: int = 1
) -> tuple[list[Any], bool]:
    """Return images or keys as a list, and whether a single one was given as such.

    Parameters
    ----------
    given : ImageLike or str, or iterable of these
    name : str
        Of the argument.
    images : bool
        Whether they are images; else keys.
    least : {0, 1}
        How many there must be; with 0 None is none of them.

    Raises
    ------
    InvalidInputError
        They are something else, or too few.
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
    """Return the weight of each of ``n`` images, the greatest being 1; by default all are.

    Raises
    ------
    InvalidInputError
        There is another number of them, one is negative or not finite, or all are 0.
    """
    if weights is None:
        return np.ones(n, dtype=np.float32)
    if not isinstance(weights, np.ndarray) and isinstance(weights, Iterable):
        weights = listed(weights, "weights", f"{n}, one for each image,")
    try:
        found = np.asarray(weights)
        found = found.astype(np.float64, casting="same_kind") if found.size else np.empty(0)
    except (TypeError, ValueError):
        found = np.empty((0, 0))
    if found.shape != (n,):
        raise InvalidInputError(f"weights: expected {n}, one for each image, found {weights!r}")
    if not (np.isfinite(found) & (found >= 0)).all() or not found.any():
        raise InvalidInputError(
            f"weights: expected finite numbers of at least 0, not all 0, found {weights!r}; what "
            f"the query should be unlike goes into negatives"
        )
    scaled: NDArray[np.float32] = (found / found.max()).astype(np.float32)
    return scaled


def check_box(box: Any) -> Box:
    """Return a box of whole numbers that is not empty.

    Raises
    ------
    InvalidInputError
        It is none.
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
        The box is not inside the image; the message tells its size.
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
    """Return one query from several: their weighted mean, less that of what it should be unlike.

    Parameters
    ----------
    vectors, negatives : float32 arrays of shape (n, d) and (m, d)
        As they are searched.
    weights : float32 array of shape (n,)
    negative_weight : float
    metric : DistanceMetric

    Returns
    -------
    float32 array of shape (1, d)
        Of length 1 for metric ``"cosine"``.

    Raises
    ------
    InvalidInputError
        Nothing is left that has a direction.

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
                "images: expected images that have something in common, and not all of it with "
                "the negatives, found none; leave some out, or lower negative_weight"
            )
        query = metric.prepare(query[None])[0]
    return np.ascontiguousarray(query[None])
