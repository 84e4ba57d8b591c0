"""Preprocessing of images for a network: resizing, scaling and layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError
from imgret.support.checks import check_count
from imgret.types import Image, Json

__all__ = ["Preprocess", "Scaling"]

# The most pixels along a side: a batch of one takes 800 MB.
_LARGEST = 8192
Resize: TypeAlias = Literal["crop", "squash", "pad"]
Layout: TypeAlias = Literal["NCHW", "NHWC"]
Dtype: TypeAlias = Literal["uint8", "float32", "float16"]
Interpolation: TypeAlias = Literal["area", "bilinear", "bicubic", "lanczos"]
Rounding: TypeAlias = Literal["down", "even"]
PerImage: TypeAlias = Literal["per-image", "per-image-channel"]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Constants for ``(pixel - mean) / std``, with pixels from 0 to 255.

    Attributes
    ----------
    mean, std : tuple of three floats
        One number per channel, red first. The usual ImageNet constants are ``mean=(123.675, 116.28,
        103.53)``, ``std=(58.395, 57.12, 57.375)``; to divide only by 255, use mean 0 and std 255.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            try:
                numbers = tuple(float(value) for value in values)
            except (TypeError, ValueError):
                numbers = ()
            if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
                raise InvalidInputError(
                    f"scaling: expected three finite numbers for {name}, found {values!r}"
                )
            object.__setattr__(self, name, numbers)
        if min(self.std) <= 0:
            raise InvalidInputError(f"scaling: expected std above 0, found {list(self.std)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """Preprocessing that a network expects.

    Attributes
    ----------
    size : int
        Side of the square input, in pixels.
    scaling : Scaling, mapping, {"per-image", "per-image-channel"} or None
        Scaling of the pixels, which run from 0 to 255: ``(pixel - mean) / std`` with the
        constants given (as `Scaling`, or a mapping with the keys ``mean`` and ``std``), or with
        the mean and standard deviation of the prepared image itself, over all three
        channels or per channel. None leaves the pixels unchanged. There is no default: wrong
        scaling raises no error, it only makes the embedding worse.
    resize : {"crop", "squash", "pad"}
        ``"crop"`` resizes the shorter side to ``short_side`` and crops the middle square,
        ``"squash"`` ignores the aspect ratio, ``"pad"`` shows the whole image with bars
        at two sides.
    short_side : int, optional
        Shorter side before the crop, in pixels; for ``"crop"`` only. By default ``size``.
    fill : int
        Grey level of the bars of ``"pad"``, 0 to 255.
    interpolation : {"area", "bilinear", "bicubic", "lanczos"}
        How pixels are resampled. ``"area"`` is imgret's own and the fastest; the others are
        antialiased as in Pillow, which most published networks were trained with.
    rounding : {"down", "even"}
        Where the middle square begins if an odd number of pixels is cut off: half a pixel up and
        left, as in `transformers`, or at the nearest even pixel, as in torchvision, timm and
        open_clip. Not for ``"area"``.
    layout : {"NCHW", "NHWC"}
        Whether channels come before or after rows and columns.
    dtype : {"uint8", "float32", "float16"}
        Type of the input tensor; ``"uint8"`` goes with ``scaling=None``.
    """

    size: int
    scaling: Scaling | PerImage | None
    resize: Resize = "crop"
    short_side: int | None = None
    fill: int = 0
    layout: Layout = "NCHW"
    dtype: Dtype = "float32"
    interpolation: Interpolation = "area"
    rounding: Rounding = "down"

    def __post_init__(self) -> None:
        check_count(self.size, "size", at_most=_LARGEST)
        _one_of("resize", self.resize, get_args(Resize))
        _one_of("layout", self.layout, get_args(Layout))
        _one_of("dtype", self.dtype, get_args(Dtype))
        _one_of("interpolation", self.interpolation, get_args(Interpolation))
        _one_of("rounding", self.rounding, get_args(Rounding))
        if self.short_side is not None:
            check_count(self.short_side, "short_side")
            if self.resize != "crop" or self.short_side < self.size:
                raise InvalidInputError(
                    f"short_side: expected at least the size, {self.size}, and resize 'crop', "
                    f"found {self.short_side} and resize {self.resize!r}"
                )
        if not isinstance(self.fill, int) or not 0 <= self.fill <= 255:
            raise InvalidInputError(f"fill: expected 0 to 255, found {self.fill!r}")
        if isinstance(self.scaling, Mapping):
            given = _fields_of(Scaling, self.scaling, "scaling")
            object.__setattr__(self, "scaling", Scaling(**given))
        elif not isinstance(self.scaling, Scaling | None):
            _one_of("scaling", self.scaling, get_args(PerImage))
        if self.dtype == "uint8" and self.scaling is not None:
            raise InvalidInputError(
                f"scaling: expected None for an input of dtype 'uint8', found {self.scaling!r}"
            )

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Preprocess:
        """Create it from a mapping of the attributes, as `to_json` returns it.

        Raises
        ------
        InvalidInputError
            A key is unknown or missing, or a value is invalid.
        """
        return cls(**_fields_of(cls, facts, "preprocess"))

    def to_json(self) -> Json:
        """Return the attributes as JSON values."""
        facts = asdict(self)
        if isinstance(self.scaling, Scaling):
            facts["scaling"] = {name: list(values) for name, values in facts["scaling"].items()}
        for name in ("interpolation", "rounding"):  # so that fingerprints stay what they were
            if facts[name] == type(self).__dataclass_fields__[name].default:
                del facts[name]
        return facts

    def resized(self, size: int) -> Preprocess:
        """Return a copy for another input size; ``short_side`` changes in proportion."""
        check_count(size, "size", at_most=_LARGEST)
        facts = self.to_json() | {"size": size}
        if self.short_side is not None:
            facts["short_side"] = max(size, round(self.short_side * size / self.size))
        return Preprocess.from_json(facts)

    @property
    def min_side(self) -> int:
        """Shorter side, in pixels, below which an image would have to be enlarged."""
        return self.short_side or self.size

    def prepare(self, images: Sequence[Image]) -> NDArray[Any]:
        """Preprocess images into one batch.

        Parameters
        ----------
        images : sequence of uint8 arrays of shape (H, W, 3)
            RGB; sizes may differ.

        Returns
        -------
        array of shape (n, size, size, 3), or (n, 3, size, size) for layout ``"NCHW"``
            Batch of ``dtype``, C-contiguous.
        """
        fit = self._fit()
        pixels = np.empty((len(images), self.size, self.size, 3), dtype=np.uint8)
        for position, image in enumerate(images):
            pixels[position] = fit(image)
        batch: NDArray[Any] = pixels
        if self.scaling is not None:
            batch = pixels.astype(np.float32)
            if isinstance(self.scaling, Scaling):
                batch -= np.asarray(self.scaling.mean, dtype=np.float32)
                batch /= np.asarray(self.scaling.std, dtype=np.float32)
            else:
                axes = (1, 2, 3) if self.scaling == "per-image" else (1, 2)
                batch -= batch.mean(axis=axes, keepdims=True)
                # An image of one colour has no deviation; it stays at 0.
                batch /= np.maximum(batch.std(axis=axes, keepdims=True), 1e-6)
        if self.layout == "NCHW":
            batch = batch.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(batch, dtype=self.dtype)

    def _fit(self) -> Callable[[Image], Image]:
        from imgret import images as im  # noqa: PLC0415  # loads OpenCV, only when used

        if self.interpolation != "area":
            return self._resampled
        if self.resize == "crop":
            return lambda image: im.resize_center_crop(image, self.min_side, self.size)
        if self.resize == "pad":
            return lambda image: im.letterbox(image, self.size, fill=self.fill)
        return lambda image: im.resize(image, self.size, self.size)

    def _resampled(self, image: Image) -> Image:
        """Resize as the usual processors do: all of the image, and cut it then."""
        from imgret import images as im  # noqa: PLC0415  # loads OpenCV, only when used

        method: Any = self.interpolation
        size, (rows, columns) = self.size, image.shape[:2]
        if self.resize == "squash":
            return im.resample(image, size, size, method)
        if self.resize == "pad":
            scale = size / max(rows, columns)
            height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
            top, left = (size - height) // 2, (size - width) // 2
            padded = np.full((size, size, 3), self.fill, dtype=np.uint8)
            padded[top : top + height, left : left + width] = im.resample(
                image, width, height, method
            )
            return padded
        side, shorter = self.min_side, min(rows, columns)
        height, width = int(side * rows / shorter), int(side * columns / shorter)
        top, left = (self._margin(length - size) for length in (height, width))
        window = left, top, left + size, top + size
        return im.resample(image, width, height, method, window=window)

    def _margin(self, spare: int) -> int:
        return spare // 2 if self.rounding == "down" else round(spare / 2)


def _one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        expected = ", ".join(map(repr, allowed))
        raise InvalidInputError(f"{name}: expected one of {expected}, found {value!r}")


def _fields_of(cls: type, facts: object, name: str) -> dict[str, Any]:
    """Return the facts as keyword arguments for the dataclass, after checking the keys."""
    known = {field.name: field.default for field in fields(cls)}
    if not isinstance(facts, Mapping):
        raise InvalidInputError(
            f"{name}: expected a mapping with the keys {', '.join(known)}, found {facts!r}"
        )
    if unknown := set(facts) - set(known):
        raise InvalidInputError(
            f"{name}: expected the keys {', '.join(known)}, found {sorted(map(str, unknown))}"
        )
    required = [key for key, default in known.items() if default is MISSING]
    if missing := [key for key in required if key not in facts]:
        raise InvalidInputError(f"{name}: expected also {', '.join(missing)}, which is missing")
    return dict(cast("Mapping[str, Any]", facts))
