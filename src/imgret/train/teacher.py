"""Teachers: embedders whose embeddings a network learns to follow."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret.embedders import OnnxEmbedder
from imgret.errors import ModelError, TrainingError
from imgret.retriever import Retriever
from imgret.train.data import Dataset
from imgret.types import Embeddings

__all__ = ["Teachers"]


class Teachers:
    """One or several embedders, whose embeddings are concatenated.

    Each teacher's embeddings are scaled to length 1 first, so that all teachers count equally.

    Parameters
    ----------
    models : sequence of str or path
        Names of built-in models, or paths of bundles.
    side : int, optional
        Side of the images in pixels that `embed` is shown. Teachers that take only images of
        another size scale them; so do all teachers by default.

    Raises
    ------
    ModelError
        A teacher cannot be used.
    """

    def __init__(
        self, models: Sequence[str | os.PathLike[str]], *, side: int | None = None
    ) -> None:
        self._embedders = [_embedder(os.fspath(model), side) for model in models]

    @property
    def dim(self) -> int:
        """Sum of the dimensions."""
        return sum(embedder.dim for embedder in self._embedders)

    @property
    def fingerprint(self) -> str:
        """Hash of the models."""
        text = "\n".join(embedder.fingerprint for embedder in self._embedders)
        return hashlib.sha256(text.encode()).hexdigest()

    def embed(self, pixels: NDArray[np.uint8]) -> Embeddings:
        """Embed images of shape (n, h, w, 3); return float32 of shape (n, dim)."""
        parts = [_unit(embedder.embed(list(pixels))) for embedder in self._embedders]
        return np.concatenate(parts, axis=1)

    def embed_all(self, dataset: Dataset, folder: Path, *, threads: int) -> Embeddings:
        """Embed each image of a dataset as a whole, or read what an earlier call has stored.

        Parameters
        ----------
        dataset : Dataset
        folder : Path
            Folder to store the embeddings in, for resumed runs.
        threads : int

        Returns
        -------
        float32 array of shape (n, dim)
        """
        parts = [_stored(embedder, dataset, folder, threads) for embedder in self._embedders]
        return np.concatenate(parts, axis=1)


def _embedder(model: str, side: int | None) -> OnnxEmbedder:
    if side is not None:
        with suppress(ModelError):  # it takes one size, or something else is wrong with it
            return OnnxEmbedder(model, size=side)
    return OnnxEmbedder(model)


def _stored(embedder: OnnxEmbedder, dataset: Dataset, folder: Path, threads: int) -> Embeddings:
    names = "\n".join(map(str, dataset.paths))
    of = hashlib.sha256(f"{embedder.fingerprint}\n{names}".encode()).hexdigest()
    path = folder / f"teacher-{of[:16]}.npy"
    if path.is_file():
        kept: Embeddings = np.load(path, allow_pickle=False)
        return kept
    retriever = Retriever(embedder=embedder, max_pixels=dataset.max_pixels)
    made = _unit(retriever.embed(dataset.paths, threads=threads))
    try:
        with path.with_suffix(".part").open("wb") as file:
            np.save(file, made)
        path.with_suffix(".part").replace(path)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror}") from error
    return made


def _unit(embeddings: Embeddings) -> Embeddings:
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    scaled: Embeddings = embeddings / np.maximum(lengths, np.float32(1e-12))
    return scaled
