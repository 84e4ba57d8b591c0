"""A gallery that knows what its scores mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from imgret.errors import InvalidInputError
from imgret.learning import (
    CalibrationReport,
    ScoreCalibration,
    calibrate,
    given_pairs,
    near_pairs,
)
from imgret.learning.calibrate import check_precision
from imgret.learning.curves import find_curve
from imgret.retriever.gallery import Gallery
from imgret.support.checks import check_count, check_seed
from imgret.types import Json, Metric

__all__ = ["Calibrating"]


class Calibrating(Gallery):
    """From scores to probabilities."""

    _parsed: tuple[Json, ScoreCalibration] | None = None  # what the manifest holds, and as what

    @property
    def calibration(self) -> ScoreCalibration | None:
        """What turns scores into probabilities; None where it was not learned, or not for these.

        After `adapt` and `project` scores are others: `calibrate` has to be called again.
        """
        content = self._store.manifest.calibration
        if content is None:
            return None
        if self._parsed is None or self._parsed[0] is not content:
            self._parsed = content, ScoreCalibration.from_json(content)
        found = self._parsed[1]
        return found if (found.metric, found.projection) == self._scored_by() else None

    def calibrate(
        self,
        pairs: Iterable[tuple[str, str, bool]] | None = None,
        *,
        method: Literal["isotonic", "logistic"] = "isotonic",
        k: int = 50,
        n_queries: int = 2000,
        seed: int = 0,
    ) -> CalibrationReport:
        """Learn how likely it is that a hit of some score is of the query's class.

        `search` then takes a precision instead of a threshold, and its hits have probabilities.
        What is learned is kept in the manifest. It holds for the metric and the projection in
        use, and as long as the gallery does not change much: call it again after `adapt`, after
        `project`, and after many items were added. No picture is read.

        Parameters
        ----------
        pairs : iterable of (key, key, bool), optional
            Items, and whether they are of one class. By default labelled items with their nearest
            labelled others; where the gallery was adapted, items by a projection that was fitted
            without them. Of pairs that are given nobody knows whether the projection was fitted
            to them: take items that had no label when `adapt` was called.
        method : {"isotonic", "logistic"}
            Any curve that never falls, by pool-adjacent-violators, or the logistic function of a
            line, which is better with fewer than some thousand pairs.
        k : int
            Others an item is paired with.
        n_queries : int
            Items that are paired; all of them where there are fewer.
        seed : int
            Of the draw, and of the folds of the cross-validation.

        Returns
        -------
        CalibrationReport
            How good it is on pictures that were held out, and what a precision costs.

        Raises
        ------
        InvalidInputError
            There are too few pairs of one class or of different ones, or a pair is none.
        KeyNotFoundError
            The gallery does not hold a key.
        EmptyGalleryError
            There are no items.
        StoreReadOnlyError
            The gallery was opened for reading.

        References
        ----------
        B. Zadrozny and C. Elkan, "Transforming Classifier Scores into Accurate Multiclass
        Probability Estimates", 2002. J. Platt, "Probabilistic Outputs for Support Vector Machines
        and Comparisons to Regularized Likelihood Methods", 1999.
        """
        find_curve(method)
        seed = check_seed(seed)
        k, n_queries = check_count(k, "k"), check_count(n_queries, "n_queries")
        with self._changing:
            self._store.check_writable()
            view = self._view()
            if pairs is None:
                known = near_pairs(view, k=k, n_queries=n_queries, seed=seed)
            else:
                known = given_pairs(view, pairs)
            metric, fingerprint = self._scored_by()
            learned, report = calibrate(
                known, method=method, metric=metric, projection=fingerprint, seed=seed
            )
            self._store.change_manifest(calibration=learned.to_json())
            return report

    def _threshold_of(self, precision: float) -> float:
        """Return the score from which hits have a precision, or raise what keeps it from that."""
        check_precision(precision)
        calibration = self.calibration
        if calibration is None:
            found = "none"
            if self._store.manifest.calibration is not None:
                found = "one of another projection, by which scores are others"
            raise InvalidInputError(
                f"precision: expected a gallery whose scores are calibrated, found {found}; call "
                f"calibrate(), or `imgret calibrate GALLERY`"
            )
        return calibration.threshold(precision)

    def _scored_by(self) -> tuple[Metric, str | None]:
        """Return what scores depend on: the metric, and the projection's fingerprint."""
        projection = self._searcher.projection
        return self.metric, None if projection is None else projection.fingerprint
