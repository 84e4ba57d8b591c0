"""Evaluation of a gallery with labelled queries."""

from imgret.evaluation.bootstrap import Comparison, compare
from imgret.evaluation.crops import Crop, CropReport, report_crops
from imgret.evaluation.evaluator import evaluate
from imgret.evaluation.recall import Recall, measure_recall
from imgret.evaluation.report import Confusion, Curves, Failure, Match, Report, Worst
from imgret.evaluation.tuning import Try, Tuning, tune

__all__ = [
    "Comparison",
    "Confusion",
    "Crop",
    "CropReport",
    "Curves",
    "Failure",
    "Match",
    "Recall",
    "Report",
    "Try",
    "Tuning",
    "Worst",
    "compare",
    "evaluate",
    "measure_recall",
    "report_crops",
    "tune",
]
