"""Model files: the facts in them, preprocessing, and checks."""

from imgret.models.builtin import available, resolve
from imgret.models.bundle import Bundle
from imgret.models.description import describe, write_bundle
from imgret.models.golden_check import Check, check
from imgret.models.preprocess import Preprocess, Scaling

__all__ = [
    "Bundle",
    "Check",
    "Preprocess",
    "Scaling",
    "available",
    "check",
    "describe",
    "resolve",
    "write_bundle",
]
