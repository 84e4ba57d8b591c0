"""Whether one image was made from another: they are laid over each other and compared."""

from __future__ import annotations

from itertools import pairwise
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
# Of the cells of a grid over the overlap, so many have to correlate; fewer if the hashes are near.
_GRID, _CELL_ALIKE, _CELLS, _CELLS_IF_NEAR = 8, 0.6, 0.78, 0.7
_PLAIN = 5.0  # grey levels: cells that vary less are not counted
_COVERED = 0.7  # least share of a cell that is in the overlap
_WHOLE, _WHOLE_ALIKE = 64, 0.93  # side and least correlation of whole images
_BLUR = 1.5  # pixels; errors of alignment matter less
# Colours: of the pixels that are not overexposed, so many may differ in hue or saturation, after a
# common factor, by more than this distance in the plane of a and b of CIELAB; more if the hashes
# are near. An image without colours goes with any.
_SHRUNK, _EXPOSED, _FEW_PIXELS = 3, 235, 100
_COLOR_GAP, _COLORS, _COLORS_IF_NEAR = 12.0, 0.15, 0.22
_GRAY, _FACTORS = 1.5, (0.4, 2.5)


class Sketch(NamedTuple):
    """What is kept of an image to compare it with others.

    Attributes
    ----------
    gray : uint8 array of shape (h, w)
        The image in grey, at most 192 pixels a side.
    color : uint8 array of shape (h / 3, w / 3, 3)
        The image in RGB.
    points : float32 array of shape (n, 2)
        Columns and rows of points of interest.
    descriptors : uint8 array of shape (n, 128)
        SIFT descriptors of what is around them.
    """

    gray: NDArray[np.uint8]
    color: NDArray[np.uint8]
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Memory that it takes, in bytes."""
        return self.gray.nbytes + self.color.nbytes + self.points.nbytes + self.descriptors.nbytes


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
    small = thumbnail(image, SKETCH_SIDE)
    height, width = (max(1, round(side / _SHRUNK)) for side in small.shape[:2])
    color: Any = cv2.resize(small, (width, height), interpolation=cv2.INTER_AREA)
    gray: Any = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return Sketch(gray, color, *_points(gray))


def mirrored(one: Sketch) -> Sketch:
    """Return the sketch of the mirror image."""
    gray, color = (np.ascontiguousarray(each[:, ::-1]) for each in (one.gray, one.color))
    return Sketch(gray, color, *_points(gray))


def is_copy(one: Sketch, other: Sketch, *, near: bool = False) -> bool:
    """Whether two images show the same pixels, up to crop, size, border, light and watermark.

    Images that match as a whole are copies. For others, points of the two are matched, and the
    affine map that most of them agree on (RANSAC) lays one image over the other. They are copies
    if that is at least half of one of them, and they correlate there: altogether, in most of its
    cells, and in their colours.

    Parameters
    ----------
    one, other : Sketch
        Mirror images are no copies; compare with the `mirrored` sketch to find them.
    near : bool
        Whether their perceptual hashes are near: then fewer cells and colours need to agree.
    """
    return _as_a_whole(one, other, near=near) or _in_part(one, other, near=near)


def _as_a_whole(one: Sketch, other: Sketch, *, near: bool) -> bool:
    def small(pixels: NDArray[np.uint8]) -> Any:
        squeezed = cv2.resize(pixels, (_WHOLE, _WHOLE), interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(squeezed, (0, 0), 1)

    return _correlation(small(one.gray), small(other.gray)) >= _WHOLE_ALIKE and _same_colors(
        small(one.color), small(other.color), near=near
    )


def _in_part(one: Sketch, other: Sketch, *, near: bool) -> bool:
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
    return _overlaps(one, other, affine, near=near)


def _overlaps(one: Sketch, other: Sketch, affine: Any, *, near: bool) -> bool:
    """Whether two images are alike where an affine map lays one over the other."""
    laid, inside = _laid_over(one.gray, other.gray, affine)
    area = int(inside.sum())
    scale = abs(float(np.linalg.det(affine[:, :2])))
    if max(area / other.gray.size, area / scale / one.gray.size) < _OVERLAP:
        return False
    a, b = (cv2.GaussianBlur(gray, (0, 0), _BLUR) for gray in (laid, other.gray))
    if _correlation(a[inside], b[inside]) < _ALIKE:
        return False
    if _alike_cells(a, b, inside) < (_CELLS_IF_NEAR if near else _CELLS):
        return False
    shrunk = affine.copy()
    shrunk[:, 2] /= _SHRUNK
    color, seen = _laid_over(one.color, other.color, shrunk)
    a, b = (cv2.GaussianBlur(each, (0, 0), 1)[seen] for each in (color, other.color))
    return _same_colors(a, b, near=near)


def _laid_over(
    one: NDArray[np.uint8], other: NDArray[np.uint8], affine: Any
) -> tuple[Any, NDArray[np.bool_]]:
    """Return an image laid over another one, and where it covers that."""
    size = other.shape[1], other.shape[0]
    whole = np.full(one.shape[:2], 255, dtype=np.uint8)
    return cv2.warpAffine(one, affine, size), np.asarray(cv2.warpAffine(whole, affine, size)) > 250


def _alike_cells(one: Any, other: Any, inside: NDArray[np.bool_]) -> float:
    """Return the share of cells that correlate; 1 if all are plain."""
    alike, counted = 0, 0
    rows, columns = (np.linspace(0, side, _GRID + 1).astype(int) for side in inside.shape)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            cell = np.s_[top:bottom, left:right]
            mask = inside[cell]
            if not mask.size or mask.mean() < _COVERED:
                continue
            a, b = one[cell][mask], other[cell][mask]
            if max(a.std(), b.std()) >= _PLAIN:
                counted += 1
                alike += _correlation(a, b) >= _CELL_ALIKE
    return alike / counted if counted else 1.0


def _same_colors(one: Any, other: Any, *, near: bool) -> bool:
    """Whether pixels that lie over each other have the same colours: uint8, shape (..., 3)."""
    pixels = [np.reshape(each, (-1, 1, 3)) for each in (one, other)]
    usable = np.all([each.max(axis=(1, 2)) < _EXPOSED for each in pixels], axis=0)
    if int(usable.sum()) < _FEW_PIXELS:
        return True
    a, b = (
        cv2.cvtColor(each[usable], cv2.COLOR_RGB2LAB)[:, 0, 1:].astype(np.float32) - 128
        for each in pixels
    )
    if min(float(np.hypot(*each.T).mean()) for each in (a, b)) < _GRAY:
        return True
    most = _COLORS_IF_NEAR if near else _COLORS
    return max(_color_gaps(a, b), _color_gaps(b, a)) <= most


def _color_gaps(one: Any, other: Any) -> float:
    """Return the share of colours that differ; ``other`` may be more or less saturated."""
    factor = np.clip((one * other).sum() / max(float((other * other).sum()), 1.0), *_FACTORS)
    return float((np.hypot(*(one - factor * other).T) > _COLOR_GAP).mean())


def _correlation(one: Any, other: Any) -> float:
    """Return the correlation of grey levels, from -1 to 1; 0 for an image of one colour."""
    a, b = (np.ravel(gray).astype(np.float32) for gray in (one, other))
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > a.size else 0.0
