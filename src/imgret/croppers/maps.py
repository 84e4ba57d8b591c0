"""Base of croppers that score each place of an image: a map, a threshold, a box."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from imgret.abc import Cropper
from imgret.errors import InvalidInputError
from imgret.support.checks import check_images, check_number
from imgret.types import Box, Image, Json

__all__ = ["Map", "MapCropper", "rescaled", "shown_region", "subject_box"]


class Map(NamedTuple):
    """A map from 0 to 1, and the part of the image that it shows."""

    values: NDArray[np.float32]
    region: Box


class MapCropper(Cropper):
    """Crops to the box of the places whose score is at or above a threshold.

    A subclass implements `_map`; its `config` adds to that of this class.

    Parameters
    ----------
    threshold : float
        Minimum score of the subject, over 0 and at most 1.
    margin : float
        Margin added to the box on each side, as a fraction of its width or height, 0 to 1.
    least, most : float
        Minimum and maximum fraction of the image's area that a box may cover, 0 to 1. If a box is
        outside this range, the image has no subject.
    largest : bool
        If true, only the part with the largest sum of scores is used if several parts do not touch.

    Raises
    ------
    InvalidInputError
        A number is out of range.
    """

    def __init__(
        self,
        *,
        threshold: float,
        margin: float,
        least: float = 0.0,
        most: float = 1.0,
        largest: bool = False,
    ) -> None:
        self._threshold = check_number(threshold, "threshold", above=0, at_most=1)
        self._margin = check_number(margin, "margin", at_least=0, at_most=1)
        self._least, self._most = check_shares(least, most)
        if not isinstance(largest, bool):
            raise InvalidInputError(f"largest: expected True or False, found {largest!r}")
        self._largest = largest

    @property
    def threshold(self) -> float:
        """Minimum score of the subject, from 0 to 1."""
        return self._threshold

    @property
    def margin(self) -> float:
        """Margin added to the box on each side, as a fraction of its width or height."""
        return self._margin

    @property
    def least(self) -> float:
        """Minimum fraction of the image's area that a box must cover."""
        return self._least

    @property
    def most(self) -> float:
        """Maximum fraction of the image's area that a box may cover."""
        return self._most

    @property
    def largest(self) -> bool:
        """Whether only the part with the largest sum of scores is used."""
        return self._largest

    def config(self) -> Json:
        """Return the arguments that recreate this cropper."""
        shares = {"least": (self._least, 0.0), "most": (self._most, 1.0)}
        return {
            "threshold": self._threshold,
            "margin": self._margin,
            **{name: value for name, (value, default) in shares.items() if value != default},
            **({"largest": True} if self._largest else {}),
        }

    @final
    def saliency(self, image: Image) -> NDArray[np.float32]:
        """Return the score of each pixel of an image.

        Parameters
        ----------
        image : uint8 array of shape (H, W, 3)
            RGB.

        Returns
        -------
        float32 array of shape (H, W)
            Scores from 0 to 1. All are zero if nothing stands out; those where the model does
            not look are zero.
        """
        from imgret.images import resize  # noqa: PLC0415  # loads OpenCV, only when used

        check_images([image], "image")
        saliency = np.zeros(image.shape[:2], dtype=np.float32)
        found = self._map(image)
        if found is not None:
            x0, y0, x1, y1 = found.region
            saliency[y0:y1, x0:x1] = resize(found.values, x1 - x0, y1 - y0)
        return saliency

    @final
    def overlay(self, image: Image) -> Image:
        """Return an image with its scores in red and the box that `boxes` finds.

        Parameters
        ----------
        image : uint8 array of shape (H, W, 3)
            RGB.

        Returns
        -------
        uint8 array of shape (H, W, 3)
        """
        from imgret.images import draw_box, tint  # noqa: PLC0415  # loads OpenCV, only when used

        thickness = max(1, round(max(image.shape[:2]) / 160))
        box = self.boxes([image])[0]
        return draw_box(tint(image, self.saliency(image)), box, thickness=thickness)

    @abstractmethod
    def _map(self, image: Image) -> Map | None:
        """Return the scores of an image; None if no place differs from another."""

    def _maps(self, images: Sequence[Image]) -> Iterable[Map | None]:
        """Return `_map` of each image; override it if several at once are faster."""
        return map(self._map, images)

    def _detect(self, images: Sequence[Image]) -> list[Box | None]:
        maps = self._maps(images)
        return [self._box(image, found) for image, found in zip(images, maps, strict=True)]

    def _box(self, image: Image, found: Map | None) -> Box | None:
        if found is None:
            return None
        values = found.values
        if self._largest:
            values = largest_part(values, self._threshold)
        box = subject_box(values, found.region, self._threshold, self._margin)
        if box is None:
            return None
        height, width = image.shape[:2]
        box = box.clip(width, height)
        return box if self._least <= box.area / (width * height) <= self._most else None


def check_shares(least: float, most: float) -> tuple[float, float]:
    """Return both as floats, or raise an error if they are out of range."""
    least = check_number(least, "least", at_least=0, at_most=1)
    most = check_number(most, "most", at_least=0, at_most=1)
    if least >= most:
        raise InvalidInputError(f"least: expected less than most, {most:g}, found {least:g}")
    return least, most


def subject_box(
    values: NDArray[np.float32], region: Box, threshold: float, margin: float = 0.0
) -> Box | None:
    """Return the box of the places of a map at or above a threshold.

    Parameters
    ----------
    values : float32 array of shape (h, w)
    region : Box
        Part of the image that the map shows.
    threshold : float
    margin : float
        Margin added to the box on each side, as a fraction of its width or height.

    Returns
    -------
    Box or None
        Box in the image's pixels; it may extend beyond the image. None if no place reaches the
        threshold.
    """
    mask = values >= threshold
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    x_scale, y_scale = region.width / mask.shape[1], region.height / mask.shape[0]
    x0, x1 = columns[0] * x_scale, (columns[-1] + 1) * x_scale
    y0, y1 = rows[0] * y_scale, (rows[-1] + 1) * y_scale
    x_margin, y_margin = margin * (x1 - x0), margin * (y1 - y0)
    return Box(
        region.x0 + math.floor(x0 - x_margin),
        region.y0 + math.floor(y0 - y_margin),
        region.x0 + math.ceil(x1 + x_margin),
        region.y0 + math.ceil(y1 + y_margin),
    )


def largest_part(values: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Return a map that is zero except for its largest part.

    Of the parts at or above the threshold that do not touch, this is the one with the largest sum.
    """
    from imgret.images import connected  # noqa: PLC0415  # loads OpenCV, only when used

    numbers = connected(values >= threshold)
    sums = np.bincount(numbers.ravel(), weights=values.ravel())
    sums[0] = 0  # outside
    kept: NDArray[np.float32] = np.where(numbers == sums.argmax(), values, 0).astype(np.float32)
    return kept if len(sums) > 1 else values


def rescaled(values: NDArray[np.float32], region: Box) -> Map | None:
    """Return a map whose extremes are 0 and 1; None for a flat map."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-5 * max(abs(low), abs(high)):  # flat but for rounding
        return None
    return Map((values - np.float32(low)) / np.float32(high - low), region)


def shown_region(
    values: NDArray[np.float32], image: Image, *, resize: str, size: int, min_side: int
) -> Map:
    """Return a network's map without bars, and the part of the image that it shows.

    Parameters
    ----------
    values : float32 array of shape (h, w)
        Map of the whole input of the network.
    image : uint8 array of shape (H, W, 3)
    resize, size, min_side
        Attributes of the network's `imgret.models.Preprocess`.
    """
    height, width = image.shape[:2]
    if resize == "crop":  # the network saw a square in the middle
        side = size * min(height, width) / min_side
        shown_x, shown_y = min(width, round(side)), min(height, round(side))
        x0, y0 = (width - shown_x) // 2, (height - shown_y) // 2
        return Map(values, Box(x0, y0, x0 + shown_x, y0 + shown_y).clip(width, height))
    if resize == "pad":  # it saw bars that are not part of the image
        rows, columns = values.shape
        scale = 1 / max(height, width)
        values = _middle(values, max(1, round(rows * height * scale)), axis=0)
        values = _middle(values, max(1, round(columns * width * scale)), axis=1)
    return Map(values, Box.full(image))


def _middle(values: NDArray[np.float32], length: int, *, axis: int) -> NDArray[np.float32]:
    start = (values.shape[axis] - length) // 2
    return values[start : start + length] if axis == 0 else values[:, start : start + length]
