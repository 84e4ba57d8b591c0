"""What a score says: the probability that a hit is of the query's class, learned from pairs.

A score is a similarity, and what is alike enough differs from model to model and from gallery to
gallery. Pairs of pictures of which it is known whether they are of one class tell how often a
score means the same class: then a threshold can be asked for by the precision it keeps.
"""

from imgret.calibration.calibrate import ScoreCalibration, calibrate
from imgret.calibration.curves import IsotonicCurve, LogisticCurve, pool_adjacent_violators
from imgret.calibration.pairs import Pairs, given_pairs, near_pairs
from imgret.calibration.report import CalibrationReport, Level

__all__ = [
    "CalibrationReport",
    "IsotonicCurve",
    "Level",
    "LogisticCurve",
    "Pairs",
    "ScoreCalibration",
    "calibrate",
    "given_pairs",
    "near_pairs",
    "pool_adjacent_violators",
]
