"""What the places of an image add to its vector, and from there to a score.

Both methods answer in the same form: a grid of places, each with the vector that it adds. The heat
of a place is what that vector adds to the score, and the product of the vectors of two places, one
in each image, is what the pair adds.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret.support.metric import DistanceMetric

__all__ = ["Area", "Places", "pair_scores"]

# Part of an image that a grid covers: x0, y0, x1, y1 as shares of its width and height.
Area: TypeAlias = tuple[float, float, float, float]


class Places(NamedTuple):
    """A grid of places in one image.

    Attributes
    ----------
    vectors : float32 array of shape (h, w, d)
        What each place adds to the vector of the image, as it is searched.
    heat : float32 array of shape (h, w)
        What each place adds to the score.
    area : tuple of float
        The part of the embedded pixels that the grid covers, as shares of their width and height;
        it may go beyond them.
    """

    vectors: NDArray[np.float32]
    heat: NDArray[np.float32]
    area: Area


def pair_scores(query: Places, hit: Places, metric: DistanceMetric) -> NDArray[np.float32]:
    """Return what each pair of places adds to the score.

    Returns
    -------
    float32 array of shape (h, w, h2, w2)
        For exact places and metrics ``"cosine"`` and ``"ip"`` the sum is the score, except for what
        constants add. For ``"l2"`` it is twice the inner product of the two vectors.
    """
    products: NDArray[np.float32] = np.tensordot(query.vectors, hit.vectors, axes=(2, 2))
    return products if metric.by_product else 2 * products
