"""Whether one image was made from another: they are laid over each other and compared."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import cv2
import numpy as np
from numpy.typing import NDArray

from imgret.images.hashing import inside_border
from imgret.images.transform import thumbnail
from imgret.support.lazy import cached_property
from imgret.types import Image

__all__ = ["SKETCH_SIDE", "Sketch", "is_copy", "mirrored", "sketch"]

SKETCH_SIDE = 192
"""Longer side in pixels at which images are compared."""

_POINTS, _DESCRIPTOR = 250, 128
_CONTRAST = 0.02
_RATIO = 0.8  # Lowe's test: the nearest descriptor against the second nearest
_REACH = 3.0  # pixels between a point and where it should be
_ROUNDS = 500
_LEAST_POINTS, _MANY_POINTS = 8, 20
_STRETCH = 2.0  # most that an axis may be stretched against the other
_SMALLEST = 0.15  # least scale of one image against the other
_OVERLAP = 0.5  # least share of the smaller image that is part of the other
_ALIKE = 0.75  # least correlation where they overlap
# Half of the points of copies are mostly within 0.2 pixels of where the map takes them; those of
# another shot of the same thing are not, as its parts moved against each other. Half of the cells
# of copies are as good as equal, too; less in other light, but then the points are exact.
_EXACT, _CLOSE = 0.25, 0.5  # pixels of the smaller image by which half of the points may be off
# Least correlation of half of the cells: with exact points, with close ones (less if the hashes
# are near), and otherwise.
_CELL_EXACT, _CELL_CLOSE, _CELL_CLOSE_IF_NEAR, _CELL_EQUAL = 0.9, 0.97, 0.94, 0.985
# Of the cells of a grid over the overlap, so many have to correlate; fewer if the hashes are near.
_GRID, _CELL_ALIKE, _CELLS, _CELLS_IF_NEAR = 8, 0.6, 0.78, 0.7
_PLAIN = 5.0  # grey levels: cells that vary less are not counted
_COVERED = 0.7  # least share of a cell that is in the overlap
_WHOLE, _WHOLE_ALIKE = 64, 0.93  # side and least correlation of whole images
_TONED_ALIKE = 0.98  # the same where one was given the tones of the other
_FRAME_ALIKE = 0.98  # the same without their borders
# A mark: side of what is compared, grey levels that it changes, share of its pixels that it may
# change the other way, least share of the image it leaves, and correlation of the details there.
_MARKED, _MARK_CHANGE, _MIXED, _UNMARKED, _DETAIL_ALIKE = 128, 12, 0.03, 0.15, 0.98
_BLUR = 1.5  # pixels; errors of alignment matter less
# Colours: of the pixels that are not overexposed, so many may differ in hue or saturation, after a
# common factor, by more than this distance in the plane of a and b of CIELAB; more if the hashes
# are near. An image without colours goes with any.
_SHRUNK, _EXPOSED, _FEW_PIXELS = 3, 235, 100
_COLOR_GAP, _COLORS, _COLORS_IF_NEAR = 12.0, 0.15, 0.22
_GRAY, _COLORED, _FACTORS = 1.5, 6.0, (0.4, 2.5)


@final
class Sketch:
    """What is kept of an image to compare it with others.

    Points of interest are computed when they are first needed: copies of another size or quality
    are found without them.

    Parameters
    ----------
    gray : uint8 array of shape (h, w)
        The image in grey, at most 192 pixels a side.
    color : uint8 array of shape (h / 3, w / 3, 3)
        The image in RGB.
    mirror : Sketch, optional
        Sketch of the mirror image, from which the points follow.
    """

    def __init__(
        self, gray: NDArray[np.uint8], color: NDArray[np.uint8], mirror: Sketch | None = None
    ) -> None:
        self.gray = gray
        self.color = color
        self._mirror = mirror

    @cached_property
    def features(self) -> Features:
        """Points of interest, and what is around them."""
        if self._mirror is None:
            return _features(self.gray)
        return _mirrored(self._mirror.features, self.gray.shape[1])

    @property
    def nbytes(self) -> int:
        """Memory that it takes at most, in bytes."""
        return self.gray.nbytes + self.color.nbytes + _POINTS * (_DESCRIPTOR + 8)


class Features(NamedTuple):
    """Points of interest of an image.

    Attributes
    ----------
    points : float32 array of shape (n, 2)
        Columns and rows.
    descriptors : uint8 array of shape (n, 128)
        SIFT descriptors of what is around them.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


# SIFT keeps no state between calls but is not documented as safe for threads: one for each call
# costs nothing.
def _features(gray: NDArray[np.uint8]) -> Features:
    sift = cv2.SIFT_create(_POINTS, contrastThreshold=_CONTRAST)  # type: ignore[attr-defined]  # missing in OpenCV's types
    points, descriptors = sift.detectAndCompute(gray, None)
    if descriptors is None:
        return Features(np.empty((0, 2), np.float32), np.empty((0, _DESCRIPTOR), np.uint8))
    places = np.array([point.pt for point in points], dtype=np.float32)
    return Features(places, descriptors.astype(np.uint8))  # whole numbers up to 255


def _mirrored(features: Features, width: int) -> Features:
    """Return the features of the mirror image.

    A descriptor has 4 x 4 cells along and across the direction of its point, and 8 directions
    against it: mirroring exchanges the sides across, and the signs of the directions. OpenCV
    places points a quarter of a pixel to the right, as it starts from a doubled image.
    """
    points = features.points.copy()
    points[:, 0] = width - 0.5 - points[:, 0]
    cells = features.descriptors.reshape(-1, 4, 4, 8)[:, ::-1][..., -np.arange(8) % 8]
    return Features(points, np.ascontiguousarray(cells.reshape(-1, _DESCRIPTOR)))


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
    return Sketch(gray, color)


def mirrored(one: Sketch) -> Sketch:
    """Return the sketch of the mirror image."""
    gray, color = (np.ascontiguousarray(each[:, ::-1]) for each in (one.gray, one.color))
    return Sketch(gray, color, mirror=one)


def is_copy(one: Sketch, other: Sketch, *, near: bool = False) -> bool:
    """Whether two images show the same pixels, up to crop, size, border, light and watermark.

    Images that are alike as a whole are copies, if need be after giving one the tones of the other
    (histogram matching), or apart from a mark such as large letters. For others, points of the two
    are matched, and the affine map that most of them agree on (RANSAC) lays one image over the
    other. They are copies if that is at least half of one of them, if the points are where the map
    takes them to a fraction of a pixel, and if the images correlate there: altogether, in most of
    the cells, and in their colours. Two shots of one scene correlate, but no map takes their points
    so exactly.

    Parameters
    ----------
    one, other : Sketch
        Mirror images are no copies; compare with the `mirrored` sketch to find them.
    near : bool
        Whether their perceptual hashes are near: then fewer cells and colours need to agree.
    """
    if _as_a_whole(one, other, near=near):
        return True
    fit = _fit(one, other)
    return fit is not None and _overlaps(one, other, fit, near=near)


def _as_a_whole(one: Sketch, other: Sketch, *, near: bool) -> bool:
    """Whether whole images are alike, beside a mark, or inside of their borders."""

    def small(pixels: NDArray[np.uint8]) -> Any:
        squeezed = cv2.resize(pixels, (_WHOLE, _WHOLE), interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(squeezed, (0, 0), 1)

    a, b = small(one.gray), small(other.gray)
    alike = _correlation(a, b)
    if alike < _WHOLE_ALIKE:
        alike = _correlation(*_toned(a, b, np.ones(a.shape, dtype=bool)))
        alike = alike if alike >= _TONED_ALIKE else 0
    colors = one.color, other.color
    if alike >= _WHOLE_ALIKE and _same_colors(*map(small, colors), near=near):
        return True
    if _marked(one.gray, other.gray) and _same_colors(*map(small, colors), near=near):
        return True
    a, b = _without_border(one), _without_border(other)
    if not near or (a is one and b is other):
        return False
    # Anything on white is a border around something: so this has to be the same.
    alike = _correlation(small(a.gray), small(b.gray))
    return alike >= _FRAME_ALIKE and _same_colors(small(a.color), small(b.color), near=near)


def _marked(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether one of two images is the other under a mark, such as large letters.

    A mark is lighter than all it covers, or darker; a thing that moved between two shots is both.
    Away from the mark, the finest detail has to be the same.
    """
    size = (_MARKED, _MARKED)
    a, b = (
        cv2.GaussianBlur(cv2.resize(each, size, interpolation=cv2.INTER_AREA), (0, 0), 0.7)
        for each in (one, other)
    )
    change = b.astype(np.int16) - a
    marked = np.abs(change) > _MARK_CHANGE
    if not marked.any() or _MIXED < float((change[marked] > 0).mean()) < 1 - _MIXED:
        return False
    beside = cv2.dilate(marked.astype(np.uint8), np.ones((9, 9), dtype=np.uint8)) == 0
    if float(beside.mean()) < _UNMARKED:
        return False
    c, d = (
        each - cv2.GaussianBlur(each, (0, 0), 3)
        for each in (a.astype(np.float32), b.astype(np.float32))
    )
    return _correlation(c[beside], d[beside]) >= _DETAIL_ALIKE


def _without_border(one: Sketch) -> Sketch:
    rows, columns = inside_border(one.gray)
    inner = one.gray[rows, columns]
    if inner.shape == one.gray.shape:
        return one
    color = one.color[_shrunk(rows), _shrunk(columns)]
    return Sketch(inner, color) if color.size else one


def _shrunk(lines: slice) -> slice:
    return slice(round(lines.start / _SHRUNK), round(lines.stop / _SHRUNK))


class _Fit(NamedTuple):
    """Affine map of shape (2, 3), how many points agree, and by how much half of them are off."""

    affine: Any
    points: int
    off: float


def _fit(one: Sketch, other: Sketch) -> _Fit | None:
    """Return the map that takes points of one image to the other; None if too few agree."""
    a, b = one.features, other.features
    if min(len(a.points), len(b.points)) < _LEAST_POINTS:
        return None
    one_, other_ = (each.descriptors.astype(np.float32) for each in (a, b))
    # Squared distances of the two nearest, without the objects that a matcher makes.
    apart: Any
    nearest: Any
    apart, nearest = cv2.batchDistance(one_, other_, cv2.CV_32F, normType=cv2.NORM_L2SQR, K=2)
    good = apart[:, 0] < _RATIO**2 * apart[:, 1]
    if int(good.sum()) < _LEAST_POINTS:
        return None
    source, target = a.points[good], b.points[nearest[good, 0]]
    affine, agreed = cv2.estimateAffine2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=_REACH, maxIters=_ROUNDS
    )
    if affine is None or int(agreed.sum()) < _LEAST_POINTS:
        return None
    chosen = agreed.ravel().astype(bool)
    off = source[chosen] @ affine[:, :2].T + affine[:, 2] - target[chosen]
    scale = np.sqrt(abs(np.linalg.det(affine[:, :2])))
    return _Fit(affine, len(off), float(np.median(np.hypot(*off.T)) / max(1.0, scale)))


def _overlaps(one: Sketch, other: Sketch, fit: _Fit, *, near: bool) -> bool:
    """Whether two images are alike where an affine map lays one over the other."""
    affine = fit.affine
    largest, smallest = np.linalg.svd(affine[:, :2], compute_uv=False)
    if smallest < _SMALLEST or largest > _STRETCH * smallest:
        return False
    laid, under, inside = _laid_over(one.gray, other.gray, affine)
    area = int(inside.sum())
    scale = abs(float(np.linalg.det(affine[:, :2])))
    if max(area / other.gray.size, area / scale / one.gray.size) < _OVERLAP:
        return False
    a, b = _toned(laid, under, inside)
    a, b = (cv2.GaussianBlur(gray, (0, 0), _BLUR) for gray in (a, b))
    if _correlation(a[inside], b[inside]) < _ALIKE:
        return False
    cells = _cells(a, b, inside)
    alike = float(np.mean(cells >= _CELL_ALIKE))
    if alike < (_CELLS_IF_NEAR if near else _CELLS):
        return False
    if float(np.median(cells)) < _least_median(fit, near=near):
        return False
    laid, under, seen = _laid_over(one.color, other.color, _shrunk_map(one, other, affine))
    a, b = (cv2.GaussianBlur(each, (0, 0), 1)[seen] for each in (laid, under))
    return _same_colors(a, b, near=near)


def _shrunk_map(one: Sketch, other: Sketch, affine: Any) -> Any:
    """Return the map between the colours of two images, whose pixels are some of the others'."""

    def grown(sketch: Sketch) -> NDArray[np.float64]:
        (height, width), (down, across) = sketch.gray.shape, sketch.color.shape[:2]
        x, y = width / across, height / down
        return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])

    return (np.linalg.inv(grown(other)) @ np.vstack([affine, [0, 0, 1]]) @ grown(one))[:2]


def _least_median(fit: _Fit, *, near: bool) -> float:
    """Return the correlation that half of the cells have to reach."""
    if fit.off <= _EXACT and fit.points >= _MANY_POINTS:
        return _CELL_EXACT
    if fit.off <= _CLOSE:
        return _CELL_CLOSE_IF_NEAR if near else _CELL_CLOSE
    return _CELL_EQUAL


def _laid_over(
    one: NDArray[np.uint8], other: NDArray[np.uint8], affine: Any
) -> tuple[Any, Any, NDArray[np.bool_]]:
    """Return an image laid over another one, that one, and where the first covers it.

    Elsewhere both go on as the first does at its edges, so that they can be blurred.
    """
    size = other.shape[1], other.shape[0]
    whole = np.full(one.shape[:2], 255, dtype=np.uint8)
    inside = np.asarray(cv2.warpAffine(whole, affine, size)) > 250
    laid = np.asarray(cv2.warpAffine(one, affine, size, borderMode=cv2.BORDER_REPLICATE))
    under = other.copy()
    under[~inside] = laid[~inside]
    return laid, under, inside


def _toned(
    one: NDArray[np.uint8], other: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> tuple[Any, Any]:
    """Return two images, one of which has the tones of the other if they correlate more then.

    In other light, bright parts may be of one grey level: then tones can be changed one way only.
    """
    a, b = one[inside], other[inside]
    ways = [(one, other), (_tones(a, b)[one], other), (one, _tones(b, a)[other])]
    return max(ways, key=lambda way: _correlation(way[0][inside], way[1][inside]))


def _tones(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the grey level of the second image for each of the first (histogram matching)."""
    have, want = (np.cumsum(np.bincount(each, minlength=256)) for each in (one, other))
    middle = have - np.diff(have, prepend=0) / 2
    return np.searchsorted(want, middle, side="right").clip(0, 255).astype(np.uint8)


def _cells(one: Any, other: Any, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the correlations of cells, without plain ones; 1 if all are plain."""
    rows, columns = (
        np.unique(np.linspace(0, side, _GRID + 1).astype(int)[:-1]) for side in inside.shape
    )

    def sums(values: Any) -> NDArray[np.float64]:
        return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)

    # Grey levels up to 255, and cells of at most some thousand pixels: these sums are exact.
    n, whole = sums(inside.astype(np.float64)), sums(np.ones(inside.shape))
    a, b = (np.where(inside, each, 0).astype(np.float64) for each in (one, other))
    means = [sums(each) / np.maximum(n, 1) for each in (a, b)]
    squares = [sums(each * each) - n * mean**2 for each, mean in zip((a, b), means, strict=True)]
    both = sums(a * b) - n * means[0] * means[1]
    counted = (n >= _COVERED * whole) & (np.maximum(*squares) >= n * _PLAIN**2)
    if not counted.any():
        return np.ones(1)
    length = np.sqrt(np.maximum(squares[0] * squares[1], 0))
    alike = np.where(length > n, both / np.maximum(length, 1), 0)
    return alike[counted]


def _same_colors(one: Any, other: Any, *, near: bool) -> bool:
    """Whether pixels that lie over each other have the same colours: uint8, shape (..., 3)."""
    pixels = [np.reshape(each, (-1, 1, 3)) for each in (one, other)]
    usable = np.all([each.max(axis=(1, 2)) < _EXPOSED for each in pixels], axis=0)
    if int(usable.sum()) < _FEW_PIXELS:
        return True
    # Both as dark as the darker one: the same colour in more light is further from grey.
    shown = [each.astype(np.float32) / 255 for each in pixels]
    light = [max(float(each[usable].mean()), 1e-6) for each in shown]
    a, b = (
        _plane(each[usable] * np.float32(min(light) / lit))
        for each, lit in zip(shown, light, strict=True)
    )
    if min(float(np.hypot(*each.T).mean()) for each in (a, b)) < _GRAY:
        return True
    most = _COLORS_IF_NEAR if near else _COLORS
    if max(_color_gaps(a, b), _color_gaps(b, a)) <= most:
        return True
    # Or one is the other in more light, overexposed parts included. Grey ones tell nothing.
    dim, bright = sorted(shown, key=lambda each: float(each[usable].mean()))
    a, b = _plane(np.minimum(dim * np.float32(max(light) / min(light)), 1)), _plane(bright)
    colored = np.maximum(np.hypot(*a.T), np.hypot(*b.T)) > _COLORED
    gaps = np.hypot(*(a - b)[colored].T) > _COLOR_GAP
    return int(colored.sum()) >= _FEW_PIXELS and float(gaps.mean()) <= most


def _plane(colors: Any) -> Any:
    """Return a and b of CIELAB of colours from 0 to 1: shape (n, 2) of (n, 1, 3)."""
    return cv2.cvtColor(colors, cv2.COLOR_RGB2LAB)[:, 0, 1:]


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
