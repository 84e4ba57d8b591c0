"""What a gallery is made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

from imgret.types import Dtype, Json, Metric, Part

__all__ = ["GallerySpec"]


@dataclass(frozen=True)
class GallerySpec:
    """What a gallery is made of.

    Attributes
    ----------
    dim : int
        Dimension of the stored embeddings.
    metric : {"cosine", "ip", "l2"}
    dtype : {"float16", "float32"}
        How embeddings are stored.
    embedder, cropper, index : Part
    fingerprint : str
        Of the embedder; vectors of another are not comparable.
    projection : str or None
        Fingerprint of the projection by which is searched, where there is one.
    tuned : dict or None
        Options of search that were measured to be the fastest for a recall, and for what index.
    calibration : dict or None
        What turns a score into a probability, and for which projection and metric: see
        `imgret.learning.ScoreCalibration`.
    cropper_fingerprint : str or None
        Of the cropper; boxes of another differ. None in galleries of older versions.
    files : dict of str to str
        Where the files may be that the options of embedder and cropper name: absolute paths, by
        the path as it stands there.
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
    cropper_fingerprint: str | None = None
    files: Json = field(default_factory=dict)

    def with_(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)
