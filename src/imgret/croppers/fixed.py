"""Croppers that do not look at the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from imgret.abc import Cropper
from imgret.support.checks import check_number
from imgret.types import Box, Image, Json

__all__ = ["CenterCrop", "NoCrop"]


@final
class NoCrop(Cropper):
    """Keeps the whole image."""

    name = "none"
    crops: ClassVar[bool] = False

    def config(self) -> Json:
        """Return an empty mapping: there are no options."""
        return {}

    def _detect(self, images: Sequence[Image]) -> list[Box | None]:
        return [Box.full(image) for image in images]

    def __repr__(self) -> str:
        return "NoCrop()"


@final
class CenterCrop(Cropper):
    """Keeps the middle of the image.

    Parameters
    ----------
    fraction : float
        Fraction of each side to keep, over 0 and at most 1; rounded to whole pixels, at
        least one.

    Raises
    ------
    InvalidInputError
        ``fraction`` is out of range.
    """

    name = "center"

    def __init__(self, fraction: float = 0.8) -> None:
        self._fraction = check_number(fraction, "fraction", above=0, at_most=1)

    @property
    def fraction(self) -> float:
        """Fraction of each side that is kept."""
        return self._fraction

    def config(self) -> Json:
        """Return the arguments that recreate this cropper."""
        return {"fraction": self._fraction}

    def _detect(self, images: Sequence[Image]) -> list[Box | None]:
        return [self._box(image) for image in images]

    def _box(self, image: Image) -> Box:
        height, width = image.shape[:2]
        kept_width = max(1, round(width * self._fraction))
        kept_height = max(1, round(height * self._fraction))
        x0 = (width - kept_width) // 2
        y0 = (height - kept_height) // 2
        return Box(x0, y0, x0 + kept_width, y0 + kept_height)

    def __repr__(self) -> str:
        return f"CenterCrop(fraction={self._fraction!r})"
