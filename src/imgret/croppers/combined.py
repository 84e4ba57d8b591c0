"""Cropper that combines other croppers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, final, get_args

import numpy as np
from numpy.typing import NDArray

from imgret.abc import Cropper
from imgret.croppers.maps import Map, MapCropper, rescaled
from imgret.errors import InvalidInputError
from imgret.registry import made
from imgret.support.checks import check_number
from imgret.types import Box, Image, Json

__all__ = ["CombinedCropper"]

How: TypeAlias = Literal["mean", "product", "intersection"]

# Longer side on which maps are combined, in pixels.
_SIDE = 128


@final
class CombinedCropper(MapCropper):
    """Crops to what several croppers agree on.

    Parameters
    ----------
    croppers : sequence of str, Cropper or mapping
        At least two: registered names, croppers, or mappings ``{"name": ..., "config": {...}}``
        as `config` writes them.
    how : {"mean", "product", "intersection"}
        Combined map: the weighted mean of the croppers' maps; their weighted geometric mean,
        which no single map can make high; or the places that lie in all their boxes. A cropper
        without maps, such as ``"center"``, counts as 1 inside its box and 0 outside. For
        ``"intersection"``, every cropper does.
    weights : sequence of float, optional
        Weight of each cropper, above 0; by default all equal. Not allowed for ``"intersection"``.
    threshold, margin : float
        As for `SaliencyCropper`; the threshold has no effect on ``"intersection"``.
    least, most : float
        Minimum and maximum fraction of the image's area that a box may cover. If a box is outside
        this range, the whole image is kept.
    largest : bool
        If true, only the part with the largest sum of scores is used if several parts do not touch.

    Raises
    ------
    InvalidInputError
        There are fewer than two croppers, the number of weights differs, or a number is out of
        range.

    Notes
    -----
    A cropper that finds nothing in an image is left out for it. If none finds anything, or what
    they find has nothing in common, the image has no subject.
    """

    name = "combined"

    def __init__(
        self,
        croppers: Sequence[str | Cropper | Mapping[str, Any]] = ("saliency", "attention"),
        *,
        how: How = "product",
        weights: Sequence[float] | None = None,
        threshold: float = 0.3,
        margin: float = 0.05,
        least: float = 0.02,
        most: float = 0.95,
        largest: bool = False,
    ) -> None:
        super().__init__(
            threshold=threshold, margin=margin, least=least, most=most, largest=largest
        )
        if how not in get_args(How):
            expected = ", ".join(map(repr, get_args(How)))
            raise InvalidInputError(f"how: expected one of {expected}, found {how!r}")
        if isinstance(croppers, str | Mapping | Cropper) or len(croppers) < 2:
            raise InvalidInputError(
                f"croppers: expected a list of at least two, found {croppers!r}"
            )
        self._croppers = [
            made("croppers", cropper, Cropper)  # type: ignore[type-abstract]  # it is only compared with
            for cropper in croppers
        ]
        self._how: How = how
        if weights is not None and (how == "intersection" or len(weights) != len(croppers)):
            expected = "none" if how == "intersection" else f"one for each of {len(croppers)}"
            raise InvalidInputError(
                f"weights: expected {expected} with how={how!r}, found {weights!r}"
            )
        self._weights = [
            check_number(weight, "weights", above=0, at_most=math.inf)
            for weight in weights or [1.0] * len(croppers)
        ]
        if not all(map(math.isfinite, self._weights)):
            raise InvalidInputError(f"weights: expected finite numbers, found {weights!r}")
        self._given_weights = weights is not None
        self.thread_safe = all(cropper.thread_safe for cropper in self._croppers)  # type: ignore[misc]  # of this one

    def config(self) -> Json:
        """Return the arguments that recreate this cropper."""
        config = {
            "croppers": [{"name": c.name, "config": c.config()} for c in self._croppers],
            "how": self._how,
            **super().config(),
        }
        # The defaults of these differ from those of the base class.
        config |= {"least": self.least, "most": self.most}
        return config | {"weights": self._weights} if self._given_weights else config

    @property
    def fingerprint(self) -> str:
        """Fingerprints of the croppers, and how they are combined."""
        options = self.config() | {"croppers": [one.fingerprint for one in self._croppers]}
        return f"combined {json.dumps(options, sort_keys=True)}"

    def _map(self, image: Image) -> Map | None:
        height, width = image.shape[:2]
        scale = min(1.0, _SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        maps = []
        for cropper, weight in zip(self._croppers, self._weights, strict=True):
            values = self._one(cropper, image, size)
            if values is not None:
                maps.append((values, weight))
        if not maps:
            return None
        total = sum(weight for _, weight in maps)
        if self._how == "mean":
            joint = np.add.reduce([one * (weight / total) for one, weight in maps])
        else:
            powers = [np.maximum(one, 0) ** (weight / total) for one, weight in maps]
            joint = np.multiply.reduce(powers)
        if not joint.any():
            return None
        joint = joint.astype(np.float32)
        if self._how == "intersection":
            return Map(joint, Box.full(image))
        return rescaled(joint, Box.full(image))

    def _one(
        self, cropper: Cropper, image: Image, size: tuple[int, int]
    ) -> NDArray[np.float32] | None:
        """Return one cropper's map at a size; None if it finds nothing."""
        from imgret.images import resize  # noqa: PLC0415  # loads OpenCV, only when used

        width, height = size
        if self._how != "intersection" and isinstance(cropper, MapCropper):
            scores = cropper.saliency(image)
            found = scores.max() >= cropper.threshold
            return resize(scores, width, height) if found else None
        box = cropper.detect([image])[0]
        if box is None:
            return None
        values = np.zeros((height, width), dtype=np.float32)
        small = box.scale(width / image.shape[1], height / image.shape[0]).clip(width, height)
        values[small.y0 : small.y1, small.x0 : small.x1] = 1
        return values

    def __repr__(self) -> str:
        return f"CombinedCropper({self._croppers!r}, how={self._how!r})"
