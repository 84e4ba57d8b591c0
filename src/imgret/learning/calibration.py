"""Calibration of scores: fits a curve to pairs of items, and measures it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError, StoreCorruptError
from imgret.learning.calibration_report import CalibrationReport, Level
from imgret.learning.confidence import calibration_error
from imgret.learning.curves import Curve, find_curve
from imgret.learning.pairs import Pairs
from imgret.types import Json, Metric

__all__ = ["ScoreCalibration", "calibrate", "threshold_of"]

_PRECISIONS = (0.9, 0.95, 0.99)
_FOLDS = 5
# Minimum number of pairs of one class, and of pairs of different classes.
_LEAST = 10


@dataclass(frozen=True, slots=True)
class ScoreCalibration:
    """Maps a score to the probability that two images are of one class.

    It is valid for scores by its metric in the space of its projection, between single images, in
    a gallery about as dense as the one it was learned from.

    Attributes
    ----------
    curve : IsotonicCurve or LogisticCurve
    metric : {"cosine", "ip", "l2"}
    projection : str or None
        Fingerprint of the projection that is used for searching; None without a projection.
    """

    curve: Curve
    metric: Metric
    projection: str | None

    @property
    def method(self) -> str:
        """``"isotonic"`` or ``"logistic"``."""
        return self.curve.method

    def probability(self, scores: Any) -> NDArray[np.float64]:
        """Return the probability that a pair with this score is of one class.

        Parameters
        ----------
        scores : array of any shape

        Returns
        -------
        float64 array of the same shape
            Values between 0 and 1, which never decrease as the score rises.
        """
        return self.curve.probability(scores)

    def threshold(self, precision: float) -> float:
        """Return the lowest score whose probability is ``precision``.

        Raises
        ------
        InvalidInputError
            ``precision`` is not between 0 and 1, or no score reaches it.
        """
        check_precision(precision)
        score = self.curve.threshold(precision)
        if score is None:
            raise InvalidInputError(
                f"precision: expected one that some score reaches, found {precision:g}, which none "
                f"reaches in this calibration; request a lower one, or calibrate() with more pairs"
            )
        return score

    def to_json(self) -> Json:
        """Return JSON values for `from_json`."""
        facts = {"method": self.method, "metric": self.metric, "projection": self.projection}
        numbers = asdict(self.curve).items()
        return facts | {n: list(v) if isinstance(v, tuple) else v for n, v in numbers}

    @classmethod
    def from_json(cls, content: Json) -> ScoreCalibration:
        """Create a calibration from what `to_json` returned.

        Raises
        ------
        StoreCorruptError
            ``content`` is not a calibration.
        """
        try:
            curve = dict(content)
            kind = find_curve(curve.pop("method"))
            metric, projection = curve.pop("metric"), curve.pop("projection")
            made = kind(**{name: _plain(value) for name, value in curve.items()})
            made.probability([0.0])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreCorruptError(
                f"calibration: expected what calibrate() wrote into the manifest, found {error!r}; "
                f"call calibrate() again"
            ) from error
        return cls(made, metric, projection)


def calibrate(
    pairs: Pairs, *, method: str, metric: Metric, projection: str | None, seed: int = 0
) -> tuple[ScoreCalibration, CalibrationReport]:
    """Fit a curve to pairs, and measure it by cross-validation.

    Items are split into five folds. Pairs whose query is in one fold are judged by the curve that
    was fitted to all pairs without an item of that fold.

    Parameters
    ----------
    pairs : Pairs
    method : {"isotonic", "logistic"}
    metric, projection
        As for `ScoreCalibration`.
    seed : int
        Seed of the folds.

    Raises
    ------
    InvalidInputError
        The method is unknown, or there are too few pairs of one class or of different classes.
    """
    kind = find_curve(method)
    same = int(pairs.same.sum())
    if min(same, len(pairs.same) - same) < _LEAST:
        raise InvalidInputError(
            f"pairs: expected at least {_LEAST} of one class and {_LEAST} of different classes, "
            f"found {same} and {len(pairs.same) - same}; label more images, or pass more pairs"
        )
    curve = kind.fit(pairs.scores, pairs.same)
    asked, places = np.unique(np.concatenate([pairs.queries, pairs.others]), return_inverse=True)
    fold = np.random.default_rng(seed).permutation(np.arange(len(asked)) % _FOLDS)[places]
    query_fold, other_fold = fold[: len(pairs.queries)], fold[len(pairs.queries) :]
    judged = np.zeros(len(pairs.same), dtype=bool)
    probabilities = np.zeros(len(pairs.same))
    kept = np.zeros((len(_PRECISIONS), len(pairs.same)), dtype=bool)
    for held_out in range(_FOLDS):
        rest = (query_fold != held_out) & (other_fold != held_out)
        mine = query_fold == held_out
        if not mine.any() or len(np.unique(pairs.same[rest])) < 2:
            continue
        fitted = kind.fit(pairs.scores[rest], pairs.same[rest])
        judged |= mine
        probabilities[mine] = fitted.probability(pairs.scores[mine])
        for level, precision in enumerate(_PRECISIONS):
            score = fitted.threshold(precision)
            kept[level] |= mine & (pairs.scores >= (np.inf if score is None else score))
    if not judged.any():
        raise InvalidInputError(
            f"pairs: expected pairs of more images, so that some can be held out for measuring, "
            f"found {len(asked)} images"
        )
    report = CalibrationReport(
        method=method,
        pairs=len(pairs.same),
        same=same,
        images=len(np.unique(pairs.queries)),
        queries="texts" if pairs.queries.min() < 0 else "images",
        error=calibration_error(probabilities[judged], pairs.same[judged]),
        levels=tuple(
            _level(precision, curve, pairs.same[judged], some[judged])
            for precision, some in zip(_PRECISIONS, kept, strict=True)
        ),
    )
    return ScoreCalibration(curve, metric, projection), report


def threshold_of(
    precision: float,
    calibration: ScoreCalibration | None,
    *,
    of_another_projection: bool,
    of_texts: bool = False,
) -> float:
    """Return the lowest score at which hits have a precision.

    Raises
    ------
    InvalidInputError
        ``precision`` is not between 0 and 1, scores are not calibrated, or no score reaches it.
    """
    check_precision(precision)
    if calibration is None:
        found = "none"
        if of_another_projection:
            found = "a calibration of another projection, whose scores differ"
        kind, call, option = (
            ("of texts ", "calibrate_text", " --text") if of_texts else ("", "calibrate", "")
        )
        raise InvalidInputError(
            f"precision: expected a gallery whose scores {kind}are calibrated, found {found}; call "
            f"{call}(), or `imgret calibrate GALLERY{option}`"
        )
    return calibration.threshold(precision)


def check_precision(precision: float) -> None:
    """Raise unless ``precision`` is a number between 0 and 1, both excluded."""
    number = not isinstance(precision, bool) and isinstance(precision, (int, float, np.number))
    if not number or not 0 < precision < 1:
        raise InvalidInputError(
            f"precision: expected a number over 0 and below 1, found {precision!r}"
        )


def _level(
    precision: float, curve: Curve, same: NDArray[np.bool_], kept: NDArray[np.bool_]
) -> Level:
    right, every = int((same & kept).sum()), int(kept.sum())
    return Level(
        precision,
        curve.threshold(precision),
        right / every if every else None,
        right / max(int(same.sum()), 1),
    )


def _plain(value: Any) -> Any:
    """Return a number as a float, or a list as a tuple; raise unless all are finite numbers."""
    numbers = np.array(value, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"expected finite numbers, found {value!r}")
    return tuple(numbers.tolist()) if isinstance(value, list) else float(numbers)
