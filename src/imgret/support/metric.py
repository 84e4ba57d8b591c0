"""Distance metrics: what a score is, and what has to be done to vectors before it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np

from imgret.errors import InvalidInputError
from imgret.support.unit import unit_length
from imgret.types import Embeddings

__all__ = ["DistanceMetric", "check_metric"]

_LARGEST = float(np.finfo(np.float32).max)


class DistanceMetric(StrEnum):
    """A metric by its name; a higher score is better for each of them.

    It is a text as well: ``DistanceMetric.IP == "ip"``. Another metric is another member, with its
    answers below; the indexes of Faiss ask `by_product` for theirs.
    """

    COSINE = "cosine"
    IP = "ip"
    L2 = "l2"

    __repr__ = str.__repr__

    @property
    def on_sphere(self) -> bool:
        """Whether vectors are compared at length 1."""
        return self is DistanceMetric.COSINE

    @property
    def by_product(self) -> bool:
        """Whether a score is an inner product; else it is minus a squared distance."""
        return self is not DistanceMetric.L2

    @property
    def rewards_length(self) -> bool:
        """Whether the longer of two vectors in one direction scores higher."""
        return self is DistanceMetric.IP

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest score there can be."""
        if self.on_sphere:
            return -1.0, 1.0
        return -_LARGEST, _LARGEST if self.by_product else 0.0

    def prepare(self, vectors: Embeddings) -> Embeddings:
        """Return vectors as they are compared: of length 1, or as they are."""
        return unit_length(vectors) if self.on_sphere else vectors

    def scores(self, a: Any, b: Any) -> Any:
        """Score prepared vectors, pair by pair: arrays of shape (..., d) that broadcast."""
        if self.by_product:
            return np.vecdot(a, b)
        gaps = a - b
        return -np.vecdot(gaps, gaps)


def check_metric(metric: Any) -> DistanceMetric:
    """Return the metric of a name, or raise an error that lists the known ones."""
    try:
        return DistanceMetric(metric)
    except ValueError:
        expected = ", ".join(map(repr, DistanceMetric))
        raise InvalidInputError(f"metric: expected one of {expected}, found {metric!r}") from None
