"""Comparison of two models by their embeddings of the same images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret.types import Embeddings

__all__ = ["cosines", "same_nearest"]


def cosines(expected: Embeddings, found: Embeddings) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows.

    Parameters
    ----------
    expected, found : float32 arrays of shape (n, dim)

    Returns
    -------
    float64 array of shape (n,)
        0 for a vector without length.
    """
    a, b = expected.astype(np.float64), found.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products: NDArray[np.float64] = np.einsum("nd,nd->n", a, b)
    return products / np.where(lengths > 0, lengths, 1)


def same_nearest(expected: Embeddings, found: Embeddings) -> float | None:
    """Return the share of images whose nearest other image is the same in both.

    Parameters
    ----------
    expected, found : float32 arrays of shape (n, dim)

    Returns
    -------
    float or None
        From 0 to 1; None for fewer than three images.
    """
    if len(expected) < 3:
        return None
    nearest = []
    for rows in (expected, found):
        unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        scores = unit @ unit.T
        np.fill_diagonal(scores, -np.inf)
        nearest.append(scores.argmax(axis=1))
    return float((nearest[0] == nearest[1]).mean())
