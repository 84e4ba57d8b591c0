"""Learning from labels: a better projection, calibrated scores, and classification.

==================== =====================================================================
module               contents
==================== =====================================================================
`adapt`              a projection that separates the classes, used only if it helps
`calibrate`          maps a score to the probability that a hit is of the query's class
`classify`           the label of an image, by the vote of its neighbours
`confidence`         how much such a vote can be trusted
`curves`             isotonic and logistic curves
`pairs`              pairs of items with a score, of the same class or not
`trial`, `folds`     cross-validation of a projection
`zero_shot`          classes by their names alone
==================== =====================================================================
"""

from imgret.learning.adapt_report import AdaptReport, Gain
from imgret.learning.adaptation import adapt
from imgret.learning.calibration import ScoreCalibration, calibrate, threshold_of
from imgret.learning.calibration_report import CalibrationReport, Level
from imgret.learning.classify import Classifier, Name
from imgret.learning.confidence import Confidence, calibration_error
from imgret.learning.curves import (
    IsotonicCurve,
    LogisticCurve,
    find_curve,
    pool_adjacent_violators,
)
from imgret.learning.pairs import (
    Pairs,
    given_pairs,
    given_text_pairs,
    near_pairs,
    near_text_pairs,
)
from imgret.learning.zero_shot import classify_by_names, described, nearest_names

__all__ = [
    "AdaptReport",
    "CalibrationReport",
    "Classifier",
    "Confidence",
    "Gain",
    "IsotonicCurve",
    "Level",
    "LogisticCurve",
    "Name",
    "Pairs",
    "ScoreCalibration",
    "adapt",
    "calibrate",
    "calibration_error",
    "classify_by_names",
    "described",
    "find_curve",
    "given_pairs",
    "given_text_pairs",
    "near_pairs",
    "near_text_pairs",
    "nearest_names",
    "pool_adjacent_violators",
    "threshold_of",
]
