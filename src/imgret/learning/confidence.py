"""Confidence of a vote of neighbours, learned from votes whose right label is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.support.statistics import logistic_regression, sigmoid
from imgret.types import Embeddings, Ids

__all__ = ["Confidence", "calibration_error", "vote"]

Floats = NDArray[np.float64]

# Multiples of the typical score range among neighbours: from the nearest alone to all equally.
_TEMPERATURES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
_MIN_QUERIES = 30
# Added to both sides of the odds, so that the log-odds stay finite.
_DOUBT = 0.005


def vote(codes: Ids, scores: Any, temperature: float) -> tuple[Ids, Floats]:
    """Let neighbours vote for their labels, each weighted by exp(score / temperature).

    Parameters
    ----------
    codes : int64 array of shape (n, k)
        Labels of the neighbours, best first; -1 for a neighbour without a vote.
    scores : array of shape (n, k)
    temperature : float
        Temperature above 0, in the unit of the scores.

    Returns
    -------
    winners : int64 array of shape (n,)
        Winning labels; -1 if no neighbour votes. In a tie, the label of the nearer neighbour.
    shares : float64 array of shape (n,)
        Share of the winner in all votes, between 0 and 1.
    """
    voting = codes >= 0
    values = np.where(voting, np.asarray(scores, dtype=np.float64), -np.inf)
    best = np.nan_to_num(values.max(axis=1, keepdims=True))  # finite even if nobody votes
    weights = np.exp((values - best) / temperature)
    rows = np.arange(len(codes))
    # One number per row and label, so that summing needs no k x k comparisons.
    _, labels = np.unique(codes + rows[:, None] * (codes.max(initial=0) + 2), return_inverse=True)
    labels = labels.reshape(codes.shape)
    totals = np.where(voting, np.bincount(labels.ravel(), weights.ravel())[labels], 0.0)
    first = totals.argmax(axis=1)
    # Summed in the same order, so that the share of a unanimous vote is exactly 1.
    everything = np.bincount(np.repeat(rows, codes.shape[1]), weights.ravel(), len(codes))
    # The best vote weighs 1: less than that is no vote at all.
    return codes[rows, first], totals[rows, first] / np.maximum(everything, 1.0)


@dataclass(frozen=True, slots=True)
class Confidence:
    """Turns a vote into a confidence: the estimated probability that the label is right.

    A logistic regression on the log-odds of the winner's share and on the best score
    (Platt, "Probabilistic outputs for support vector machines", 1999).

    Attributes
    ----------
    temperature : float
        Temperature of the votes' weights, in the unit of the scores.
    bias, share_weight, score_weight : float
        Coefficients of the regression; the weights are not negative.
    threshold : float
        Confidence below which an image is best called unknown.
    accuracy : float
        Accuracy of the votes it was learned from.
    queries : int
        Number of these votes.
    """

    temperature: float
    bias: float
    share_weight: float
    score_weight: float
    threshold: float
    accuracy: float
    queries: int

    @classmethod
    def learn(cls, own: Ids, codes: Ids, scores: Embeddings, k: int) -> Confidence:
        """Learn from items of the gallery, each with its neighbours among the other items.

        The threshold is learned by classifying each item twice: once with all neighbours, when
        the right label should be returned, and once without its own class, when "unknown" is
        right. The threshold is where both succeed most often, on average.

        Parameters
        ----------
        own : int64 array of shape (n,)
            Label of each item. Leave out items that are alone in their class.
        codes, scores : arrays of shape (n, m)
            Labels (-1 for none) and scores of their neighbours, best first. With ``m`` well
            above the size of a class, more items can be classified the second time.
        k : int
            Number of neighbours that vote.

        Raises
        ------
        InvalidInputError
            There are fewer than 30 items, or all are of one class.
        """
        if len(own) < _MIN_QUERIES or len(np.unique(own)) < 2:
            raise InvalidInputError(
                f"labels: expected at least 2 classes and {_MIN_QUERIES} images in classes of "
                f"two or more to learn confidence from, found {len(np.unique(own))} classes and "
                f"{len(own)} such images; label more images first"
            )
        known = codes[:, :k], scores[:, :k]
        finite = np.isfinite(known[1])
        ranges = known[1].max(axis=1) - np.where(finite, known[1], np.inf).min(axis=1)
        largest = np.abs(known[1][finite]).max(initial=0.0)
        spread = max(float(np.median(ranges[finite.any(axis=1)])), float(largest) * 1e-6, 1e-12)
        fits = [_fit(own, *known, spread * factor) for factor in _TEMPERATURES]
        _, temperature, weights = min(fits, key=lambda fit: fit[0])
        made = cls(temperature, *weights, threshold=nan, accuracy=nan, queries=len(own))
        winners, confidence = made.name(*known)
        right = winners == own
        strange, unsure = made.name(*_without(own, codes, scores, k))
        threshold = _threshold(confidence, right, unsure[strange >= 0])
        return replace(made, threshold=threshold, accuracy=float(right.mean()))

    def name(self, codes: Ids, scores: Any) -> tuple[Ids, Floats]:
        """Return the winner of each vote and the confidence in it, each of shape (n,).

        Parameters are those of `vote`. If no neighbour votes, the winner is -1 with confidence 0.
        """
        winners, shares = vote(codes, scores, self.temperature)
        share, best = _features(codes, scores, shares)
        logits = self.bias + self.share_weight * share + self.score_weight * best
        return winners, np.where(winners >= 0, sigmoid(logits), 0.0)


def calibration_error(confidence: Any, right: Any, bins: int = 15) -> float:
    """Return the expected calibration error: mean gap between confidence and accuracy.

    The mean is over bins of equal width, weighted by the number of values in each (Guo et al.,
    "On calibration of modern neural networks", ICML 2017).

    Parameters
    ----------
    confidence : array of shape (n,)
        Confidences between 0 and 1.
    right : array of shape (n,)
        Whether each prediction was right.
    bins : int
        Number of bins, at least 1.
    """
    confidence, right = np.asarray(confidence, float), np.asarray(right, float)
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, confidence - right)
    return float(np.abs(gaps).sum() / max(len(confidence), 1))


def _features(codes: Ids, scores: Any, shares: Floats) -> tuple[Floats, Floats]:
    best = np.where(codes >= 0, np.asarray(scores, dtype=np.float64), -np.inf).max(axis=1)
    odds = np.log((shares + _DOUBT) / (1 - shares + _DOUBT))
    return odds, np.where(np.isfinite(best), best, 0.0)


def _fit(
    own: Ids, codes: Ids, scores: Embeddings, temperature: float
) -> tuple[float, float, tuple[float, float, float]]:
    """Return log loss, temperature and (bias, share weight, score weight)."""
    winners, shares = vote(codes, scores, temperature)
    share, best = _features(codes, scores, shares)
    right = winners == own
    # Platt's targets: even if all votes are right here, not all later ones will be.
    target = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    shift, scale = float(best.mean()), float(best.std()) or 1.0
    columns = [np.ones(len(own)), share, (best - shift) / scale]
    # The penalty decides what the data leave open.
    ridge = np.array([1e-3, 1.0, 1.0])
    weights = logistic_regression(np.stack(columns, axis=1), target, ridge)
    for used in (2, 1):  # a worse score, or a smaller share, must not raise the confidence
        if weights[used] < 0:
            fitted = logistic_regression(np.stack(columns[:used], axis=1), target, ridge[:used])
            weights = np.concatenate([fitted, np.zeros(3 - used)])
    predicted = sigmoid(np.stack(columns, axis=1) @ weights)
    loss = -(target * np.log(predicted) + (1 - target) * np.log(1 - predicted)).mean()
    bias, of_share, of_score = weights.tolist()
    return (
        float(loss),
        temperature,
        (bias - of_score * shift / scale, of_share, of_score / scale),
    )


def _without(own: Ids, codes: Ids, scores: Embeddings, k: int) -> tuple[Ids, Embeddings]:
    """Return the first ``k`` neighbours of other classes; -1 and -inf where there are fewer."""
    others = (codes != own[:, None]) & (codes >= 0)
    order = np.argsort(~others, axis=1, kind="stable")[:, :k]
    left = np.take_along_axis(others, order, axis=1)
    return (
        np.where(left, np.take_along_axis(codes, order, axis=1), -1),
        np.where(left, np.take_along_axis(scores, order, axis=1), -np.inf),
    )


def _threshold(confidence: Floats, right: NDArray[np.bool_], unsure: Floats) -> float:
    if not len(unsure):  # no unknowns to learn from: reject what is more likely wrong than right
        return 0.5
    candidates = np.unique(np.concatenate([[0.0], confidence, unsure]))
    told = np.sort(confidence[right])
    kept = (len(told) - np.searchsorted(told, candidates)) / len(confidence)
    refused = np.searchsorted(np.sort(unsure), candidates) / len(unsure)
    return float(candidates[int((kept + refused).argmax())])
