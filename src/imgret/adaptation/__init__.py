"""A projection learned from labels, and how much better it answers pictures it never saw."""

from imgret.adaptation.folds import CrossFit, sample_items
from imgret.adaptation.learn import TRIAL_ITEMS, adapt
from imgret.adaptation.report import AdaptReport, Gain
from imgret.adaptation.trial import Trial, try_out

__all__ = [
    "TRIAL_ITEMS",
    "AdaptReport",
    "CrossFit",
    "Gain",
    "Trial",
    "adapt",
    "sample_items",
    "try_out",
]
