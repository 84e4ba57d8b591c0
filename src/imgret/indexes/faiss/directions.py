"""The directions in which vectors are coded: all, or those in which they differ most."""

from __future__ import annotations

import numpy as np

from imgret.support.blas import eigh, qr
from imgret.types import Embeddings

__all__ = ["directions"]

_SAMPLE = 8192
# Vectors for each dimension, fewer than which would let directions seem to matter by chance.
_PER_DIMENSION = 2
# Bits of one piece of a code.
_BITS = 4
# The error must be at most this share of that of coding all directions.
_WORTH = 0.9


def directions(vectors: Embeddings, pieces: int) -> Embeddings | None:
    """Return the directions to code, if others cost more than they tell.

    A code has few bits. Spread over all directions they say little of each; spent on those in
    which the vectors differ most, they say more, and the rest is not said at all. ``w`` values of
    a Gaussian that share 4 bits keep at best ``2 ** (-8 / w)`` of their variance as error (the
    rate-distortion bound: T. Berger, "Rate Distortion Theory", 1971), and what is not coded keeps
    all of its variance. The number of directions is that of the least error.

    Parameters
    ----------
    vectors : float32 array of shape (n, d)
        Training vectors.
    pieces : int
        Pieces of a code, of 4 bits each.

    Returns
    -------
    float32 array of shape (pieces * w, d) or None
        Orthonormal rows, turned at random so that each tells as much as any other. One of them
        is what is left of the mean, so that inner products keep their size. None if all
        directions are to be coded, or if there are too few vectors to tell.
    """
    dim = vectors.shape[1]
    if dim <= pieces or len(vectors) < _PER_DIMENSION * dim:
        return None
    some = vectors[:: -(-len(vectors) // max(_SAMPLE, _PER_DIMENSION * dim))]
    mean = some.mean(axis=0, dtype=np.float64)
    some = some - mean.astype(np.float32)
    variances, axes = eigh((some.T @ some).astype(np.float64))
    shares = np.cumsum(variances[::-1]) / max(float(variances.sum()), 1e-300)
    widths = np.arange(1, -(-dim // pieces) + 1)
    kept = shares[np.minimum(widths * pieces, dim) - 1]
    errors = 1 - kept * (1 - 2.0 ** (-2 * _BITS / widths))
    best = int(np.argmin(errors))
    if errors[best] > _WORTH * errors[-1]:
        return None
    count = int(widths[best]) * pieces
    rows = axes.T[::-1][:count].copy()
    left = mean - rows.T @ (rows @ mean)
    if np.linalg.norm(left) > 1e-3 * np.sqrt(np.mean(np.vecdot(some, some))):
        rows[-1] = left - rows[:-1].T @ (rows[:-1] @ left)
        rows[-1] /= np.linalg.norm(rows[-1])
    turn, _ = qr(np.random.default_rng(0).standard_normal((count, count)))
    found: Embeddings = np.ascontiguousarray(turn @ rows, dtype=np.float32)
    return found
