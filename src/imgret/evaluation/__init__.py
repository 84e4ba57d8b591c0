"""Evaluation of a gallery with labelled queries."""

from imgret.evaluation.bootstrap import Comparison, compare
from imgret.evaluation.crops import Crop, CropReport, report_crops
from imgret.evaluation.evaluator import evaluate
from imgret.evaluation.recall import Recall, measure_recall
from imgret.evaluation.report import Confusion, Curves, Failure, Match, Report, Worst
from imgret.evaluation.speed import BenchReport, Speed, bench
from imgret.evaluation.tuning import Try, Tuning, tune

__all__ = [
    "BenchReport",
    "Comparison",
    "Confusion",
    "Crop",
    "CropReport",
    "Curves",
    "Failure",
    "Match",
    "Recall",
    "Report",
    "Speed",
    "Try",
    "Tuning",
    "Worst",
    "bench",
    "compare",
    "evaluate",
    "measure_recall",
    "report_crops",
    "tune",
]
