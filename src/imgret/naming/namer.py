"""Names for queries, from the hits of a gallery with labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from imgret.adaptation import TRIAL_ITEMS, CrossFit
from imgret.naming.calibration import Calibration
from imgret.projections import LinearProjection
from imgret.storage import Store
from imgret.types import Embeddings, Hit, Ids, Neighbors

__all__ = ["Name", "Namer"]

# Items asked for their neighbours to learn the confidence from, and how many neighbours:
# enough to go past the own class as a rule.
_QUERIES = 1000
_REACH = 256

Search = Callable[[Embeddings, int], Neighbors]


@dataclass(frozen=True, slots=True)
class Name:
    """What a picture shows.

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

    def __str__(self) -> str:
        if self.label is not None:
            return f"{self.label} ({self.confidence:.2f})"
        best = next(iter(self.votes), None)
        return "unknown" if best is None else f"unknown ({self.confidence:.2f} for {best})"


class Namer:
    """Names queries by the vote of their ``k`` nearest labelled neighbours.

    Parameters
    ----------
    calibration : Calibration
    k : int
    """

    def __init__(self, calibration: Calibration, k: int) -> None:
        self.calibration = calibration
        self.k = k

    @classmethod
    def learn(
        cls, store: Store, search: Search, projection: LinearProjection | None, k: int
    ) -> Namer:
        """Learn how sure a vote is from the gallery itself, leaving out whoever is asked.

        A projection that was fitted to the labels knows the gallery better than it will know
        a new picture: there the items are asked by one fitted without them.

        Parameters
        ----------
        store : Store
        search : callable
            Finds the ids nearest to embeddings.
        projection : LinearProjection or None
            The one in use.
        k : int
            Neighbours that vote.

        Raises
        ------
        InvalidInputError
            Too few labels.
        """
        ids, codes, _ = store.catalog.labelled()
        if projection is not None and projection.kind == "lda" and len(ids) <= TRIAL_ITEMS:
            own, found, scores = _cross_fitted(store, ids, codes, projection)
        else:
            own, found, scores = _left_out(store, ids, codes, search)
        return cls(Calibration.learn(own, found, scores, k), k)

    def name(self, hits: Sequence[Hit], threshold: float | None = None) -> Name:
        """Name what the hits were found for.

        Parameters
        ----------
        hits : sequence of Hit
            The first `k` are asked; those without a label have no vote.
        threshold : float, optional
            By default the calibration's.
        """
        threshold = self.calibration.threshold if threshold is None else threshold
        asked = [hit for hit in hits[: self.k] if hit.label is not None]
        if not asked:
            return Name(None, 0.0, {}, threshold, hits)
        places: dict[str | None, int] = {}
        codes = np.array([[places.setdefault(hit.label, len(places)) for hit in asked]])
        scores = np.array([[hit.score for hit in asked]], dtype=np.float64)
        winners, confidences = self.calibration.name(codes, scores)
        weights = np.exp((scores[0] - scores.max()) / self.calibration.temperature)
        shares = np.bincount(codes[0], weights) / weights.sum()
        names = [str(label) for label in places]
        votes = {names[i]: float(shares[i]) for i in np.argsort(-shares, kind="stable")}
        confidence = float(confidences[0])
        label = names[int(winners[0])] if confidence >= threshold else None
        return Name(label, confidence, votes, threshold, hits)


def _left_out(store: Store, ids: Ids, codes: Ids, search: Search) -> tuple[Ids, Ids, Embeddings]:
    """Ask the index for the neighbours of some items, and drop the item itself."""
    several = np.flatnonzero(np.bincount(codes)[codes] > 1) if len(codes) else codes
    generator = np.random.default_rng(0)
    asked = np.sort(generator.permutation(several)[:_QUERIES])
    k = min(_REACH + 1, len(store.catalog))
    if not len(asked):
        return codes[asked], np.empty((0, k), np.int64), np.empty((0, k), np.float32)
    found, scores = search(store.read(ids[asked]), k)
    # An index that is not exact may miss the item itself; then the farthest goes.
    order = np.argsort(found == ids[asked][:, None], axis=1, kind="stable")[:, : k - 1]
    found = np.take_along_axis(found, order, axis=1)
    scores = np.take_along_axis(scores, order, axis=1)
    places = np.minimum(np.searchsorted(ids, found), len(ids) - 1)
    return codes[asked], np.where(ids[places] == found, codes[places], -1), scores


def _cross_fitted(
    store: Store, ids: Ids, codes: Ids, projection: LinearProjection
) -> tuple[Ids, Ids, Embeddings]:
    """Ask for the neighbours of items by projections that were fitted without them."""
    shrinkage = float(projection.info["shrinkage"])
    cross = CrossFit(store.read(ids), codes, store.manifest.metric)
    own, found, scores = [], [], []
    for fold, held_out in enumerate(cross.held_out):
        queries = held_out[:: max(1, 3 * len(held_out) // _QUERIES)]
        if not len(queries):
            continue
        fitted = cross.projection(fold, shrinkage, projection.dim_out)
        positions, values = cross.neighbors(fold, queries, _REACH, fitted)
        own.append(codes[queries])
        found.append(codes[positions])
        scores.append(values)
    if not own:
        return codes[:0], np.empty((0, 1), np.int64), np.empty((0, 1), np.float32)
    width = min(values.shape[1] for values in scores)
    return (
        np.concatenate(own),
        np.concatenate([rows[:, :width] for rows in found]),
        np.concatenate([rows[:, :width] for rows in scores]),
    )
