"""Embedder that combines the whole image with its subject."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from imgret.abc import Cropper, Embedder
from imgret.errors import InvalidInputError
from imgret.registry import made
from imgret.support.checks import check_number
from imgret.support.unit import unit_length
from imgret.types import Embeddings, Image, Json

__all__ = ["TwoViewEmbedder"]


@final
class TwoViewEmbedder(Embedder):
    """Embeds an image as the weighted mean of the embeddings of the whole and of its subject.

    A crop that misses the subject then costs half at most, while a good one still helps. Use it
    with ``Retriever(cropper="none")``. It takes twice the time of one view, and works with any
    embedder and cropper.

    Parameters
    ----------
    embedder : str, Embedder or mapping
        A registered name, an embedder, or a mapping ``{"name": ..., "config": {...}}`` as
        `config` writes it.
    cropper : str, Cropper or mapping
        A registered name, a cropper, or a mapping of the same form.
    weight : float
        Weight of the subject, over 0 and below 1; the whole image has the rest.

    Raises
    ------
    InvalidInputError
        The weight is out of range, or ``embedder`` or ``cropper`` is invalid.
    """

    name = "two-view"

    def __init__(
        self,
        embedder: str | Embedder | Mapping[str, Any] = "general",
        cropper: str | Cropper | Mapping[str, Any] = "saliency",
        *,
        weight: float = 0.5,
    ) -> None:
        self._embedder: Embedder = made("embedders", embedder, Embedder)  # type: ignore[type-abstract]  # it is only compared with
        self._cropper: Cropper = made("croppers", cropper, Cropper)  # type: ignore[type-abstract]  # it is only compared with
        self._weight = check_number(weight, "weight", above=0, at_most=1)
        if self._weight == 1:
            raise InvalidInputError(
                f"weight: expected a number over 0 and below 1, found {weight!r}; to embed only "
                f"the subject, give the cropper to the Retriever"
            )
        self.thread_safe = self._embedder.thread_safe and self._cropper.thread_safe  # type: ignore[misc]  # of this one
        self.batch_size = self._embedder.batch_size
        side = self._embedder.min_side
        # A subject is seldom smaller than half of the image.
        self.min_side = None if side is None else 2 * side

    @property
    def dim(self) -> int:
        """Dimension of the embedding: that of one view."""
        return self._embedder.dim

    @property
    def fingerprint(self) -> str:
        """Fingerprints of the embedder and the cropper, with the weight."""
        return self._fingerprint(self._cropper.fingerprint)

    @property
    def former_fingerprint(self) -> str:
        """Fingerprint in galleries of older versions, which does not cover the cropper's file."""
        return self._fingerprint(_part(self._cropper))

    def _fingerprint(self, cropper: Any) -> str:
        view = {"cropper": cropper, "weight": self._weight}
        return f"{self._embedder.fingerprint} two-view {json.dumps(view, sort_keys=True)}"

    def config(self) -> Json:
        """Return the keyword arguments, as JSON values, that recreate this embedder."""
        return {
            "embedder": _part(self._embedder),
            "cropper": _part(self._cropper),
            "weight": self._weight,
        }

    def _embed(self, images: Sequence[Image]) -> Embeddings:
        whole = unit_length(self._embedder.embed(images))
        found = self._cropper.detect(images)
        rows = [row for row, box in enumerate(found) if box is not None]
        if not rows:
            return whole
        crops = [
            images[row][box.y0 : box.y1, box.x0 : box.x1]
            for row, box in enumerate(found)
            if box is not None
        ]
        weight = np.float32(self._weight)
        whole[rows] = unit_length(
            (1 - weight) * whole[rows] + weight * unit_length(self._embedder.embed(crops))
        )
        return whole

    def __repr__(self) -> str:
        return f"TwoViewEmbedder({self._embedder!r}, {self._cropper!r}, weight={self._weight})"


def _part(made: Embedder | Cropper) -> Json:
    return {"name": made.name, "config": made.config()}
