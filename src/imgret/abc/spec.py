"""The description of a gallery: dimension, metric, dtype and parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

from imgret.types import Dtype, Json, Metric, Part

__all__ = ["GallerySpec"]


@dataclass(frozen=True)
class GallerySpec:
    """The description of a gallery: its dimension, metric, dtype and parts.

    Attributes
    ----------
    dim : int
        Dimension of the stored embeddings.
    metric : {"cosine", "ip", "l2"}
    dtype : {"float16", "float32"}
        Type in which embeddings are stored.
    embedder, cropper, index : Part
    fingerprint : str
        Fingerprint of the embedder. Vectors of embedders with different ones are not comparable.
    projection : str or None
        Fingerprint of the projection used for searches, if there is one.
    tuned : dict or None
        Search options found by tuning, and the name of the index they are for.
    calibration : dict or None
        Mapping from scores to probabilities, with its projection and metric: see
        `imgret.learning.ScoreCalibration`.
    text_calibration : dict or None
        The same for the scores of texts, which are lower than those of images.
    cropper_fingerprint : str or None
        Fingerprint of the cropper. Croppers with different ones may return different boxes. None
        in galleries of older versions.
    files : dict of str to str
        Absolute paths where the files named in the options of embedder and cropper may be found,
        by the path given in the options.
    """

    dim: int
    metric: Metric
    dtype: Dtype
    embedder: Part
    fingerprint: str
    cropper: Part
    index: Part
    projection: str | None = None
    tuned: Json | None = None
    calibration: Json | None = None
    text_calibration: Json | None = None
    cropper_fingerprint: str | None = None
    files: Json = field(default_factory=dict)

    def with_(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)
