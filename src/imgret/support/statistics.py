"""Statistics: folds, the bootstrap over queries, logistic regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.support.blas import one_thread
from imgret.types import Ids

__all__ = [
    "discoveries",
    "fold_of",
    "interval",
    "logistic_regression",
    "resampled_means",
    "sigmoid",
    "sign_flip_p",
]

Floats = NDArray[np.float64]

# Maximum number of counts, of all queries in some resamples, that are held at once.
_BLOCK = 2**22
_STEPS = 100  # of Newton's method at most; it usually takes about ten


def fold_of(codes: Ids, folds: int, seed: int = 0) -> Ids:
    """Return the fold of each item, 0 to ``folds - 1``; -1 for a class of one item.

    Each class is spread over the folds as evenly as possible, so that a held-out item has another
    one of its class among the rest. An item that is alone in its class is never held out.

    Parameters
    ----------
    codes : int64 array of shape (n,)
        Class of each item, at least 0.
    folds : int
        Number of folds, at least 2.
    seed : int
        Seed of the shuffle.
    """
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]
    result: Ids = np.empty(len(codes), dtype=np.int64)
    # Dealt out like cards, class after class: neighbours in this order are in different folds.
    result[order] = np.arange(len(codes)) % folds
    result[np.bincount(codes)[codes] == 1] = -1
    return result


def resampled_means(values: Mapping[str, Floats], *, n_resamples: int, seed: int) -> Floats:
    """Return the means of measures over queries drawn with replacement.

    Parameters
    ----------
    values : mapping of name to float64 array of shape (n,)
        Values of each measure, one per query.
    n_resamples, seed : int

    Returns
    -------
    float64 array of shape (n_resamples, number of measures)
        Means; all measures are taken over the same resamples.
    """
    table = np.stack(list(values.values()), axis=1)
    n = len(table)
    generator = np.random.default_rng(seed)
    means = np.empty((n_resamples, table.shape[1]))
    step = max(1, _BLOCK // n)
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        drawn = generator.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        means[start : start + rows] = counts @ table / n
    return means


def interval(means: Floats, confidence: float) -> Floats:
    """Return the percentile interval of each measure: shape (2, number of measures)."""
    tail = (1 - confidence) / 2
    bounds: Floats = np.quantile(means, (tail, 1 - tail), axis=0)
    return bounds


def sign_flip_p(differences: Floats, *, n_resamples: int, seed: int) -> float:
    """Return the two-sided p-value that paired differences have a mean of 0.

    This is a randomisation test: under that hypothesis, each difference could as well have the
    other sign. It also holds for few queries, where a bootstrap claims too much.

    Parameters
    ----------
    differences : float64 array of shape (n,)
    n_resamples : int
        Number of random assignments of signs.
    seed : int

    References
    ----------
    Smucker, Allan and Carterette, "A comparison of statistical significance tests for information
    retrieval evaluation", CIKM 2007.
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    least = abs(moved.sum()) - 1e-9
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // len(moved))
    reached = 0
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        signs = generator.integers(0, 2, (rows, len(moved)), dtype=np.int8) * 2.0 - 1
        reached += int((np.abs(signs @ moved) >= least).sum())
    # One is added, since no number of samples proves a probability of 0.
    return (reached + 1) / (n_resamples + 1)


def discoveries(p_values: Floats, rate: float) -> NDArray[np.bool_]:
    """Return which of many tests to believe, so that about ``rate`` of these are wrong.

    References
    ----------
    Benjamini and Hochberg, "Controlling the false discovery rate", 1995.
    """
    order = np.argsort(p_values, kind="stable")
    limits = rate * np.arange(1, len(order) + 1) / max(1, len(order))
    passed = np.flatnonzero(p_values[order] <= limits)
    found = np.zeros(len(order), dtype=np.bool_)
    if len(passed):
        found[order[: passed[-1] + 1]] = True
    return found


def logistic_regression(columns: Floats, targets: Floats, ridge: Any = 1e-9) -> Floats:
    """Fit weights to targets between 0 and 1, by Newton's method.

    Parameters
    ----------
    columns : float64 array of shape (n, m)
        Predictors; a column of ones gives a bias.
    targets : float64 array of shape (n,)
    ridge : float or array of shape (m,)
        Penalty of each squared weight, in units of one row's log loss.

    Returns
    -------
    float64 array of shape (m,)
    """
    weights = np.zeros(columns.shape[1])
    penalty = np.broadcast_to(np.asarray(ridge, dtype=np.float64), weights.shape)
    with one_thread():
        for _ in range(_STEPS):
            predicted = sigmoid(columns @ weights)
            slope = columns.T @ (predicted - targets) + penalty * weights
            slopes = predicted * (1 - predicted)
            curve = (columns * slopes[:, None]).T @ columns + np.diag(penalty)
            step = np.linalg.solve(curve, slope)
            weights -= step * min(1.0, 3.0 / max(float(np.abs(step).max()), 1e-12))
            if np.abs(step).max() < 1e-8:
                break
    return weights


def sigmoid(logits: Floats) -> Floats:
    """Return ``1 / (1 + exp(-logits))``, never quite 0."""
    values: Floats = 1 / (1 + np.exp(-np.clip(logits, -40, 40)))
    return values
