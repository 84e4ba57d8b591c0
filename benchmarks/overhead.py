"""What the facade costs over raw Faiss: batches and single queries, same vectors and threads.

    python benchmarks/overhead.py [--items 100000] [--dim 128]

Rounds of both alternate, so that a machine whose speed drifts treats them alike. Times with
"read" also look at every hit, which looks up keys, labels and metadata.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import faiss
import numpy as np

from imgret import Embedder, Retriever
from imgret.types import Embeddings, Image, Json


class Given(Embedder):
    """Stands for an embedder; the vectors are made elsewhere."""

    name = "given"

    def __init__(self, dim: int) -> None:
        self._dim = dim

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self._dim

    @property
    def fingerprint(self) -> str:
        """Of no consequence here."""
        return "given"

    def config(self) -> Json:
        """Return the dimension."""
        return {"dim": self._dim}

    def _embed(self, images: Sequence[Image]) -> Embeddings:
        return np.zeros((len(images), self._dim), dtype=np.float32)


def alternate(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each task, run in turn."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.perf_counter()
            task()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    k = options.k

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((options.items, options.dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:1000] + 0.05 * rng.standard_normal((1000, options.dim), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    names = [str(n) for n in range(options.items)]
    cores = faiss.omp_get_max_threads()
    print(f"{options.items} x {options.dim}, cosine, k = {k}, {cores} threads")

    for index in ("flat", "hnsw"):
        retriever = Retriever(embedder=Given(options.dim), index=index, dtype="float32")
        retriever.add_vectors(vectors, keys=names)
        raw: faiss.Index = faiss.IndexFlatIP(options.dim)
        if index == "hnsw":
            raw = faiss.IndexHNSWFlat(options.dim, 32, faiss.METRIC_INNER_PRODUCT)
            raw.hnsw.efConstruction = retriever.index.config()["ef_construction"]
            raw.hnsw.efSearch = retriever.index.config()["ef_search"]
        raw.add(vectors)
        batch = alternate(
            {
                "raw": lambda: raw.search(queries, k),  # noqa: B023  # run at once
                "ours": lambda: retriever.search_vectors(queries, k),  # noqa: B023
                "read": lambda: [list(h) for h in retriever.search_vectors(queries, k)],  # noqa: B023
            },
            options.rounds,
        )
        one = queries[:1]
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # the fastest there is for one query
        single = alternate(
            {
                "raw": lambda: raw.search(one, k),  # noqa: B023
                "ours": lambda: retriever.search_vectors(one, k),  # noqa: B023
                "read": lambda: list(retriever.search_vectors(one, k)[0]),  # noqa: B023
            },
            40 * options.rounds,
        )
        faiss.omp_set_num_threads(threads)
        print(f"{index}: batch of 1000")
        print(f"  raw Faiss       {1000 * batch['raw']:9.2f} ms")
        for name in ("ours", "read"):
            share = batch["raw"] / batch[name]
            print(f"  imgret ({name})   {1000 * batch[name]:9.2f} ms   {share:.3f} of its speed")
        print(f"{index}: one query")
        print(f"  raw Faiss       {1e6 * single['raw']:9.1f} us")
        for name in ("ours", "read"):
            more = single[name] - single["raw"]
            print(f"  imgret ({name})   {1e6 * single[name]:9.1f} us   {1e6 * more:+.1f} us")


if __name__ == "__main__":
    main()
