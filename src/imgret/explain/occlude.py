"""Heat by occlusion: how much the score drops while a place is hidden.

It works for every embedder. A window moves over the image in steps of half its width; what is below
it is replaced by a blurred copy. The heat of a place is the mean drop over the windows that cover
it.

References
----------
M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", 2014.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from imgret import images
from imgret.croppers import NoCrop
from imgret.explain.places import Area, Places
from imgret.pipeline.pipeline import Pipeline
from imgret.search import View
from imgret.types import Embeddings, Image

__all__ = ["GRID", "blurred", "occlude"]

# Places along each side, and places along each side of the window.
GRID, _WINDOW = 8, 2
# Side of the thumbnail that is enlarged again to blur an image.
_BLUR = 6
# Bytes of images that wait to be embedded.
_BYTES = 48 * 2**20


def occlude(
    image: Image, other: NDArray[np.float32], pipeline: Pipeline, view: View, area: Area
) -> Places:
    """Measure what the places of an image add to its score with another image's vector.

    Parameters
    ----------
    image : uint8 array of shape (H, W, 3)
        The pixels that are embedded.
    other : float32 array of shape (d,)
        The other vector, as it is searched.
    pipeline : Pipeline
    view : View
        View whose metric and projection the score is made with.
    area : tuple of float
        The part of the image that the embedder sees, as shares of its width and height.
    """
    image = _small(image, pipeline.embedder.min_side)
    starts = range(GRID - _WINDOW + 1)
    covers = np.zeros((len(starts) ** 2, GRID, GRID), dtype=np.float32)
    for cover, (row, column) in zip(covers, product(starts, starts), strict=True):
        cover[row : row + _WINDOW, column : column + _WINDOW] = 1
    (vector,) = _vectors([image], pipeline, view)
    hidden = _vectors(_hidden(image, covers, area), pipeline, view)
    drops = view.metric.scores(vector, other) - view.metric.scores(hidden, other)
    # The mean over the windows that cover a place, divided among the places of a window.
    share = covers / covers.sum(axis=0) / _WINDOW**2
    heat = np.tensordot(drops, share, axes=(0, 0))
    placed = np.tensordot(share, vector - hidden, axes=(0, 0))
    return Places(placed.astype(np.float32), heat.astype(np.float32), area)


def blurred(image: Image) -> Image:
    """Return an image of which only the coarsest colours are left."""
    height, width = image.shape[:2]
    return images.resize(images.resize(image, _BLUR, _BLUR), width, height)


def _small(image: Image, min_side: int | None) -> Image:
    """Shrink an image that has far more pixels than the embedder uses."""
    height, width = image.shape[:2]
    if min_side is None or min(height, width) <= 2 * min_side:
        return image
    scale = 2 * min_side / min(height, width)
    return images.resize(image, round(width * scale), round(height * scale))


def _hidden(image: Image, covers: NDArray[np.float32], area: Area) -> Iterator[Image]:
    """Yield the image with each of the windows hidden."""
    replacement = blurred(image)
    height, width = image.shape[:2]
    xs, ys = (
        np.clip(np.rint(np.linspace(area[n], area[n + 2], GRID + 1) * side), 0, side).astype(int)
        for n, side in enumerate((width, height))
    )
    for cover in covers:
        rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
        part = np.s_[ys[rows[0]] : ys[rows[-1] + 1], xs[columns[0]] : xs[columns[-1] + 1]]
        hidden = image.copy()
        hidden[part] = replacement[part]
        yield hidden


def _vectors(given: Iterable[Image], pipeline: Pipeline, view: View) -> Embeddings:
    """Return the vectors of images, as they are searched."""
    found, held, held_bytes = list[Embeddings](), list[Image](), 0
    for image in given:
        held.append(image)
        held_bytes += image.nbytes
        if held_bytes > _BYTES:
            found.append(pipeline.embed(held, cropper=NoCrop()))
            held, held_bytes = [], 0
    if held:
        found.append(pipeline.embed(held, cropper=NoCrop()))
    return view.project(np.concatenate(found), "images")
