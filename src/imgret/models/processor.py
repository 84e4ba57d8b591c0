"""How images are prepared, as published models say it: Hugging Face, open_clip, timm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from imgret.errors import InvalidInputError, ModelError
from imgret.models.preprocess import Interpolation, Preprocess, Scaling

__all__ = ["from_hugging_face", "from_open_clip", "from_timm"]

# What the number in ``resample`` means: Pillow's.
_RESAMPLE: dict[int, Interpolation] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
_NAMED: dict[str, Interpolation] = {
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
    "random": "bicubic",  # timm, which was trained with several
}
# Processors that crop the middle out unless their file says otherwise.
_CROP = {"CLIPImageProcessor", "CLIPFeatureExtractor", "BitImageProcessor"}


def from_hugging_face(facts: Mapping[str, Any]) -> Preprocess:
    """Read the ``preprocessor_config.json`` of a model.

    Raises
    ------
    ModelError
        It says something that cannot be done here; the message names the key.
    """
    kind = str(facts.get("image_processor_type") or facts.get("feature_extractor_type") or "")
    kind = kind.removesuffix("Fast")
    for key in ("do_flip_channel_order", "do_pad", "do_split_image", "do_reduce_labels"):
        if facts.get(key):
            raise _cannot(key, facts[key])
    if not facts.get("do_resize", True):
        raise _cannot("do_resize", facts["do_resize"])
    crops = facts.get("do_center_crop", kind in _CROP)
    size, resize, short_side = _sizes(facts, kind, crops=bool(crops))
    resample = facts.get("resample", 3 if kind in _CROP or "Siglip" in kind else 2)
    if resample not in _RESAMPLE:
        raise _cannot("resample", resample)
    return Preprocess(
        size=size,
        scaling=_hugging_face_scaling(facts),
        resize=resize,
        short_side=short_side,
        interpolation=_RESAMPLE[resample],
    )


def from_open_clip(facts: Mapping[str, Any]) -> Preprocess:
    """Read the ``preprocess_cfg`` of open_clip, which immich keeps in a file of its own.

    Raises
    ------
    ModelError
        It says something that cannot be done here.
    """
    size = _one_side(facts.get("size", 224), "size")
    mode = facts.get("resize_mode", "shortest")
    if mode not in {"shortest", "squash", "longest"}:
        raise _cannot("resize_mode", mode)
    fill = facts.get("fill_color", 0)
    return Preprocess(
        size=size,
        scaling=_scaling(
            facts.get("mean", (0.48145466, 0.4578275, 0.40821073)),
            facts.get("std", (0.26862954, 0.26130258, 0.27577711)),
            1 / 255,
        ),
        resize={"shortest": "crop", "squash": "squash", "longest": "pad"}[mode],  # type: ignore[arg-type]
        fill=int(fill[0] if isinstance(fill, Sequence) else fill),
        interpolation=_named(facts.get("interpolation", "bicubic")),
        rounding="even",
    )


def from_timm(facts: Mapping[str, Any]) -> Preprocess:
    """Read the ``pretrained_cfg`` of a timm model's ``config.json``.

    Raises
    ------
    ModelError
        It says something that cannot be done here.
    """
    size = _one_side(list(facts.get("input_size", (3, 224, 224)))[1:], "input_size")
    mode = facts.get("crop_mode", "center")
    if mode not in {"center", "squash"}:
        raise _cannot("crop_mode", mode)
    share = float(facts.get("crop_pct") or 0.875)
    return Preprocess(
        size=size,
        scaling=_scaling(
            facts.get("mean", (0.485, 0.456, 0.406)),
            facts.get("std", (0.229, 0.224, 0.225)),
            1 / 255,
        ),
        resize="crop" if mode == "center" else "squash",
        short_side=max(size, math.floor(size / share)) if mode == "center" else None,
        interpolation=_named(facts.get("interpolation", "bicubic")),
        rounding="even",
    )


def _sizes(facts: Mapping[str, Any], kind: str, *, crops: bool) -> tuple[int, Any, int | None]:
    """Return the side of the input, how images are brought to it, and their shorter side."""
    size = facts.get("size", 224)
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else None
    if shortest is not None and kind == "ConvNextImageProcessor":
        if shortest >= 384:
            return shortest, "squash", None
        return shortest, "crop", int(shortest / facts.get("crop_pct", 0.875))
    if not crops:
        if shortest is not None:
            raise _cannot("size", size, "without a crop, its images have no common size")
        return _one_side(size, "size"), "squash", None
    cut = _one_side(facts.get("crop_size", size if shortest is None else shortest), "crop_size")
    if shortest is None:
        if isinstance(size, int):  # old files: the shorter side
            return cut, "crop", size
        if _one_side(size, "size") == cut:
            return cut, "squash", None
        raise _cannot("size", size, "a crop out of a squashed image is not made here")
    if shortest < cut:
        raise _cannot("crop_size", facts.get("crop_size"), "it is larger than the image")
    return cut, "crop", None if shortest == cut else shortest


def _hugging_face_scaling(facts: Mapping[str, Any]) -> Scaling | None:
    factor = float(facts.get("rescale_factor", 1 / 255)) if facts.get("do_rescale", True) else 1.0
    mean, std = [0.0] * 3, [1.0] * 3
    if facts.get("do_normalize", True):
        mean, std = facts.get("image_mean", [0.5] * 3), facts.get("image_std", [0.5] * 3)
    if facts.get("rescale_offset"):  # to -1 to 1
        mean = [1 + each for each in mean]
    if factor == 1 and not any(mean) and all(each == 1 for each in std):
        return None
    return _scaling(mean, std, factor)


def _scaling(mean: Any, std: Any, factor: float) -> Scaling:
    """Return constants for pixels from 0 to 255, where the given ones follow a factor."""
    try:
        means, deviations = ([float(each) / factor for each in some] for some in (mean, std))
        return Scaling(tuple(means), tuple(deviations))  # type: ignore[arg-type]  # checked there
    except (TypeError, ValueError, InvalidInputError) as error:
        raise ModelError(f"image_mean, image_std: {error}") from error


def _one_side(size: Any, key: str) -> int:
    """Return the side of a square that is given by a number, a pair or a mapping."""
    sides = size
    if isinstance(size, Mapping):
        sides = [size.get("height"), size.get("width")]
    elif isinstance(size, int):
        sides = [size, size]
    if (
        not isinstance(sides, Sequence)
        or len(sides) not in {1, 2}
        or len(set(sides)) != 1
        or not isinstance(sides[0], int)
        or sides[0] < 1
    ):
        raise _cannot(key, size, "a square is needed")
    return sides[0]


def _named(name: Any) -> Interpolation:
    if name not in _NAMED:
        raise _cannot("interpolation", name)
    return _NAMED[name]


def _cannot(key: str, value: object, reason: str = "") -> ModelError:
    because = f" ({reason})" if reason else ""
    return ModelError(
        f"{key}: expected a way of preparing images that is known here, found {value!r}{because}; "
        f"give preprocess= instead"
    )
