"""Embeddings as they are kept: rounded to the gallery's dtype, where that leaves them usable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.errors import DimensionError, InvalidInputError
from imgret.support.checks import check_scorable
from imgret.support.metric import DistanceMetric
from imgret.types import Dtype, Embeddings, Metric

__all__ = ["as_kept", "refusals", "too_small"]

# Of a row's length, what rounding to float16 may change: twice what it does to numbers of which
# float16 keeps all bits, those over 6e-5. The error of smaller ones is at most half their spacing.
_CHANGED, _HALF_SPACING = 2.0**-10, 2.0**-25


def refusals(embeddings: Any, *, dim: int, metric: Metric, dtype: Dtype) -> list[str | None]:
    """Say of each embedding why it cannot be kept and searched; None where it can.

    What counts is what remains of it when rounded to ``dtype``.

    Raises
    ------
    InvalidInputError
        They are no array of shape (n, dim).
    """
    embeddings = as_kept(embeddings, metric=metric, dtype=dtype)
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


def as_kept(embeddings: Any, *, metric: Metric, dtype: Dtype) -> Any:
    """Return embeddings at the length at which they are kept.

    For metric ``"cosine"``, where it counts for nothing, that is 1 for those whose numbers are
    too small for float16; else it stays as it is.
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
    """Tell which rows lose their direction in float16, as their numbers are too small for it.

    Below 6e-5 a float16 has the fewer bits the smaller it is. Small numbers beside large ones do
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
    # Longer ones are not changed so much, whatever is in them.
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
            f"embedding: expected values that float16 can tell apart, the largest of 6e-05 or "
            f"more, found {np.abs(embedding).max():.4g} at most; make the gallery with "
            f"dtype='float32', or scale the embeddings"
        )
    return None
