"""Names for queries, from the hits of a gallery with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from imgret.learning.confidence import Confidence
from imgret.pages.result import Result
from imgret.search import View
from imgret.types import Hit, Json

__all__ = ["Classifier", "Name"]

# Items asked for their neighbours to learn the confidence from, and how many neighbours:
# enough to go past the own class as a rule.
_QUERIES = 1000
_REACH = 256


@dataclass(frozen=True, slots=True)
class Name(Result):
    """What an image shows.

    Attributes
    ----------
    label : str or None
        The winner of the vote; None, unknown, where its confidence is below the threshold.
    confidence : float
        Estimated probability that the winner is right, told or not.
    votes : dict of str to float
        Share of each label, best first; together 1.
    threshold : float
        The one that was used.
    hits : sequence of Hit
        The neighbours that were asked.
    """

    label: str | None
    confidence: float
    votes: dict[str, float]
    threshold: float
    hits: Sequence[Hit] = field(repr=False)

    def to_dict(self) -> Json:
        """Return everything as JSON values; of the hits key, label and score."""
        hits = [{"key": hit.key, "label": hit.label, "score": hit.score} for hit in self.hits]
        return {
            "label": self.label,
            "confidence": self.confidence,
            "votes": self.votes,
            "threshold": self.threshold,
            "hits": hits,
        }

    def __str__(self) -> str:
        if self.label is not None:
            return f"{self.label} ({self.confidence:.2f})"
        best = next(iter(self.votes), None)
        return "unknown" if best is None else f"unknown ({self.confidence:.2f} for {best})"


class Classifier:
    """Names queries by the vote of their ``k`` nearest labelled neighbours.

    Parameters
    ----------
    confidence : Confidence
    k : int
    """

    def __init__(self, confidence: Confidence, k: int) -> None:
        self.confidence = confidence
        self.k = k

    @classmethod
    def learn(cls, view: View, k: int) -> Classifier:
        """Learn from the gallery itself how far a vote is to be trusted.

        Parameters
        ----------
        view : View
        k : int
            Neighbours that vote.

        Raises
        ------
        InvalidInputError
            There are too few labels.
        """
        labels = view.labels
        several = np.bincount(labels.codes, minlength=1)[labels.codes] > 1
        asked = view.sample(_QUERIES, 0, among=labels.ids[several])
        reach = min(_REACH, len(view) - 1)
        parts = list(view.nearest_unseen(asked, reach)) if len(asked) else []
        own = [labels.of(ids) for ids, _ in parts]
        codes = [labels.of(found.ids) for _, found in parts]
        scores = [found.scores for _, found in parts]
        return cls(
            Confidence.learn(
                np.concatenate([np.empty(0, np.int64), *own]),
                np.concatenate(codes or [np.empty((0, 1), np.int64)]),
                np.concatenate(scores or [np.empty((0, 1), np.float32)]),
                k,
            ),
            k,
        )

    def name(self, hits: Sequence[Hit], threshold: float | None = None) -> Name:
        """Name what the hits were found for.

        Parameters
        ----------
        hits : sequence of Hit
            The first `k` are asked; those without a label have no vote.
        threshold : float, optional
            By default the learned one.
        """
        threshold = self.confidence.threshold if threshold is None else threshold
        asked = [hit for hit in hits[: self.k] if hit.label is not None]
        if not asked:
            return Name(None, 0.0, {}, threshold, hits)
        places: dict[str | None, int] = {}
        codes = np.array([[places.setdefault(hit.label, len(places)) for hit in asked]])
        scores = np.array([[hit.score for hit in asked]], dtype=np.float64)
        winners, confidences = self.confidence.name(codes, scores)
        weights = np.exp((scores[0] - scores.max()) / self.confidence.temperature)
        shares = np.bincount(codes[0], weights) / weights.sum()
        names = [str(label) for label in places]
        votes = {names[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable")}
        confidence = float(confidences[0])
        label = names[int(winners[0])] if confidence >= threshold else None
        return Name(label, confidence, votes, threshold, hits)
