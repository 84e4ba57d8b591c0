"""Report of a calibration, measured on images it was not fitted on."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass

from imgret.pages.document import table
from imgret.pages.result import Result
from imgret.types import Json

__all__ = ["CalibrationReport", "Level"]


@dataclass(frozen=True, slots=True)
class Level:
    """Threshold for a precision, and what it costs.

    Attributes
    ----------
    precision : float
        Requested precision: the probability of the least likely hit that is kept.
    threshold : float or None
        Lowest score that reaches it; None if no score does.
    measured : float or None
        Share of the held-out pairs above the threshold that are of one class; None if there are
        no such pairs. It is usually higher than ``precision``, because most of these pairs are
        far above the threshold.
    recall : float
        Share of the held-out pairs of one class that are above the threshold.
    """

    precision: float
    threshold: float | None
    measured: float | None
    recall: float

    def _cells(self) -> list[str]:
        score = "none" if self.threshold is None else f"{self.threshold:.4f}"
        measured = "-" if self.measured is None else f"{self.measured:.4f}"
        return [f"{self.precision:g}", score, measured, f"{self.recall:.4f}"]

    def __str__(self) -> str:
        return "{:<11}{:>10}{:>11}{:>9}".format(*self._cells())


@dataclass(frozen=True, slots=True)
class CalibrationReport(Result):
    """Result of `Retriever.calibrate` and `Retriever.calibrate_text`.

    Everything except the counts and the thresholds is measured by cross-validation: every pair is
    judged by a curve that was fitted without its query.

    Attributes
    ----------
    method : {"isotonic", "logistic"}
    pairs : int
    same : int
        Number of pairs of one class.
    images : int
        Number of images used as queries; of texts, if texts were.
    error : float
        Expected calibration error: mean gap between probability and frequency, 0 to 1.
    levels : tuple of Level
        Levels for a precision of 0.9, 0.95 and 0.99.
    queries : {"images", "texts"}
        What was searched with.
    """

    method: str
    pairs: int
    same: int
    images: int
    error: float
    levels: tuple[Level, ...]
    queries: str = "images"

    def to_dict(self) -> Json:
        """Return JSON values."""
        return {**asdict(self), "levels": [asdict(level) for level in self.levels]}

    def _body(self) -> str:
        names = ["precision", "from score", "measured precision", "recall"]
        rows = [level._cells() for level in self.levels]  # noqa: SLF001  # of the same module
        head = "".join(f"<p>{html.escape(line)}</p>" for line in self._head())
        return f"{head}{table(names, rows)}"

    def _head(self) -> list[str]:
        others = "images" if self.queries == "texts" else "other images"
        of_what = f"{self.pairs} pairs of {self.images} {self.queries} with {others}"
        return [
            f"{self.method}: {of_what}, {self.same} of one class",
            f"expected calibration error {self.error:.4f}, cross-validated",
        ]

    def __str__(self) -> str:
        lines = [
            *self._head(),
            f"{'precision':<11}{'from score':>10}{'measured':>11}{'recall':>9}",
            *map(str, self.levels),
        ]
        return "\n".join(lines)
