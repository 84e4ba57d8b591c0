"""Recall while items are replaced, for imgret's ``ivf-pq`` and the same index of raw Faiss.

    python benchmarks/replacing.py [--items 100000] [--rounds 5] [--out DIR]

Each round removes a tenth of the items and adds as many new ones. For raw Faiss, the same number of
candidates is re-ranked by the true vectors, too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from overhead import Given
from results import save

from imgret import Retriever
from imgret.types import Embeddings

_K = 10
_QUERIES = 500


def recall(found: Any, true: Any) -> float:
    """Return the share of the true neighbours that were found."""
    shares = [len(set(a) & set(b)) / _K for a, b in zip(found, true, strict=True)]
    return float(np.mean(shares))


def main() -> None:
    """Print a row a round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="Folder for JSON and Markdown.")
    options = parser.parse_args()
    dim, part = options.dim, options.items // 10
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((options.items // 200, dim), dtype=np.float32)

    def unit(n: int) -> Embeddings:
        rows = centres[rng.integers(len(centres), size=n)]
        rows += 0.5 * rng.standard_normal((n, dim), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    every = unit(options.items + options.rounds * part)
    queries = unit(_QUERIES)
    live = np.arange(options.items)
    retriever = Retriever(embedder=Given(dim), index="ivf-pq", dtype="float32")
    retriever.add_vectors(every[live], keys=[str(n) for n in live])
    config: Any = retriever.index.config()
    ivf: Any = retriever.index
    pieces = 2 * config["code_bytes"]
    raw: Any = faiss.index_factory(
        dim, f"IVF{ivf.nlist},PQ{pieces}x4fsr", faiss.METRIC_INNER_PRODUCT
    )
    raw.train(every[live])
    raw.add_with_ids(every[live], live)
    raw.nprobe = ivf.nprobe
    rows: list[dict[str, Any]] = []
    for done in range(options.rounds + 1):
        if done:
            gone = rng.choice(live, part, replace=False)
            new = np.arange(part) + options.items + (done - 1) * part
            retriever.remove([str(n) for n in gone])
            retriever.add_vectors(every[new], keys=[str(n) for n in new])
            raw.remove_ids(gone)
            raw.add_with_ids(every[new], new)
            live = np.append(np.setdiff1d(live, gone), new)
        exact = faiss.IndexFlatIP(dim)
        exact.add(every[live])
        true = live[exact.search(queries, _K)[1]]
        wide = raw.search(queries, _K * config["refine"])[1]
        ranked = []
        for query, ids in zip(queries, wide, strict=True):
            held = ids[ids >= 0]
            ranked.append(held[np.argsort(-(every[held] @ query))[:_K]])
        hits = retriever.search_vectors(queries, _K)
        rows.append(
            {
                "replaced %": 10 * done,
                "recall imgret": recall([[int(h.key) for h in row] for row in hits], true),
                "recall raw Faiss": recall(ranked, true),
            }
        )
    title = f"Replacing items: {options.items:,} x {dim}, ivf-pq, recall@{_K}"
    save(options.out, "replacing", rows, title=title)


if __name__ == "__main__":
    main()
