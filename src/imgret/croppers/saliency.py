"""Crops to what stands out: a saliency map, a threshold, a box."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from imgret.abc import Cropper
from imgret.abc.checks import check_images
from imgret.croppers.options import check_number
from imgret.croppers.spectral import spectral_map
from imgret.errors import InvalidInputError, ModelError
from imgret.types import Box, Image, Json

if TYPE_CHECKING:
    from imgret.models import Preprocess
    from imgret.models.model import Model

__all__ = ["SaliencyCropper"]

_SPECTRAL = "spectral"
# Measured on 143 pictures of ECSSD: the mean IoU of the boxes is flat from 0.2 to 0.3.
_SPECTRAL_THRESHOLD = 0.25
# Networks answer close to 0 or 1, so that a low threshold takes in thin and faint parts.
_NETWORK_THRESHOLD = 0.10


class _Map(NamedTuple):
    """A saliency map scaled to 0..1, and the part of the picture that it shows."""

    values: NDArray[np.float32]
    region: Box


@final
class SaliencyCropper(Cropper):
    """Crops to the box of what stands out in the picture.

    The box bounds the places of the saliency map that are at or over the threshold; a picture
    without such a place has no subject. The map of a model whose file tells a threshold is taken
    as it is; any other is scaled so that its extremes are 0 and 1, unless it is flat.

    Parameters
    ----------
    model : str or Path
        ``"spectral"``, which needs no weights (see `imgret.croppers.spectral`); or the name
        of a built-in model, or the path of an ONNX file, that turns pictures into maps of
        shape (n, h, w) or (n, 1, h, w).
    threshold : float, optional
        Over 0 and at most 1; by default 0.25 for ``"spectral"``, and for a network what its
        file says, or 0.1.
    margin : float
        What the box is widened by on each side, as a part of its width or height. Between 0
        and 1.
    preprocess : Preprocess or mapping, optional
        Networks only: what the input must be, for a file that does not say so itself.
    output : str, optional
        Networks only: name of the output that is the map, for a file with several.
    providers : sequence of str, optional
        Networks only: execution providers of onnxruntime; the CPU's alone by default.

    Raises
    ------
    InvalidInputError
        A number is out of its range, or an option for networks goes with ``"spectral"``.
    ModelError, UnknownNameError
        The model cannot be used, or there is none of that name.
    """

    def __init__(
        self,
        model: str | Path = _SPECTRAL,
        *,
        threshold: float | None = None,
        margin: float = 0.05,
        preprocess: Preprocess | Mapping[str, Any] | None = None,
        output: str | None = None,
        providers: Sequence[str] | None = None,
    ) -> None:
        self._network: Model | None = None
        self._scaled = False
        self._config: Json = {}
        if model == _SPECTRAL:
            given = {"preprocess": preprocess, "output": output, "providers": providers}
            if chosen := [name for name, value in given.items() if value is not None]:
                raise InvalidInputError(
                    f"{', '.join(chosen)}: expected none of these with model 'spectral', which "
                    f"is no network"
                )
            self.name = _SPECTRAL
            default_threshold = _SPECTRAL_THRESHOLD
        else:
            # Imported here: the spectral cropper needs no onnxruntime.
            from imgret.models.builtin import builtin_name  # noqa: PLC0415
            from imgret.models.model import Model  # noqa: PLC0415

            self._network = Model(
                model, kind="saliency", preprocess=preprocess, output=output, providers=providers
            )
            builtin = builtin_name(self._network.path)
            self.name = builtin or "onnx"
            if builtin is None:
                self._config["model"] = str(self._network.path)
            if preprocess is not None:
                self._config["preprocess"] = self._network.preprocess.to_json()
            if output is not None:
                self._config["output"] = output
            if providers is not None:
                self._config["providers"] = list(providers)
            told = self._network.bundle.threshold if self._network.bundle else None
            # Maps that come with a threshold run from 0 to 1 by themselves.
            self._scaled = told is not None
            default_threshold = told or _NETWORK_THRESHOLD
        self._threshold = check_number(
            default_threshold if threshold is None else threshold, "threshold", above=0, at_most=1
        )
        self._margin = check_number(margin, "margin", at_least=0, at_most=1)
        self._config |= {"threshold": self._threshold, "margin": self._margin}

    @property
    def threshold(self) -> float:
        """Least saliency, from 0 to 1, that belongs to the subject."""
        return self._threshold

    @property
    def margin(self) -> float:
        """What the box is widened by on each side, as a part of its width or height."""
        return self._margin

    def config(self) -> Json:
        """Return the arguments that make this cropper again."""
        return dict(self._config)

    def saliency(self, image: Image) -> NDArray[np.float32]:
        """Return the saliency map of a picture.

        Parameters
        ----------
        image : uint8 array of shape (H, W, 3)
            RGB.

        Returns
        -------
        float32 array of shape (H, W)
            From 0 to 1. All zeros where nothing stands out, and zero where the model does
            not look.
        """
        from imgret.images import resize  # noqa: PLC0415  # loads OpenCV, only when used

        check_images([image], "image")
        saliency = np.zeros(image.shape[:2], dtype=np.float32)
        found = self._map(image)
        if found is not None:
            x0, y0, x1, y1 = found.region
            saliency[y0:y1, x0:x1] = resize(found.values, x1 - x0, y1 - y0)
        return saliency

    def overlay(self, image: Image) -> Image:
        """Return a picture with its saliency in red and the box that `boxes` finds.

        Parameters
        ----------
        image : uint8 array of shape (H, W, 3)

        Returns
        -------
        uint8 array of shape (H, W, 3)
        """
        from imgret.images import draw_box, tint  # noqa: PLC0415  # loads OpenCV, only when used

        thickness = max(1, round(max(image.shape[:2]) / 160))
        box = self.boxes([image])[0]
        return draw_box(tint(image, self.saliency(image)), box, thickness=thickness)

    def _detect(self, images: Sequence[Image]) -> list[Box | None]:
        return [self._box(image) for image in images]

    def _box(self, image: Image) -> Box | None:
        found = self._map(image)
        if found is None:
            return None
        box = subject_box(found.values, found.region, self._threshold, self._margin)
        return None if box is None else box.clip(image.shape[1], image.shape[0])

    def _map(self, image: Image) -> _Map | None:
        if self._network is None:
            values, region = spectral_map(image), Box.full(image)
        else:
            values, region = _run(self._network, image)
        if self._scaled:
            return _Map(values, region)
        low, high = float(values.min()), float(values.max())
        if high - low <= 1e-5 * max(abs(low), abs(high)):  # flat but for rounding
            return None
        return _Map((values - np.float32(low)) / np.float32(high - low), region)

    def __repr__(self) -> str:
        model = _SPECTRAL if self._network is None else str(self._network.path)
        return f"SaliencyCropper({model!r}, threshold={self._threshold}, margin={self._margin})"


def subject_box(
    values: NDArray[np.float32], region: Box, threshold: float, margin: float = 0.0
) -> Box | None:
    """Return the box of the places of a saliency map at or over a threshold.

    Parameters
    ----------
    values : float32 array of shape (h, w)
    region : Box
        Which part of the picture the map shows.
    threshold : float
    margin : float
        What the box is widened by on each side, as a part of its width or height.

    Returns
    -------
    Box or None
        In the picture's pixels; it may reach out of the picture. None where no place is.
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


def _run(network: Model, image: Image) -> tuple[NDArray[np.float32], Box]:
    """Return a network's map, and the part of the picture that it shows."""
    answer = network.run([image])
    values = answer[0, 0] if answer.ndim == 4 and answer.shape[1] == 1 else answer[0]
    if len(answer) != 1 or values.ndim != 2 or not values.size:
        raise ModelError(
            f"{network.path}: expected output {network.output!r} of shape (n, h, w) or "
            f"(n, 1, h, w), found {answer.shape} for one picture; choose another by output="
        )
    if not np.isfinite(values).all():
        raise ModelError(f"{network.path}: expected finite saliency, found NaN or infinity")
    height, width = image.shape[:2]
    wanted = network.preprocess
    if wanted.resize == "crop":  # the network saw a square in the middle
        side = wanted.size * min(height, width) / wanted.min_side
        shown_x, shown_y = min(width, round(side)), min(height, round(side))
        x0, y0 = (width - shown_x) // 2, (height - shown_y) // 2
        return values, Box(x0, y0, x0 + shown_x, y0 + shown_y).clip(width, height)
    if wanted.resize == "pad":  # it saw bars that are no part of the picture
        rows, columns = values.shape
        scale = 1 / max(height, width)
        values = _middle(values, max(1, round(rows * height * scale)), axis=0)
        values = _middle(values, max(1, round(columns * width * scale)), axis=1)
    return values, Box.full(image)


def _middle(values: NDArray[np.float32], length: int, *, axis: int) -> NDArray[np.float32]:
    start = (values.shape[axis] - length) // 2
    return values[start : start + length] if axis == 0 else values[:, start : start + length]
