"""An embedder for imgret that compares images by colour and needs no model."""

from collections.abc import Sequence

import numpy as np

from imgret import Embedder, images
from imgret.types import Embeddings, Image, Json


class ColorHistogram(Embedder):
    """Counts colours in ``bins`` steps per channel; the square root makes the cosine an overlap."""

    name = "color-histogram"
    min_side = 64  # a large JPEG may be decoded at reduced scale, which keeps its colours

    def __init__(self, bins: int = 6) -> None:
        self.bins = bins

    @property
    def dim(self) -> int:
        """Number of bins of RGB space."""
        return self.bins**3

    @property
    def fingerprint(self) -> str:
        """Changes with the embeddings, so that galleries with different bins are rejected."""
        return f"color-histogram-1-{self.bins}"

    def config(self) -> Json:
        """Return the arguments to recreate this embedder."""
        return {"bins": self.bins}

    def _embed(self, images_: Sequence[Image]) -> Embeddings:
        return np.stack([self._histogram(image) for image in images_])

    def _histogram(self, image: Image) -> Embeddings:
        cells = images.resize(image, 64, 64).reshape(-1, 3).astype(np.int64) * self.bins // 256
        counts = np.bincount(cells @ (self.bins**2, self.bins, 1), minlength=self.dim)
        overlap: Embeddings = np.sqrt(counts / counts.sum()).astype(np.float32)
        return overlap
