"""Distance metrics: how vectors are prepared, and how they are scored."""

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
    """A metric by its name; for each of them, a higher score is better.

    It is also a string: ``DistanceMetric.IP == "ip"``. A new metric needs a member, its facts below
    the class and its score in `scores`; the indexes of Faiss choose theirs by `by_product`.

    Attributes
    ----------
    on_sphere : bool
        Whether vectors are compared at length 1.
    by_product : bool
        Whether a score is an inner product; else it is minus a squared distance.
    rewards_length : bool
        Whether the longer of two vectors of the same direction scores higher.
    range : (float, float)
        The lowest and the highest possible score.
    """

    COSINE = "cosine"
    IP = "ip"
    L2 = "l2"

    on_sphere: bool
    by_product: bool
    rewards_length: bool
    range: tuple[float, float]

    __repr__ = str.__repr__

    def _is(self, *, on_sphere: bool, by_product: bool, range: tuple[float, float]) -> None:  # noqa: A002  # its name
        self.on_sphere, self.by_product, self.range = on_sphere, by_product, range
        self.rewards_length = by_product and not on_sphere

    def prepare(self, vectors: Embeddings) -> Embeddings:
        """Return vectors as they are compared: scaled to length 1, or unchanged."""
        return unit_length(vectors) if self.on_sphere else vectors

    def scores(self, a: Any, b: Any) -> Any:
        """Score prepared vectors, pair by pair: arrays of shape (..., d) that broadcast."""
        if self.by_product:
            return np.vecdot(a, b)
        gaps = a - b
        return -np.vecdot(gaps, gaps)


DistanceMetric.COSINE._is(on_sphere=True, by_product=True, range=(-1.0, 1.0))  # noqa: SLF001  # this module's
DistanceMetric.IP._is(on_sphere=False, by_product=True, range=(-_LARGEST, _LARGEST))  # noqa: SLF001
DistanceMetric.L2._is(on_sphere=False, by_product=False, range=(-_LARGEST, 0.0))  # noqa: SLF001


def check_metric(metric: Any) -> DistanceMetric:
    """Return the metric of a name, or raise an error that lists the known ones."""
    try:
        return DistanceMetric(metric)
    except ValueError:
        expected = ", ".join(map(repr, DistanceMetric))
        raise InvalidInputError(f"metric: expected one of {expected}, found {metric!r}") from None
