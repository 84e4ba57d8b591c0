"""What the benchmarks of servers share: vectors, metadata, and filters beside brute force."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from imgret import Retriever
from imgret.support.exact import exact_search
from imgret.support.unit import unit_length
from imgret.types import Embeddings

__all__ = ["SHARES", "facts_of", "made", "recall_row"]

_K, _QUERIES = 10, 200
SHARES = {"0.1 %": 0.001, "1 %": 0.01, "10 %": 0.1, "50 %": 0.5}


def made(items: int, dim: int) -> tuple[Embeddings, Embeddings]:
    """Return vectors in clusters of uneven size, and queries like them that are not among them."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(1000, dim))
    of = np.minimum(generator.exponential(200, items + _QUERIES).astype(int), 999)
    drawn = centres[of] + 0.6 * generator.normal(size=(len(of), dim))
    found: Embeddings = unit_length(drawn.astype(np.float32))
    return found[:items], found[items:]


def facts_of(n: int) -> dict[str, Any]:
    """Return the metadata of an item; a filter on ``share`` lets that share of items through."""
    return {"n": n, "share": (n * 7919 % 100_000) / 100_000}


def recall_row(  # noqa: PLR0917  # in the order of the columns
    name: str,
    retriever: Retriever,
    vectors: Embeddings,
    queries: Embeddings,
    where: dict[str, Any] | None,
    passing: Any,
) -> dict[str, Any]:
    """Compare the answers to a filter with brute force over what passes."""
    ids = np.flatnonzero(passing)
    true = exact_search(queries, [(ids, unit_length(vectors[ids]))], _K, "cosine").ids
    started, right, least = time.perf_counter(), 0, _K
    for hits, expected in zip(
        retriever.search_vectors(queries, k=_K, where=where), true.tolist(), strict=True
    ):
        found = {int(hit.key.removesuffix(".jpg")) for hit in hits}
        right += len(found & set(expected))
        least = min(least, len(found))
    seconds = time.perf_counter() - started
    return {
        "what": f"filter: {name} pass ({len(ids):,})",
        "imgret a second": round(len(queries) / seconds),
        "recall@10": round(right / (len(queries) * min(_K, len(ids))), 4),
        "least hits": least,
    }
