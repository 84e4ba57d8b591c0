"""Embeddings of teachers, which are computed once and stored with the run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgret.embedders import OnnxEmbedder
from imgret.errors import TrainingError
from imgret.retriever import Retriever
from imgret.train.data import Dataset
from imgret.types import Embeddings

__all__ = ["teach"]


def teach(
    teachers: Sequence[str | os.PathLike[str]], dataset: Dataset, folder: Path, *, threads: int
) -> Embeddings:
    """Return the embeddings of each image by one or several embedders, concatenated.

    Each teacher's embeddings are scaled to length 1 first, so that all teachers count equally.

    Parameters
    ----------
    teachers : sequence of str or path
        Names of built-in models, or paths of bundles.
    dataset : Dataset
    folder : Path
        Folder to store the embeddings in, for resumed runs.
    threads : int

    Returns
    -------
    float32 array of shape (n, sum of dimensions)

    Raises
    ------
    ModelError
        A teacher cannot be used.
    """
    return np.concatenate(
        [_embeddings(OnnxEmbedder(os.fspath(t)), dataset, folder, threads) for t in teachers],
        axis=1,
    )


def _embeddings(embedder: OnnxEmbedder, dataset: Dataset, folder: Path, threads: int) -> Embeddings:
    names = "\n".join(map(str, dataset.paths))
    of = hashlib.sha256(f"{embedder.fingerprint}\n{names}".encode()).hexdigest()
    path = folder / f"teacher-{of[:16]}.npy"
    if path.is_file():
        kept: Embeddings = np.load(path, allow_pickle=False)
        return kept
    made = Retriever(embedder=embedder, max_pixels=dataset.max_pixels).embed(
        dataset.paths, threads=threads
    )
    made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), np.float32(1e-12))
    try:
        with path.with_suffix(".part").open("wb") as file:
            np.save(file, made)
        path.with_suffix(".part").replace(path)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror}") from error
    return made
