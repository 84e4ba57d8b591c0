"""Comparison of two models by their embeddings of the same images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret.types import Embeddings

__all__ = ["cosines"]


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
