"""Classification of queries by the labels of their hits."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from imgret.learning.confidence import Confidence
from imgret.pages.result import Result
from imgret.search import View
from imgret.search.hits import Hits
from imgret.support.terminal import plain
from imgret.types import Hit, Json, Neighbors

__all__ = ["Classifier", "Name"]

# Number of items to learn the confidence from, and of neighbours of each: usually enough to reach
# beyond its own class.
_QUERIES = 1000
_REACH = 256
_SHOWN = 10  # labels in a notebook


@dataclass(frozen=True, slots=True)
class Name(Result):
    """Label of an image, with a confidence.

    Attributes
    ----------
    label : str or None
        Winner of the vote; None (unknown) if its confidence is below the threshold.
    confidence : float
        Estimated probability that the winner is right, also if ``label`` is None.
    votes : dict of str to float
        Share of the vote for each label, best first; the shares add up to 1.
    threshold : float
        Confidence threshold that was used.
    hits : sequence of Hit
        Hits of the image, whose labels voted.
    """

    label: str | None
    confidence: float
    votes: dict[str, float]
    threshold: float
    hits: Sequence[Hit] = field(repr=False)

    def to_dict(self) -> Json:
        """Return everything as JSON values; hits have their key, label and score."""
        hits = [{"key": hit.key, "label": hit.label, "score": hit.score} for hit in self.hits]
        return {
            "label": self.label,
            "confidence": self.confidence,
            "votes": self.votes,
            "threshold": self.threshold,
            "hits": hits,
        }

    def _body(self) -> str:
        votes = "".join(
            f"<tr><td>{html.escape(label)}</td><td>{share:.3f}</td>"
            f'<td><span class="bar"><i style="width:{100 * share:.1f}%"></i></span></td></tr>'
            for label, share in list(self.votes.items())[:_SHOWN]
        )
        body = f"<p><b>{html.escape(str(self))}</b></p>"
        if votes:
            body += (
                '<table><thead><tr><th scope="col">label</th><th scope="col">share of the vote</th>'
                f"<th></th></tr></thead><tbody>{votes}</tbody></table>"
            )
        return body + (self.hits._body() if isinstance(self.hits, Hits) else "")  # noqa: SLF001  # a result in a result

    def __str__(self) -> str:
        if self.label is not None:
            return f"{plain(self.label)} ({self.confidence:.2f})"
        best = next(iter(self.votes), None)
        return "unknown" if best is None else f"unknown ({self.confidence:.2f} for {plain(best)})"


class Classifier:
    """Classifies queries by the vote of their ``k`` nearest labelled neighbours.

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
        """Learn from the gallery itself how much a vote can be trusted.

        Parameters
        ----------
        view : View
        k : int
            Number of neighbours that vote.

        Raises
        ------
        InvalidInputError
            There are too few labels.
        """
        labels = view.labels
        several = np.bincount(labels.codes)[labels.codes] > 1
        asked = view.sample(_QUERIES, 0, among=labels.ids[several])
        nothing = Neighbors(asked[:, None], asked[:, None].astype(np.float32))
        parts = list(view.nearest_unseen(asked, _REACH)) or [(asked, nothing)]
        own = labels.of(np.concatenate([ids for ids, _ in parts]))
        codes = labels.of(np.concatenate([found.ids for _, found in parts]))
        scores = np.concatenate([found.scores for _, found in parts])
        return cls(Confidence.learn(own, codes, scores, k), k)

    def name(self, hits: Sequence[Hit], threshold: float | None = None) -> Name:
        """Classify the query that the hits were found for.

        Parameters
        ----------
        hits : sequence of Hit
            Hits of the query. The first `k` vote, except those without a label.
        threshold : float, optional
            Lowest confidence of a label; by default the learned threshold.
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
