"""What re-ranking adds, and what it costs: mAP and top-1 on two folders of class subfolders.

    python benchmarks/rerank.py TRAIN VALID [--embedder general]

The gallery is TRAIN, the queries VALID; once with the embeddings as they are and once after
`Retriever.adapt`. mAP is over the whole ranking of the gallery, mAP@5 by min(k, R). "once" is what
the gallery costs, before any query; "ms" is what a query costs on top of its embedding.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret import Retriever, rerank
from imgret.metrics import average_precision_at_k, top_k_accuracy
from imgret.types import Embeddings

# Queries and gallery in; the rows of the gallery, best first, and the seconds spent once, out.
Way: TypeAlias = Callable[[Embeddings, Embeddings], tuple[NDArray[np.int64], float]]


def by_cosine(queries: Embeddings, gallery: Embeddings) -> NDArray[np.int64]:
    """Rank the whole gallery."""
    return np.argsort(-(queries @ gallery.T), axis=1, kind="stable")


def plain(queries: Embeddings, gallery: Embeddings) -> tuple[NDArray[np.int64], float]:
    """Rank by cosine alone."""
    return by_cosine(queries, gallery), 0.0


def expanded(alpha: float, k: int) -> Way:
    """Rank by expanded queries."""

    def run(queries: Embeddings, gallery: Embeddings) -> tuple[NDArray[np.int64], float]:
        moved = rerank.expand_queries(queries, gallery, k=k, alpha=alpha)
        return by_cosine(moved, gallery), 0.0

    return run


def augmented(k: int, expand: int = 0) -> Way:
    """Rank an augmented gallery, by expanded queries where that is asked for."""

    def run(queries: Embeddings, gallery: Embeddings) -> tuple[NDArray[np.int64], float]:
        started = time.perf_counter()
        gallery = rerank.augment_gallery(gallery, k=k)
        once = time.perf_counter() - started
        if expand:
            queries = rerank.expand_queries(queries, gallery, k=expand)
        return by_cosine(queries, gallery), once

    return run


def reciprocal(queries: Embeddings, gallery: Embeddings) -> tuple[NDArray[np.int64], float]:
    """Rank the nearest 100 anew by what they share; the others follow by cosine."""
    started = time.perf_counter()
    rerank.k_reciprocal(queries[:0], gallery)  # what the gallery costs
    once = time.perf_counter() - started
    first, _ = rerank.k_reciprocal(queries, gallery)
    order = by_cosine(queries, gallery)
    order[:, : first.shape[1]] = first
    return order, once


def diffused(queries: Embeddings, gallery: Embeddings) -> tuple[NDArray[np.int64], float]:
    """Rank by diffusion; what it does not reach follows by cosine."""
    scores = rerank.diffuse(queries, gallery)
    return np.argsort(-(scores + 1e-6 * (queries @ gallery.T)), axis=1, kind="stable"), 0.0


WAYS: dict[str, Way] = {
    "cosine": plain,
    "average query expansion, 3": expanded(0, 3),
    "alpha query expansion, 10": expanded(3, 10),
    "augmented gallery, 10": augmented(10),
    "both": augmented(10, 10),
    "k-reciprocal, 100": reciprocal,
    "diffusion": diffused,
}


def main() -> None:
    """Print a table for the embeddings as they are, and one after adapting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("valid", type=Path)
    parser.add_argument("--embedder", default="general")
    options = parser.parse_args()
    retriever = Retriever(embedder=options.embedder, dtype="float32")
    retriever.add_folder(options.train, labels="parent", progress=False)
    paths = sorted(options.valid.glob("*/*.jpg"))
    gallery, queries = retriever.embeddings(), retriever.embed(paths)
    labels = np.array([retriever[key].label for key in retriever])
    wanted = np.array([path.parent.name for path in paths])
    _table("as they are", queries, gallery, wanted, labels)
    retriever.adapt()
    projection = retriever.projection
    if projection is None:
        print("adapt found nothing to gain")
        return
    _table("adapted", projection.apply(queries), projection.apply(gallery), wanted, labels)


def _table(
    title: str,
    queries: Embeddings,
    gallery: Embeddings,
    wanted: NDArray[np.str_],
    labels: NDArray[np.str_],
) -> None:
    queries, gallery = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries, gallery))
    count = (wanted[:, None] == labels).sum(axis=1)
    print(f"\n{title}: {len(queries)} queries, {len(gallery)} items, {gallery.shape[1]}-d")
    print(f"{'':<28}{'mAP':>8}{'top-1':>8}{'mAP@5':>8}{'once s':>8}{'ms':>8}")
    for name, way in WAYS.items():
        started = time.perf_counter()
        order, once = way(queries, gallery)
        twice = 2 if way is reciprocal else 1  # it is done once to be timed, and once for real
        spent = 1000 * (time.perf_counter() - started - twice * once) / len(queries)
        relevant = labels[order] == wanted[:, None]
        whole = average_precision_at_k(relevant, count, len(gallery), denominator="r").mean()
        top = average_precision_at_k(relevant, count, 5, denominator="min_k_r").mean()
        print(
            f"{name:<28}{whole:>8.4f}{top_k_accuracy(relevant, 1).mean():>8.4f}{top:>8.4f}"
            f"{once:>8.2f}{spent:>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
