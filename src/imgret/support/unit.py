"""Vectors of length 1."""

from __future__ import annotations

import numpy as np

from imgret.types import Embeddings

__all__ = ["unit_length"]


def unit_length(vectors: Embeddings) -> Embeddings:
    """Return rows scaled to length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Embeddings = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit
