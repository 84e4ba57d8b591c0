"""Calibration curves: non-decreasing maps from a score to a probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.support.statistics import logistic_regression, sigmoid

__all__ = ["CURVES", "Curve", "IsotonicCurve", "LogisticCurve", "pool_adjacent_violators"]

Floats: TypeAlias = NDArray[np.float64]


def pool_adjacent_violators(values: Any, weights: Any) -> Floats:
    """Return the non-decreasing sequence nearest to ``values`` by weighted least squares.

    Parameters
    ----------
    values, weights : arrays of shape (n,)
        Values, and their weights above 0.

    Returns
    -------
    float64 array of shape (n,)

    References
    ----------
    M. Ayer et al., "An Empirical Distribution Function for Sampling with Incomplete Information",
    1955.
    """
    means: list[float] = []
    masses: list[float] = []
    counts: list[int] = []
    for value, weight in zip(
        np.asarray(values).tolist(), np.asarray(weights).tolist(), strict=True
    ):
        mean, mass, count = value, weight, 1
        while means and means[-1] >= mean:  # the previous block is no lower: merge them
            before = masses.pop()
            mean = (means.pop() * before + mean * mass) / (before + mass)
            mass, count = before + mass, counts.pop() + count
        means.append(mean)
        masses.append(mass)
        counts.append(count)
    return np.repeat(np.array(means, dtype=np.float64), counts)


@dataclass(frozen=True, slots=True)
class IsotonicCurve:
    """Non-decreasing curve, straight between its corners and constant beyond them.

    Attributes
    ----------
    scores : tuple of float
        Scores of the corners, increasing.
    probabilities : tuple of float
        Probabilities at the corners, non-decreasing.

    References
    ----------
    B. Zadrozny and C. Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability
    Estimates", 2002.
    """

    method: ClassVar[str] = "isotonic"

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def fit(cls, scores: Floats, same: NDArray[np.bool_]) -> Self:
        """Fit the curve to pairs.

        Parameters
        ----------
        scores : float64 array of shape (n,)
        same : bool array of shape (n,)
            Whether each pair is of one class. The curve is fitted to Platt's targets, which are not
            quite 1 and 0, so that few pairs do not give certainty.
        """
        values, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
        means = np.bincount(places, weights=_targets(same)) / counts
        fitted = pool_adjacent_violators(means, counts)
        rises = np.diff(fitted) > 0
        # The first and the last score of each level.
        corners = np.append(True, rises) | np.append(rises, True)
        return cls(tuple(values[corners].tolist()), tuple(fitted[corners].tolist()))

    def probability(self, scores: Any) -> Floats:
        """Return the probability of each score."""
        return np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.probabilities)

    def threshold(self, precision: float) -> float | None:
        """Return the lowest score with this probability; None if no score reaches it."""
        at = int(np.searchsorted(self.probabilities, precision))
        if at == len(self.scores):
            return None
        if at == 0:
            return self.scores[0]
        low, high = self.probabilities[at - 1], self.probabilities[at]
        share = (precision - low) / (high - low)
        return self.scores[at - 1] + share * (self.scores[at] - self.scores[at - 1])


@dataclass(frozen=True, slots=True)
class LogisticCurve:
    """The logistic function of a line: ``1 / (1 + exp(-(slope * score + bias)))``.

    Attributes
    ----------
    slope : float
        Slope of the line, 0 or more.
    bias : float
    highest : float
        Highest score it was fitted to. It says nothing about higher ones.

    References
    ----------
    J. Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized
    Likelihood Methods", 1999.
    """

    method: ClassVar[str] = "logistic"

    slope: float
    bias: float
    highest: float

    @classmethod
    def fit(cls, scores: Floats, same: NDArray[np.bool_]) -> Self:
        """Fit the curve to pairs.

        Parameters
        ----------
        scores : float64 array of shape (n,)
        same : bool array of shape (n,)
            Whether each pair is of one class. The curve is fitted to Platt's targets, which are not
            quite 1 and 0, so that few pairs do not give certainty.
        """
        targets = _targets(same)
        middle, scale = float(scores.mean()), float(scores.std()) or 1.0
        line = np.stack([(scores - middle) / scale, np.ones(len(scores))], axis=1)
        weights = logistic_regression(line, targets)
        if weights[0] < 0:  # a better score must not lower the probability
            mean = targets.mean()
            weights = np.array([0.0, np.log(mean / (1 - mean))])
        steepness = float(weights[0]) / scale
        return cls(steepness, float(weights[1]) - steepness * middle, float(scores.max()))

    def probability(self, scores: Any) -> Floats:
        """Return the probability of each score."""
        return sigmoid(self.slope * np.asarray(scores, dtype=np.float64) + self.bias)

    def threshold(self, precision: float) -> float | None:
        """Return the lowest score with this probability; None if no score reaches it."""
        if self.slope == 0:
            return None
        score = float((np.log(precision / (1 - precision)) - self.bias) / self.slope)
        return score if score <= self.highest else None


Curve: TypeAlias = IsotonicCurve | LogisticCurve

CURVES: dict[str, type[IsotonicCurve | LogisticCurve]] = {
    "isotonic": IsotonicCurve,
    "logistic": LogisticCurve,
}


def find_curve(method: str) -> type[IsotonicCurve | LogisticCurve]:
    """Return the class of curve with this name, or raise an error that lists the known names."""
    if method not in CURVES:
        expected = " or ".join(map(repr, CURVES))
        raise InvalidInputError(f"method: expected {expected}, found {method!r}")
    return CURVES[method]


def _targets(same: NDArray[np.bool_]) -> Floats:
    """Return Platt's targets."""
    yes = int(same.sum())
    no = len(same) - yes
    return np.where(same, (yes + 1) / (yes + 2), 1 / (no + 2))
