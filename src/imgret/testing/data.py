"""Data for tests: clustered vectors, images of awkward shapes, and an embedder of neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from imgret.abc import Embedder
from imgret.types import Embeddings, Ids, Image, Json, Metric

__all__ = ["Given", "clustered", "picture", "pictures", "true_scores"]


@final
class Given(Embedder):
    """An embedder for a gallery of vectors that are made elsewhere; it embeds no image.

    Parameters
    ----------
    dim : int
    """

    name = "given"

    def __init__(self, dim: int) -> None:
        self._dim = dim

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self._dim

    @property
    def fingerprint(self) -> str:
        """The same for all vectors of one dimension."""
        return f"given-{self._dim}"

    def config(self) -> Json:
        """Return the dimension."""
        return {"dim": self._dim}

    def _embed(self, images: Sequence[Image]) -> Embeddings:
        raise AssertionError(f"{len(images)} images: expected vectors that are made elsewhere")


def clustered(count: int, dim: int, *, seed: int = 0) -> tuple[Embeddings, Ids]:
    """Make vectors around a few centres, like embeddings, and unsorted ids with gaps."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, count // 20), dim))
    spread = 0.4 * rng.standard_normal((count, dim))
    vectors: Embeddings = (centres[rng.integers(0, len(centres), count)] + spread).astype(
        np.float32
    )
    return vectors, rng.permutation(3 * count)[:count].astype(np.int64)


def true_scores(queries: Embeddings, vectors: Embeddings, metric: Metric) -> NDArray[np.float64]:
    """Score ``vectors[i, j]`` against ``queries[i]`` by the definition, in float64."""
    left = queries.astype(np.float64)[:, None, :]
    right = vectors.astype(np.float64)
    scores: NDArray[np.float64]
    if metric == "l2":
        scores = -((left - right) ** 2).sum(axis=2)
        return scores
    scores = (left * right).sum(axis=2)
    if metric == "cosine":
        scores /= np.linalg.norm(left, axis=2) * np.linalg.norm(right, axis=2)
    return scores


def picture(height: int, width: int, *, seed: int = 0) -> Image:
    """Make an image with a bright blob on a coloured gradient, and some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    centre_row, centre_column = rng.uniform(0.3, 0.7, 2) * (height, width)
    radius = 0.2 * max(height, width) + 1
    blob = np.exp(-((rows - centre_row) ** 2 + (columns - centre_column) ** 2) / radius**2)
    image = rng.uniform(0, 120, 3) * (rows / height)[..., None]
    image = image + rng.uniform(60, 200, 3) * blob[..., None] + rng.uniform(0, 20, (1, 1, 3))
    noisy: Image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    return noisy


def pictures() -> dict[str, Image]:
    """Return named images of many shapes: tiny, narrow, 1:20 panoramas, flat, noise."""
    rng = np.random.default_rng(1)
    return {
        "1x1": picture(1, 1),
        "one pixel wide": picture(40, 1, seed=1),
        "one pixel high": picture(1, 40, seed=2),
        "panorama 1:20": picture(16, 320, seed=3),
        "tower 20:1": picture(320, 16, seed=4),
        "photo": picture(90, 120, seed=5),
        "square": picture(64, 64, seed=6),
        "flat": np.full((48, 64, 3), 127, dtype=np.uint8),
        "black": np.zeros((33, 65, 3), dtype=np.uint8),
        "noise": rng.integers(0, 256, (50, 70, 3), dtype=np.uint8),
    }
