"""imgret as a scikit-learn estimator: it transforms images to vectors, and finds neighbours.

python examples/sklearn_adapter.py photos
"""

import sys
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import normalize

from imgret import Retriever


class ImageNeighbors(TransformerMixin, BaseEstimator):
    """Embed images, and find those that were fitted.

    ``X`` is a list or an array of images as imgret takes them, such as paths. Distances
    are those of ``NearestNeighbors(metric="cosine")`` over what `transform` returns.
    """

    def __init__(
        self, n_neighbors: int = 5, *, embedder: Any = "general", index: str = "flat"
    ) -> None:
        self.n_neighbors, self.embedder, self.index = n_neighbors, embedder, index

    def fit(self, X: Any, y: Any = None) -> Self:
        """Index images; labels, if there are any, are kept with them."""
        parts = {"embedder": self.embedder, "index": self.index}
        self.retriever_ = Retriever(**parts, dtype="float32")  # as exact as NumPy
        keys, labels = [str(n) for n in range(len(X))], None if y is None else [*map(str, y)]
        failed = self.retriever_.add(X, keys=keys, labels=labels).failed
        if failed:
            raise ValueError("; ".join(f"{line.path}: {line.reason}" for line in failed))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the embeddings of images: float32, shape (n, dim), of length 1."""
        return normalize(self.retriever_.embed(X))

    def kneighbors(
        self, X: Any, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Any:
        """Return distances and positions of the nearest fitted images: (n, n_neighbors)."""
        found = self.retriever_.search_many(X, n_neighbors or self.n_neighbors)
        indices = np.array([[int(hit.key) for hit in hits] for hits in found])
        distances = np.array([[1 - hit.score for hit in hits] for hits in found])
        return (distances, indices) if return_distance else indices


def main(folder: Path) -> None:
    """Classify the images of FOLDER/LABEL/IMAGE by their neighbours."""
    paths = np.array(sorted(map(str, folder.glob("*/*.jpg"))))
    labels = np.array([Path(path).parent.name for path in paths])

    # The last step sees vectors only, so that any classifier of scikit-learn fits.
    classifier = make_pipeline(ImageNeighbors(), KNeighborsClassifier(n_neighbors=1))
    scores = cross_val_score(classifier, paths, labels, cv=3)
    print(f"accuracy of the nearest neighbour: {scores.mean():.3f}")

    neighbors = ImageNeighbors().fit(paths, labels)
    distances, indices = neighbors.kneighbors(paths[:1], 5)
    print(f"query: {paths[0]}")
    for distance, index in zip(distances[0], indices[0], strict=True):
        print(f"{1 - distance:.3f}  {labels[index]}  {paths[index]}")
    neighbors.retriever_.save(folder.with_name(f"{folder.name}.imgret"))  # a gallery like any other


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python sklearn_adapter.py FOLDER")
    main(Path(sys.argv[1]))
