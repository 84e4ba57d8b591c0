"""Galleries of vectors that no image is behind."""

from __future__ import annotations

import numpy as np
import pytest

from imgret import Retriever
from imgret.abc import Embedder


class Nothing(Embedder):
    """Has a dimension, and embeds no image."""

    name = "nothing"

    def __init__(self, dim):
        self._dim = dim

    @property
    def dim(self):
        return self._dim

    @property
    def fingerprint(self):
        return f"nothing-{self._dim}"

    def config(self):
        return {"dim": self._dim}

    def _embed(self, images_):
        raise NotImplementedError


def _gallery_of(vectors, labels=None, *, metric="cosine", index="flat"):
    """A gallery of vectors whose keys are their numbers."""
    vectors = np.asarray(vectors, dtype=np.float32)
    made = Retriever(
        embedder=Nothing(vectors.shape[1]), metric=metric, index=index, dtype="float32"
    )
    made.add_vectors(vectors, keys=[str(n) for n in range(len(vectors))], labels=labels)
    return made


@pytest.fixture(scope="session")
def gallery_of():
    return _gallery_of


@pytest.fixture(scope="session")
def all_scores():
    """The score of every item with every other; minus infinity with itself."""

    def scores(vectors, metric):
        vectors = np.asarray(vectors, dtype=np.float64)
        if metric == "l2":
            found = -((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
        else:
            if metric == "cosine":
                vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            found = vectors @ vectors.T
        np.fill_diagonal(found, -np.inf)
        return found

    return scores


def _clustered(seed=0, n=300, dim=16, classes=6, spread=0.5):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    centres = rng.normal(size=(classes, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = centres[codes] + spread * rng.normal(size=(n, dim)) / np.sqrt(dim)
    return vectors.astype(np.float32), codes


@pytest.fixture(scope="session")
def clustered():
    """Make vectors in classes, and the class of each."""
    return _clustered
