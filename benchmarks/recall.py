"""Coverage of the interval of `Retriever.recall` for queries that are not in the gallery.

    python benchmarks/recall.py --data FOLDER [--out benchmarks/results]

``FOLDER`` contains ``flowers102/train``, ``flowers102/valid`` and ``caltech51``. The images of a
set are split at random, several times, into a gallery and new queries. The interval, computed from
as many items of the gallery alone, is a prediction for these queries: ``holds`` counts how often
their recall lies in it, which is promised for 19 of 20.

The rows ``trained on`` show an effect that a gallery cannot detect itself: the embedder was trained
on the items, so that new images lie farther from them than they lie from each other. So do the
queries of ``made up, farther``. ``made up`` galleries are too large to be rebuilt without the items
used as queries; they consist of photos' embeddings repeated with noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from overhead import Given
from results import save

from imgret import Retriever
from imgret.ingest.folder import find_images
from imgret.types import Embeddings

_K, _QUERIES, _TRIES, _MADE_UP = 10, 400, 10, 5
# Noise of repeated items, and of queries that are farther from them; relative to their length.
_NOISE, _FARTHER = 0.5, 0.7
_INDEXES = {
    "hnsw": {"M": 8, "ef_construction": 40, "ef_search": 10},
    "hnsw-sq8": {"M": 16, "ef_construction": 40, "ef_search": 16},
    "ivf": {"nlist": 64, "nprobe": 2},
    "ivf-pq": {"nlist": 64, "nprobe": 2},
}


def main() -> None:
    """Measure, and print or keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for name, splits in _sets(options.data):
        for index, config in _INDEXES.items():
            rows.append({"set": name, "index": index, **_compared(splits, index, config)})
            print(rows[-1], flush=True)
    save(options.out, "recall", rows, title="Recall said and found")


def _sets(data: Path) -> Iterator[tuple[str, list[tuple[Embeddings, Embeddings]]]]:
    for model in ("flowers102", "general"):
        embedder = Retriever(embedder=model)
        flowers, valid, photos = (
            embedder.embed(find_images(data / folder)[0])
            for folder in ("flowers102/train", "flowers102/valid", "caltech51")
        )
        yield f"{model}, flowers", [_split(flowers, seed) for seed in range(_TRIES)]
        yield f"{model}, photos", [_split(photos, seed) for seed in range(_TRIES)]
        if model == "general":
            both = np.concatenate([flowers, photos])
            both -= both.mean(axis=0)
            few = both @ np.linalg.svd(both, full_matrices=False)[2][:256].T
            for kind, noise in (("general", _NOISE), ("farther", _FARTHER)):
                splits = [_repeated(few, seed, noise) for seed in range(_MADE_UP)]
                yield f"made up, {kind}", splits
        kind = "trained on" if model == "flowers102" else "train, valid"
        drawn = [_split(valid, seed)[1] for seed in range(_TRIES)]
        yield f"{model}, {kind}", [(flowers, queries) for queries in drawn]


def _split(vectors: Embeddings, seed: int) -> tuple[Embeddings, Embeddings]:
    order = np.random.default_rng(seed).permutation(len(vectors))
    return vectors[order[_QUERIES:]], vectors[order[:_QUERIES]]


def _repeated(vectors: Embeddings, seed: int, noise: float) -> tuple[Embeddings, Embeddings]:
    """Return 30,000 noisy copies, and queries with noise of their own."""
    generator = np.random.default_rng(seed)
    rows = vectors[generator.integers(0, len(vectors), 30_000 + _QUERIES)]
    lengths = np.linalg.norm(rows, axis=1, keepdims=True) / rows.shape[1] ** 0.5
    lengths *= np.where(np.arange(len(rows)) < _QUERIES, noise, _NOISE)[:, None]
    rows = (rows + generator.standard_normal(rows.shape) * lengths).astype(np.float32)
    return rows[_QUERIES:], rows[:_QUERIES]


def _compared(
    splits: list[tuple[Embeddings, Embeddings]], index: str, config: dict[str, int]
) -> dict[str, object]:
    said, found, lows, highs, held = [], [], [], [], 0
    gallery: Embeddings | None = None
    for seed, (items, queries) in enumerate(splits):
        if gallery is not items:
            gallery = items
            retriever = Retriever(embedder=Given(items.shape[1]), dtype="float32")
            retriever.add_vectors(items, keys=map(str, range(len(items))))
            retriever.reindex(index, **config)
        recall = retriever.recall(_K, n_queries=_QUERIES, seed=seed)
        said.append(recall.value)
        found.append(float(_shares(retriever, queries).mean()))
        lows.append(recall.ci[0])
        highs.append(recall.ci[1])
        held += lows[-1] <= found[-1] <= highs[-1]
    return {
        "said": round(float(np.mean(said)), 4),
        "found": round(float(np.mean(found)), 4),
        "interval": f"{np.mean(lows):.4f} to {np.mean(highs):.4f}",
        "holds": f"{held} of {len(splits)}",
    }


def _shares(retriever: Retriever, queries: Embeddings) -> np.ndarray:
    """Return what part of its nearest items each query finds, by comparing with everything."""
    items = retriever.embeddings()
    items = items / np.linalg.norm(items, axis=1, keepdims=True)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    least = -np.sort(-(queries @ items.T), axis=1)[:, _K - 1] - 1e-4
    found = retriever.search_vectors(queries, _K)
    return np.array(
        [
            np.mean([hit.score >= low for hit in hits])
            for hits, low in zip(found, least, strict=True)
        ]
    )


if __name__ == "__main__":
    main()
