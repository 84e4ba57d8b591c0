"""Exact heat: the score is the sum of what the places of the feature map add to it.

If an embedding is the mean of a feature map and only linear maps, powers and scaling follow, it is
a sum over places (see `imgret.models.features`). A projection is linear, too, so that the inner
product of two vectors is a sum over pairs of places. For metric ``"cosine"`` the lengths of the two
vectors divide every term; for ``"l2"`` the squared length of an image's own vector is divided among
its places as well.

References
----------
A. Stylianou, R. Souvenir and R. Pless, "Visualizing Deep Similarity Networks", 2019; S. Zhu et al.,
"Visual Explanation for Deep Metric Learning", 2021.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgret.abc import Embedder
from imgret.embedders import OnnxEmbedder
from imgret.errors import ModelError
from imgret.explain.places import Area, Places
from imgret.models.preprocess import Preprocess
from imgret.search import View
from imgret.types import Image

__all__ = ["Parts", "decompose", "heat_of", "shown_area"]


class Parts:
    """The parts of an image's vector: one per place, and the rest.

    Parameters
    ----------
    vectors : float32 array of shape (h, w, d)
    rest : float32 array of shape (d,)
    area : tuple of float
    """

    def __init__(self, vectors: NDArray[np.float32], rest: NDArray[np.float32], area: Area) -> None:
        self.vectors, self.rest, self.area = vectors, rest, area

    @property
    def whole(self) -> NDArray[np.float32]:
        """The vector: the sum of the parts."""
        whole: NDArray[np.float32] = self.vectors.sum(axis=(0, 1)) + self.rest
        return whole


def decompose(image: Image, embedder: Embedder, view: View) -> Parts:
    """Divide the vector of an image among its places.

    Parameters
    ----------
    image : uint8 array of shape (H, W, 3)
        The pixels that are embedded.
    embedder : Embedder
    view : View
        View whose metric and projection the vector is made for.

    Raises
    ------
    ModelError
        The embedding is not a sum over places.
    """
    if not isinstance(embedder, OnnxEmbedder):
        raise ModelError(
            f"{embedder.name or type(embedder).__name__}: expected an OnnxEmbedder, whose graph "
            f"shows how it pools, found another embedder"
        )
    vectors, rest = embedder.contributions(image)
    projection = view.projection
    if projection.kind != "identity":
        # Applying it to nothing gives what it subtracts.
        offset = projection.apply(np.zeros((1, projection.dim_in), dtype=np.float32))[0]
        flat = projection.apply(vectors.reshape(-1, projection.dim_in)) - offset
        vectors = flat.reshape(*vectors.shape[:2], -1)
        rest = projection.apply(rest[None])[0]
    parts = Parts(vectors, rest, shown_area(image, embedder.preprocess))
    if view.metric.on_sphere:
        length = max(float(np.linalg.norm(parts.whole)), 1e-12)
        parts.vectors, parts.rest = parts.vectors / length, parts.rest / length
    return parts


def heat_of(parts: Parts, other: NDArray[np.float32], view: View) -> Places:
    """Return what the places of an image add to its score with another image's vector.

    The heat adds up to the score minus the score of an empty image, of which only the rest is left.
    """
    heat = parts.vectors @ other
    if not view.metric.by_product:
        heat = 2 * heat - parts.vectors @ (parts.whole + parts.rest)
    return Places(parts.vectors, heat.astype(np.float32), parts.area)


def shown_area(image: Image, preprocess: Preprocess) -> Area:
    """Return the part of an image that a network sees; with bars it goes beyond the image."""
    height, width = image.shape[:2]
    if preprocess.resize == "squash":
        return 0.0, 0.0, 1.0, 1.0
    if preprocess.resize == "pad":
        side = float(max(height, width))
    else:
        side = preprocess.size * min(height, width) / preprocess.min_side
    x, y = side / width / 2, side / height / 2
    return 0.5 - x, 0.5 - y, 0.5 + x, 0.5 + y
