"""The check on a cropper's numeric options."""

from __future__ import annotations

import math
from numbers import Real

from imgret.errors import InvalidInputError

__all__ = ["check_number"]


def check_number(
    value: object,
    name: str,
    *,
    at_most: float,
    at_least: float = -math.inf,
    above: float = -math.inf,
) -> float:
    """Return ``value`` as a float inside the range, or raise an error that tells the range."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not (at_least <= number <= at_most and number > above):  # NaN fails every comparison
        low = f"over {above:g}" if above > -math.inf else f"of at least {at_least:g}"
        raise InvalidInputError(
            f"{name}: expected a number {low} and at most {at_most:g}, found {value!r}"
        )
    return number
