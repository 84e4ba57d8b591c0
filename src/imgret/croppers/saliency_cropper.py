"""Cropper that finds what stands out, with a network or the spectral residual."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from imgret.croppers.maps import Map, MapCropper, rescaled, shown_region
from imgret.croppers.spectral_residual import spectral_map
from imgret.errors import InvalidInputError, ModelError
from imgret.support.checks import check_count
from imgret.types import Box, Image, Json

if TYPE_CHECKING:
    from imgret.models import Preprocess
    from imgret.models.model import Model

__all__ = ["SaliencyCropper"]

_SPECTRAL = "spectral"
# Measured on 143 images of ECSSD: the mean IoU of the boxes is flat from 0.2 to 0.3.
_SPECTRAL_THRESHOLD, _SPECTRAL_MARGIN = 0.25, 0.05
# Networks answer close to 0 or 1, so a low threshold includes thin and faint parts.
_NETWORK_THRESHOLD = 0.10


@final
class SaliencyCropper(MapCropper):
    """Crops to the box of what stands out in the image.

    The box encloses the places of the saliency map that are at or above the threshold. An image
    without such a place has no subject. A map is scaled so that its extremes are 0 and 1, unless
    it is flat or the model's file says that its maps are calibrated.

    Parameters
    ----------
    model : str or Path
        Name of a built-in model, by default ``"saliency"``, or path of an ONNX file,
        that turns images into maps of shape (n, h, w) or (n, 1, h, w); or ``"spectral"``,
        which needs no weights (see `imgret.croppers.spectral`).
    threshold : float, optional
        Minimum score of the subject, over 0 and at most 1. By default 0.25 for ``"spectral"``,
        and for a network the value in its file, or 0.1.
    margin : float, optional
        Margin added to the box on each side, as a fraction of its width or height, 0 to 1. By
        default 0.05 for ``"spectral"``, whose boxes are rough, and otherwise 0.
    least, most : float
        Minimum and maximum fraction of the image's area that a box may cover. If a box is outside
        this range, the whole image is kept.
    largest : bool
        If true, only the part with the largest sum of scores is used if several parts do not touch.
    preprocess : Preprocess or mapping, optional
        Networks only: preprocessing of the input, for a file that does not describe it.
    output : str, optional
        Networks only: name of the output that is the map, for a file with several.
    providers : sequence of str, optional
        Networks only: execution providers of onnxruntime; by default only the CPU's.
    batch_size : int, optional
        Networks only: images per run; by default 1 on the CPU, which is fastest there, 32
        on a GPU and 16 elsewhere, or the batch size of a network exported for a fixed one.

    Raises
    ------
    InvalidInputError
        A number is out of range, or an option for networks is given with ``"spectral"``.
    ModelError, UnknownNameError
        The model cannot be used, or no built-in model has the name.

    Examples
    --------
    >>> from imgret.demo import samples
    >>> cropper = SaliencyCropper()
    >>> image = samples.draw("sunflower", 3)
    >>> box = cropper.boxes([image])[0]
    >>> cropper.overlay(image).shape == image.shape
    True
    """

    def __init__(
        self,
        model: str | Path = "saliency",
        *,
        threshold: float | None = None,
        margin: float | None = None,
        least: float = 0.0,
        most: float = 1.0,
        largest: bool = False,
        preprocess: Preprocess | Mapping[str, Any] | None = None,
        output: str | None = None,
        providers: Sequence[str] | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._network: Model | None = None
        self._calibrated = False
        self._options: Json = {}
        if model == _SPECTRAL:
            given = {
                "preprocess": preprocess,
                "output": output,
                "providers": providers,
                "batch_size": batch_size,
            }
            if chosen := [name for name, value in given.items() if value is not None]:
                raise InvalidInputError(
                    f"{', '.join(chosen)}: expected none of these with model 'spectral', which "
                    f"is not a network"
                )
            self.name = _SPECTRAL
            default_threshold, default_margin = _SPECTRAL_THRESHOLD, _SPECTRAL_MARGIN
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
                self._options["model"] = str(self._network.path.absolute())
            if preprocess is not None:
                self._options["preprocess"] = self._network.preprocess.to_json()
            if output is not None:
                self._options["output"] = output
            if providers is not None:
                self._options["providers"] = list(providers)
            self.batch_size = self._network.session.default_batch()
            if batch_size is not None:
                self.batch_size = check_count(batch_size, "batch_size")
                self._options["batch_size"] = self.batch_size
            facts = self._network.bundle
            told = None if facts is None else facts.threshold
            self._calibrated = facts is not None and bool(facts.calibrated)
            default_threshold, default_margin = told or _NETWORK_THRESHOLD, 0.0
        super().__init__(
            threshold=default_threshold if threshold is None else threshold,
            margin=default_margin if margin is None else margin,
            least=least,
            most=most,
            largest=largest,
        )

    def config(self) -> Json:
        """Return the arguments that recreate this cropper."""
        return self._options | super().config()

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the network, and the box options; for ``"spectral"``, name and options."""
        if self._network is None:
            return super().fingerprint
        options = json.dumps(super().config(), sort_keys=True)
        return f"{self._network.fingerprint} saliency {options}"

    def _map(self, image: Image) -> Map | None:
        return next(iter(self._maps([image])))

    def _maps(self, images: Sequence[Image]) -> Iterator[Map | None]:
        if self._network is None:
            for image in images:
                yield rescaled(spectral_map(image), Box.full(image))
            return
        for start in range(0, len(images), self.batch_size):
            for found in _run(self._network, images[start : start + self.batch_size]):
                yield found if self._calibrated else rescaled(*found)

    def __repr__(self) -> str:
        model = _SPECTRAL if self._network is None else str(self._network.path)
        return f"SaliencyCropper({model!r}, threshold={self.threshold}, margin={self.margin})"


def _run(network: Model, images: Sequence[Image]) -> list[Map]:
    """Return a network's map of each image, and the part of the image that it shows."""
    answer = network.run(images)
    values = answer[:, 0] if answer.ndim == 4 and answer.shape[1] == 1 else answer
    if len(answer) != len(images) or values.ndim != 3 or not values.size:
        raise ModelError(
            f"{network.path}: expected output {network.output!r} of shape (n, h, w) or "
            f"(n, 1, h, w), found {answer.shape} for {len(images)} image"
            f"{'' if len(images) == 1 else 's'}; choose another with output="
        )
    if not np.isfinite(values).all():
        raise ModelError(f"{network.path}: expected finite saliency, found NaN or infinity")
    wanted = network.preprocess
    return [
        shown_region(one, image, resize=wanted.resize, size=wanted.size, min_side=wanted.min_side)
        for one, image in zip(values, images, strict=True)
    ]
