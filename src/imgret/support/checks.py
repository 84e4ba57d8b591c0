"""Checks of numbers and arrays that enter or leave a part. They raise; they never repair values."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.errors import DimensionError, DuplicateKeyError, InvalidInputError
from imgret.support.given import listed
from imgret.support.metric import DistanceMetric
from imgret.types import Embeddings, Ids, Image, Metric

__all__ = [
    "MAX_DIM",
    "check_count",
    "check_ids",
    "check_images",
    "check_number",
    "check_scorable",
    "check_seed",
    "check_texts",
    "check_vectors",
    "whole_number",
]

# Four times the square of this fits float32.
_LONGEST = 9e18

# A sum of squares below this may have lost digits to underflow.
_TINY = 1e-30
_LARGEST = float(np.finfo(np.float32).max)
# Above it, a single vector takes 64 MB; Faiss counts bytes of a vector in 32 bits.
MAX_DIM = 2**24
_FLOAT32 = np.dtype(np.float32)
# Numbers below this lose bits in float32, more the smaller they are.
_SMALLEST = 1e-36

# Up to this many numbers, a Python loop is faster than NumPy.
_FEW = 64

# Squared lengths that count as 1 in float32: within 4 units in the last place.
_UNIT = 1 - 2**-21, 1 + 2**-21


def whole_number(value: Any) -> int:
    """Return ``value`` as an int; raise TypeError if it is a bool or not a whole number."""
    if isinstance(value, (bool, np.bool_)):  # old NumPy accepts its bools as 0 and 1
        raise TypeError("expected a whole number, found a bool")
    return operator.index(value)


def check_count(value: object, name: str, *, at_most: int | None = None) -> int:
    """Return ``value`` as an int of at least 1."""
    if type(value) is int and value >= 1 and at_most is None:
        return value
    limit = "" if at_most is None else f" and at most {at_most:,}"
    try:
        number = whole_number(value)
    except TypeError:
        raise InvalidInputError(
            f"{name}: expected a whole number of at least 1{limit}, found {value!r}"
        ) from None
    if number < 1 or (at_most is not None and number > at_most):
        raise InvalidInputError(
            f"{name}: expected a whole number of at least 1{limit}, found {number}"
        )
    return number


def check_number(
    value: object,
    name: str,
    *,
    at_most: float,
    at_least: float = -math.inf,
    above: float = -math.inf,
) -> float:
    """Return ``value`` as a float inside the range, or raise an error that states the range."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not (at_least <= number <= at_most and number > above):  # NaN fails every comparison
        low = f"over {above:g}" if above > -math.inf else f"of at least {at_least:g}"
        raise InvalidInputError(
            f"{name}: expected a number {low} and at most {at_most:g}, found {value!r}"
        )
    return number


def check_seed(value: object) -> int:
    """Return the seed of a random sample as an int of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise InvalidInputError(f"seed: expected a whole number of at least 0, found {value!r}")
    return int(value)


def check_vectors(values: Any, dim: int, name: str) -> Embeddings:
    """Return ``values`` as C-contiguous float32 of shape ``(n, dim)``, all finite."""
    vectors = _as_vectors(values, dim, name)
    flat = vectors.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        # One BLAS pass; a NaN or infinity shows in the sum, and so may large values.
        suspicious = not np.isfinite(np.dot(flat, flat))
    if suspicious:
        _check_finite(vectors, name)
    return vectors


def check_scorable(values: Any, dim: int, metric: Metric, name: str) -> Embeddings:
    """Check vectors like `check_vectors`, and return them in the form that scores need.

    For metric ``"cosine"`` the rows are scaled to unit length, and a row of zeros, which has
    no direction, is refused. For the other metrics a row is refused if it is so long that
    scores would leave the range of float32.
    """
    vectors = _as_vectors(values, dim, name)
    # NaN and infinity show in the squared lengths, which are usually all that is computed.
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.vecdot(vectors, vectors)
    if (metric if type(metric) is DistanceMetric else DistanceMetric(metric)).on_sphere:
        return vectors if _all_between(squares, *_UNIT) else _scaled(vectors, squares, name)
    if not _all_between(squares, 0.0, _LONGEST**2):
        _check_finite(vectors, name)
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        row = int(np.argmax(lengths))
        raise InvalidInputError(
            f"{name}: expected vectors of length {_LONGEST:.0e} at most, so that scores fit "
            f"float32, found {lengths[row]:.1e} in row {row}"
        )
    return vectors


def _scaled(vectors: Embeddings, squares: NDArray[np.float32], name: str) -> Embeddings:
    """Return vectors scaled to unit length, given the squares of their lengths."""
    lengths: NDArray[np.floating[Any]] = np.sqrt(squares)
    if not _all_between(squares, _TINY, _LARGEST):  # else precision may be lost
        _check_finite(vectors, name)
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        if not lengths.all():
            raise InvalidInputError(
                f"{name}: expected vectors with a direction (metric 'cosine'), found only zeros "
                f"in row {int(np.argmin(lengths))}"
            )
    unit: Embeddings = (vectors / lengths[:, None]).astype(np.float32, copy=False)
    return unit


def _all_between(values: NDArray[np.float32], low: float, high: float) -> bool:
    """Return whether all values lie in the closed range; NaN does not."""
    if len(values) <= _FEW:
        for value in values.tolist():  # noqa: SIM110  # a generator costs more
            if not low <= value <= high:
                return False
        return True
    return bool(((values >= low) & (values <= high)).all())


def _several(values: Any) -> Any:
    """Return a generator, or a column of pandas with an array in each row, as a list."""
    dtype = getattr(values, "dtype", None)
    is_column = getattr(values, "ndim", None) == 1 and getattr(dtype, "kind", "") == "O"
    return list(values) if is_column or isinstance(values, Iterator) else values


def _as_vectors(values: Any, dim: int, name: str) -> Embeddings:
    if (
        type(values) is np.ndarray
        and values.dtype is _FLOAT32
        and values.shape[1:] == (dim,)
        and values.flags.c_contiguous
    ):
        return values
    try:
        vectors: Embeddings = np.asarray(_several(values))
        kind = vectors.dtype.kind
        if kind in "fiu" and vectors.dtype != np.float32:
            with np.errstate(over="ignore"):  # what overflows is reported later, as infinite
                vectors = vectors.astype(np.float32)
    except (TypeError, ValueError):
        kind = "O"
    if kind not in "fiu":
        raise InvalidInputError(
            f"{name}: expected an array of real numbers of shape (n, {dim}), found "
            f"a {type(values).__name__}, which is not numeric"
        )
    if vectors.ndim != 2:
        raise DimensionError(
            f"{name}: expected an array of shape (n, {dim}), found shape {np.shape(values)}; "
            f"pass a single vector as vector[None, :]"
        )
    if vectors.shape[1] != dim:
        raise DimensionError(
            f"{name}: expected vectors of dimension {dim}, found {vectors.shape[1]}"
        )
    if isinstance(values, np.ndarray) and kind == "f" and values.dtype.itemsize > 4:
        _check_narrowed(values, vectors, name)
    return np.ascontiguousarray(vectors)


def _check_narrowed(given: NDArray[Any], vectors: Embeddings, name: str) -> None:
    """Refuse rows with numbers so small that float32 keeps only zeros or a few bits of them."""
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.flatnonzero(np.vecdot(vectors, vectors) == 0)
    largest = np.abs(given[rows]).max(axis=1, initial=0.0)
    changed = np.abs(given[rows] - vectors[rows]).max(axis=1, initial=0.0)
    lost = (largest < _SMALLEST) & (changed > 0)
    if lost.any():
        raise InvalidInputError(
            f"{name}: expected values that float32 can represent, the largest of each row over "
            f"{_SMALLEST:.0e}, found at most {largest[lost][0]:.1e} in row {rows[lost][0]}; scale "
            f"the vectors"
        )


def _check_finite(vectors: Embeddings, name: str) -> None:
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise InvalidInputError(
            f"{name}: expected finite float32 values, found NaN or infinity in row "
            f"{int(np.argmin(finite))} ({int((~finite).sum())} of {len(vectors)} rows)"
        )


def check_ids(values: Any, name: str) -> Ids:
    """Return ``values`` as int64 of shape ``(n,)``, each at least 0 and none twice."""
    ids = np.asarray(values)
    if ids.size == 0:
        ids = ids.astype(np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InvalidInputError(
            f"{name}: expected whole numbers of shape (n,), found {ids.dtype} of shape {ids.shape}"
        )
    if ids.dtype.kind == "u" and ids.size and ids.max() > np.iinfo(np.int64).max:
        raise InvalidInputError(f"{name}: expected ids below 2**63, found {ids.max()}")
    ids = np.ascontiguousarray(ids, dtype=np.int64)
    if ids.size and ids.min() < 0:
        raise InvalidInputError(f"{name}: expected ids of at least 0, found {ids.min()}")
    if not (ids[1:] > ids[:-1]).all():
        ordered = np.sort(ids)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if twice.size:
            raise DuplicateKeyError(f"{name}: expected each id once, found {twice[0]} twice")
    return ids


def check_texts(texts: Sequence[str], name: str = "texts") -> list[str]:
    """Return texts as a list; each is a str."""
    if isinstance(texts, (str, bytes)):
        raise InvalidInputError(
            f"{name}: expected a list of texts, found a single one; it goes in as [text]"
        )
    found = listed(texts, name, "a list of texts")
    for position, text in enumerate(found):
        if not isinstance(text, str):
            raise InvalidInputError(
                f"{name}[{position}]: expected text, found {text!r} ({type(text).__name__})"
            )
    return found


def check_images(images: Sequence[Image], name: str = "images") -> Sequence[Image]:
    """Check that every image is uint8 ``(H, W, 3)`` with at least one pixel."""
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise InvalidInputError(
            f"{name}: expected a list of images, found one array of shape {images.shape}; "
            f"pass a single image as [image]"
        )
    if not isinstance(images, (list, tuple, np.ndarray)):
        images = listed(images, name, "a list of images")
    for position, image in enumerate(images):
        if (
            not isinstance(image, np.ndarray)
            or image.dtype != np.uint8
            or image.ndim != 3
            or image.shape[2] != 3
            or 0 in image.shape
        ):
            found = (
                f"{image.dtype} of shape {image.shape}"
                if isinstance(image, np.ndarray)
                else type(image).__name__
            )
            raise InvalidInputError(
                f"{name}[{position}]: expected uint8 of shape (H, W, 3), RGB, found {found}; "
                f"imgret.images.load() reads files"
            )
    return images
