"""Whether one image was made from another: they are laid over each other and compared."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgret.images.transform import thumbnail
from imgret.types import Image

__all__ = ["SKETCH_SIDE", "Sketch", "is_copy", "mirrored", "sketch"]

SKETCH_SIDE = 192
"""Longer side in pixels at which images are compared."""

_POINTS = 250
_CONTRAST = 0.02
_RATIO = 0.8  # Lowe's test: the nearest descriptor against the second nearest
_REACH = 3.0  # pixels between a point and where it should be
_ROUNDS = 500
_LEAST_POINTS = 8
_STRETCH = 2.0  # most that an axis may be stretched against the other
_SMALLEST = 0.15  # least scale of one image against the other
_OVERLAP = 0.5  # least share of the smaller image that is part of the other
_ALIKE = 0.75  # least correlation where they overlap
_WHOLE, _WHOLE_ALIKE = 64, 0.93  # the same for whole images, at this size
_BLUR = 1.5  # pixels; errors of alignment matter less


class Sketch(NamedTuple):
    """What is kept of an image to compare it with others.

    Attributes
    ----------
    gray : uint8 array of shape (h, w)
        The image in grey, at most 192 pixels a side.
    points : float32 array of shape (n, 2)
        Columns and rows of points of interest.
    descriptors : uint8 array of shape (n, 128)
        SIFT descriptors of what is around them.
    """

    gray: NDArray[np.uint8]
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Memory that it takes, in bytes."""
        return self.gray.nbytes + self.points.nbytes + self.descriptors.nbytes


# SIFT keeps no state between calls but is not documented as safe for threads: one for each call
# costs nothing.
def _points(gray: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    sift = cv2.SIFT_create(_POINTS, contrastThreshold=_CONTRAST)  # type: ignore[attr-defined]  # missing in OpenCV's types
    points, descriptors = sift.detectAndCompute(gray, None)
    if descriptors is None:
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8)
    places = np.array([point.pt for point in points], dtype=np.float32)
    return places, descriptors.astype(np.uint8)  # whole numbers up to 255


def sketch(image: Image) -> Sketch:
    """Return what `is_copy` needs of an image.

    Points and descriptors are those of SIFT (Lowe, "Distinctive Image Features from
    Scale-Invariant Keypoints", IJCV 2004).

    Parameters
    ----------
    image : uint8 array of shape (H, W, 3)
    """
    gray: Any = cv2.cvtColor(thumbnail(image, SKETCH_SIDE), cv2.COLOR_RGB2GRAY)
    return Sketch(gray, *_points(gray))


def mirrored(one: Sketch) -> Sketch:
    """Return the sketch of the mirror image."""
    gray = np.ascontiguousarray(one.gray[:, ::-1])
    return Sketch(gray, *_points(gray))


def is_copy(one: Sketch, other: Sketch) -> bool:
    """Whether two images show the same pixels, up to crop, size, border, light and watermark.

    Images that match as a whole are copies. For others, points of the two are matched, and the
    affine map that most of them agree on (RANSAC) lays one image over the other. They are copies
    if they correlate where they overlap, and if that is at least half of one of them.

    Parameters
    ----------
    one, other : Sketch
        Mirror images are no copies; compare with the `mirrored` sketch to find them.
    """
    return _as_a_whole(one.gray, other.gray) or _in_part(one, other)


def _as_a_whole(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    small = [
        cv2.GaussianBlur(
            cv2.resize(gray, (_WHOLE, _WHOLE), interpolation=cv2.INTER_AREA), (0, 0), 1
        )
        for gray in (one, other)
    ]
    return _correlation(small[0], small[1]) >= _WHOLE_ALIKE


def _in_part(one: Sketch, other: Sketch) -> bool:
    if min(len(one.points), len(other.points)) < _LEAST_POINTS:
        return False
    matches = cv2.BFMatcher(cv2.NORM_L2).knnMatch(
        one.descriptors.astype(np.float32), other.descriptors.astype(np.float32), k=2
    )
    good = [best for best, second in matches if best.distance < _RATIO * second.distance]
    if len(good) < _LEAST_POINTS:
        return False
    affine, agreed = cv2.estimateAffine2D(
        one.points[[match.queryIdx for match in good]],
        other.points[[match.trainIdx for match in good]],
        method=cv2.RANSAC,
        ransacReprojThreshold=_REACH,
        maxIters=_ROUNDS,
    )
    if affine is None or int(agreed.sum()) < _LEAST_POINTS:
        return False
    largest, smallest = np.linalg.svd(affine[:, :2], compute_uv=False)
    if smallest < _SMALLEST or largest > _STRETCH * smallest:
        return False
    return _overlaps(one.gray, other.gray, affine)


def _overlaps(one: NDArray[np.uint8], other: NDArray[np.uint8], affine: Any) -> bool:
    """Whether two images are alike where an affine map lays one over the other."""
    height, width = other.shape
    laid = cv2.warpAffine(one, affine, (width, height))
    inside = cv2.warpAffine(np.full_like(one, 255), affine, (width, height)) > 250
    area = int(inside.sum())
    scale = abs(float(np.linalg.det(affine[:, :2])))
    if max(area / other.size, area / scale / one.size) < _OVERLAP:
        return False
    blurred = [cv2.GaussianBlur(gray, (0, 0), _BLUR)[inside] for gray in (laid, other)]
    return _correlation(blurred[0], blurred[1]) >= _ALIKE


def _correlation(one: Any, other: Any) -> float:
    """Return the correlation of grey levels, from -1 to 1; 0 for an image of one colour."""
    a, b = (np.ravel(gray).astype(np.float32) for gray in (one, other))
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > a.size else 0.0
