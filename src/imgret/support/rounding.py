"""Rounding of embeddings to the gallery's dtype, and checks that they stay usable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.errors import DimensionError, InvalidInputError
from imgret.support.checks import check_scorable
from imgret.support.metric import DistanceMetric
from imgret.types import Dtype, Embeddings, Metric

__all__ = ["as_kept", "refusals", "too_small"]

# Share of a row's length that rounding to float16 may change: twice the error of numbers over 6e-5,
# of which float16 keeps all bits. The error of smaller numbers is at most half their spacing.
_CHANGED, _HALF_SPACING = 2.0**-10, 2.0**-25
_HALF_MOST = 65504.0  # the largest float16


def refusals(embeddings: Any, *, dim: int, metric: Metric, dtype: Dtype) -> list[str | None]:
    """Return for each embedding why it cannot be stored and searched, or None if it can.

    Embeddings are checked after rounding to ``dtype``.

    Raises
    ------
    InvalidInputError
        ``embeddings`` is not an array of shape (n, dim).
    """
    embeddings = as_kept(embeddings, metric=metric, dtype=dtype)
    if dtype == "float16" and _surely_fit(embeddings, dim):
        return [None] * len(embeddings)
    with np.errstate(over="ignore"):
        kept = embeddings.astype(dtype).astype(np.float32)
    try:
        check_scorable(kept, dim, metric, "embedding")
    except DimensionError:
        raise
    except InvalidInputError:
        return [_refusal(*rows, dim, metric, dtype) for rows in zip(embeddings, kept, strict=True)]
    if dtype == "float16" and too_small(embeddings).any():
        return [_refusal(*rows, dim, metric, dtype) for rows in zip(embeddings, kept, strict=True)]
    return [None] * len(kept)


def _surely_fit(rows: Any, dim: int) -> bool:
    """Whether float32 rows are valid in float16 by their lengths alone, without rounding them."""
    if not isinstance(rows, np.ndarray) or rows.dtype != np.float32 or rows.shape[1:] != (dim,):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.vecdot(rows, rows)  # NaN if a number is
    low, high = 2 * dim * (_HALF_SPACING / _CHANGED) ** 2, _HALF_MOST**2
    return bool(len(rows) and squares.min() >= low and squares.max() <= high)


def as_kept(embeddings: Any, *, metric: Metric, dtype: Dtype) -> Any:
    """Return embeddings at the length at which they are stored.

    For metric ``"cosine"``, where length does not matter, those whose numbers are too small for
    float16 are scaled to length 1. All others are returned unchanged.
    """
    rows = np.asarray(embeddings)
    if not DistanceMetric(metric).on_sphere or dtype != "float16":
        return embeddings
    if rows.ndim != 2 or rows.dtype.kind != "f" or not (small := too_small(rows)).any():
        return embeddings
    scaled = rows.copy()
    exact = rows[small].astype(np.float64)
    scaled[small] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return scaled


def too_small(vectors: Embeddings) -> NDArray[np.bool_]:
    """Return which rows lose their direction in float16, as their numbers are too small for it.

    Below 6e-5, the smaller a float16 is, the fewer bits it has. Small numbers beside large ones do
    no harm, and a row of zeros loses nothing.

    Parameters
    ----------
    vectors : array of real numbers of shape (n, dim)

    Returns
    -------
    bool array of shape (n,)
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.vecdot(vectors, vectors)
    # Longer rows cannot change that much, whatever their values.
    small = np.flatnonzero(squares < 2 * vectors.shape[1] * (_HALF_SPACING / _CHANGED) ** 2)
    rows = vectors[small].astype(np.float64)
    changes = np.linalg.norm(rows.astype(np.float16) - rows, axis=1)
    found = np.zeros(len(vectors), dtype=np.bool_)
    found[small] = changes > _CHANGED * np.linalg.norm(rows, axis=1)
    return found


def _refusal(
    embedding: Embeddings, kept: Embeddings, dim: int, metric: Metric, dtype: Dtype
) -> str | None:
    if np.isfinite(embedding).all() and not np.isfinite(kept).all():
        return (
            f"embedding: expected values within +-65504 (float16), found "
            f"{np.abs(embedding).max():.4g}; make the gallery with dtype='float32'"
        )
    try:
        check_scorable(kept[None], dim, metric, "embedding")
    except InvalidInputError as error:
        return str(error)
    if dtype == "float16" and too_small(embedding[None])[0]:
        return (
            f"embedding: expected values that float16 can represent, the largest at least 6e-05, "
            f"found at most {np.abs(embedding).max():.4g}; make the gallery with dtype='float32', "
            f"or scale the embeddings"
        )
    return None
