"""One vector per image from an output that has many: tokens of a transformer, places of a map."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError

__all__ = ["Pooling", "check_pooling", "pool"]

Pooling: TypeAlias = Literal["cls", "mean", "none"]


def check_pooling(pooling: str | None) -> Pooling | None:
    """Return the pooling, or raise an error that lists the known ones."""
    if pooling not in {"cls", "mean", "none", None}:
        raise InvalidInputError(f"pooling: expected 'cls', 'mean' or 'none', found {pooling!r}")
    return pooling  # type: ignore[return-value]  # narrowed by the line above


def pool(values: NDArray[np.float32], pooling: Pooling) -> NDArray[np.float32]:
    """Return one vector per image.

    Parameters
    ----------
    values : float32 array of shape (n, tokens, dim) or (n, channels, height, width)
        Other shapes are returned as they are.
    pooling : {"cls", "mean", "none"}
        ``"cls"`` takes the first token, ``"mean"`` the mean of all tokens or places.

    Returns
    -------
    float32 array of shape (n, dim)
    """
    if pooling == "none" or values.ndim < 3:
        return values
    if pooling == "cls":
        if values.ndim != 3:
            raise InvalidInputError(
                f"pooling: expected an output of shape (n, tokens, dim) for 'cls', found "
                f"{values.shape}; use 'mean'"
            )
        return np.ascontiguousarray(values[:, 0])
    axes = 1 if values.ndim == 3 else tuple(range(2, values.ndim))
    mean: NDArray[np.float32] = values.mean(axis=axes, dtype=np.float32)
    return mean
