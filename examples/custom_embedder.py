"""A custom embedder given as an object: colour histograms, without a model.

python examples/custom_embedder.py photos
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgret import Embedder, Retriever, images


class ColorHistogram(Embedder):
    """Counts colours in ``bins`` steps per channel, so that images of similar colours are similar.

    The square root makes the cosine of two histograms their Bhattacharyya coefficient, the
    usual measure of the overlap of two distributions.
    """

    name = "color-histogram"  # the name an entry point would register
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

    def config(self) -> dict[str, Any]:
        """Return the arguments to recreate this embedder."""
        return {"bins": self.bins}

    def _embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([self._histogram(image) for image in images])

    def _histogram(self, image: np.ndarray) -> np.ndarray:
        cells = images.resize(image, 64, 64).reshape(-1, 3).astype(np.int64) * self.bins // 256
        counts = np.bincount(cells @ (self.bins**2, self.bins, 1), minlength=self.dim)
        return np.sqrt(counts / counts.sum()).astype(np.float32)


def main(folder: Path) -> None:
    """Search a folder by colour."""
    retriever = Retriever(embedder=ColorHistogram())
    print(retriever.add_folder(folder))
    path = folder.with_name(f"{folder.name}.imgret")
    retriever.save(path)

    # This embedder is not registered by an entry point, so it is passed again.
    retriever = Retriever.load(path, embedder=ColorHistogram())
    query = retriever[next(iter(retriever))].path
    print(f"query: {query}")
    for hit in retriever.search(query, k=5):
        print(f"{hit.rank}. {hit.score:.3f}  {hit.key}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python custom_embedder.py FOLDER")
    main(Path(sys.argv[1]))
