"""Scores that spread over the graph of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.abc.checks import check_count, check_number
from imgret.errors import InvalidInputError
from imgret.rerank.neighbors import nearest, unit_vectors

__all__ = ["diffuse"]

_BLOCK = 64  # queries solved at once
_TOLERANCE = 1e-6


def diffuse(
    queries: Any,
    gallery: Any,
    *,
    k: int = 50,
    k_query: int = 10,
    alpha: float = 0.99,
    gamma: float = 3.0,
    iterations: int = 20,
) -> NDArray[np.float32]:
    """Score every item by how well it is reached from the query over mutual neighbours.

    The items' graph joins those that are among each other's ``k`` nearest, with the cosine to the
    power ``gamma`` as weight. A query enters at its ``k_query`` nearest items, and what spreads
    from there by ``f = alpha * S f + (1 - alpha) * y`` is the score, S being the graph's matrix
    scaled by the square roots of its degrees on both sides. The equation is solved by conjugate
    gradients.

    Parameters
    ----------
    queries, gallery : arrays of shape (n, dim) and (m, dim)
    k, k_query : int
    alpha : float
        Share that spreads on, over 0 and below 1.
    gamma : float
        Over 0.
    iterations : int
        At most, of conjugate gradients.

    Returns
    -------
    float32 array of shape (n, m)
        At least 0, but for what is left of the equation; higher is better. 0 where nothing arrives.

    Raises
    ------
    InvalidInputError
        Shapes do not agree, or a number is out of its range.

    References
    ----------
    A. Iscen et al., "Efficient Diffusion on Region Manifolds: Recovering Small Objects with
    Compact CNN Representations", 2017.
    """
    queries = unit_vectors(queries, "queries")
    gallery = unit_vectors(gallery, "gallery", queries.shape[1])
    k, k_query = check_count(k, "k"), check_count(k_query, "k_query")
    alpha = check_number(alpha, "alpha", above=0, at_most=1)
    if alpha == 1:
        raise InvalidInputError("alpha: expected a number over 0 and below 1, found 1")
    gamma = check_number(gamma, "gamma", above=0, at_most=1e3)
    iterations = check_count(iterations, "iterations")
    sources, targets, weights = _graph(gallery, k, gamma)
    scores = np.zeros((len(queries), len(gallery)), dtype=np.float32)
    entries, cosines = nearest(queries, gallery, k_query)
    strength = np.maximum(cosines, 0).astype(np.float64) ** gamma
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, start + _BLOCK)
        y = np.zeros((len(gallery), len(entries[rows])))
        np.put_along_axis(y.T, entries[rows], strength[rows], axis=1)

        def apply(f: NDArray[np.float64]) -> NDArray[np.float64]:
            spread = np.empty_like(f)
            for column in range(f.shape[1]):
                spread[:, column] = np.bincount(
                    sources, weights=weights * f[targets, column], minlength=len(f)
                )
            return f - alpha * spread

        scores[rows] = ((1 - alpha) * _solved(apply, y, iterations)).T
    return scores


def _graph(
    gallery: NDArray[np.float32], k: int, gamma: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the edges between mutual neighbours, each both ways, with scaled weights."""
    rows, cosines = nearest(gallery, gallery, min(k + 1, len(gallery)))
    n = len(gallery)
    sources = np.repeat(np.arange(n), rows.shape[1])
    targets = rows.ravel()
    weights = np.maximum(cosines.ravel(), 0).astype(np.float64) ** gamma
    edge = (sources != targets) & (weights > 0)
    sources, targets, weights = sources[edge], targets[edge], weights[edge]
    mutual = np.isin(sources * n + targets, targets * n + sources)
    sources, targets, weights = sources[mutual], targets[mutual], weights[mutual]
    degree = np.bincount(sources, weights=weights, minlength=n)
    return sources, targets, weights / np.sqrt(degree[sources] * degree[targets])


def _solved(apply: Any, y: NDArray[np.float64], iterations: int) -> NDArray[np.float64]:
    """Solve for every column of y at once by conjugate gradients."""
    x = np.zeros_like(y)
    residual = y.copy()
    direction = residual.copy()
    size = (residual**2).sum(axis=0)
    first = np.maximum(size, 1e-300)
    for _ in range(iterations):
        if (size <= _TOLERANCE**2 * first).all():
            break
        applied = apply(direction)
        step = size / np.maximum((direction * applied).sum(axis=0), 1e-300)
        x += step * direction
        residual -= step * applied
        new = (residual**2).sum(axis=0)
        direction = residual + new / np.maximum(size, 1e-300) * direction
        size = new
    return x
