"""What a filter costs: one that lets everything pass, and one that lets 100 items pass.

    python benchmarks/filters.py [--items 1000000] [--dim 64] [--index flat]
    python benchmarks/filters.py --index hnsw --dim 32    # the graph takes minutes to build

"First" is a filter that was not asked before, or not since the gallery changed; "again" one
of which something is remembered. Rounds with and without a filter alternate, so that a machine
whose speed drifts treats them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
from overhead import Given, alternate

from imgret import HNSWIndex, Retriever, VectorIndex

_FEW = 100


def first(retriever: Retriever, query: Any, wheres: list[dict[str, Any]]) -> float:
    """Return the median seconds of filters that are each asked for the first time."""
    taken = []
    for where in wheres:
        started = time.perf_counter()
        (hits,) = retriever.search_vectors(query, 10, where=where)
        taken.append(time.perf_counter() - started)
        if len(hits) != 10:
            raise SystemExit(f"{where}: expected 10 hits, found {len(hits)}")
    return statistics.median(taken)


def main() -> None:
    """Print ratios and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--index", choices=["flat", "hnsw"], default="flat")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    n = options.items

    rng = np.random.default_rng(0)
    index: str | VectorIndex = options.index
    if index == "hnsw":
        index = HNSWIndex(options.dim, M=16, ef_construction=40)
    retriever = Retriever(embedder=Given(options.dim), index=index, dtype="float32")
    vectors = rng.standard_normal((n, options.dim), dtype=np.float32)
    started = time.perf_counter()
    retriever.add_vectors(
        vectors,
        keys=[str(i) for i in range(n)],
        labels=[f"label-{i // _FEW}" for i in range(n)],
        metadata=[{"year": 2000 + i % 25, "set": i // _FEW} for i in range(n)],
    )
    taken = time.perf_counter() - started
    print(f"{n} x {options.dim}, {options.index}, cosine, k = 10, one query at a time")
    print(f"added in {taken:.0f} s")

    query = vectors[:1]
    every, half = {"year": {"$gte": 2000}}, {"year": {"$gte": 2012}}
    few = {"label": "label-7"}
    retriever.search_vectors(query, 10)
    started = time.perf_counter()
    retriever.search_vectors(query, 10, where=every)
    print(f"lets all pass, the very first    {1e3 * (time.perf_counter() - started):9.2f} ms")
    years = cycle(range(1000, 2000))
    tasks: dict[str, Callable[[], object]] = {
        "no filter": lambda: retriever.search_vectors(query, 10),
        "lets all pass, first": lambda: retriever.search_vectors(
            query, 10, where={"year": {"$gte": next(years)}}
        ),
        "lets all pass, again": lambda: retriever.search_vectors(query, 10, where=every),
        "lets half pass, again": lambda: retriever.search_vectors(query, 10, where=half),
        f"lets {_FEW} by label pass, again": lambda: retriever.search_vectors(query, 10, where=few),
    }
    seconds = alternate(tasks, options.rounds)
    for name, value in seconds.items():
        ratio = value / seconds["no filter"]
        print(f"{name:<32} {1e3 * value:9.2f} ms   {ratio:.3f} of no filter")

    sets = cycle(range(100, n // _FEW))
    labels = [{"label": f"label-{next(sets)}"} for _ in range(20)]
    print(f"{_FEW} by label, first            {1e3 * first(retriever, query, labels):9.2f} ms")
    plain = [{"set": next(sets)} for _ in range(3)]
    print(f"{_FEW} by metadata, first         {1e3 * first(retriever, query, plain):9.2f} ms")
    started = time.perf_counter()
    retriever.create_filter_index("set")
    print(f"create_filter_index              {1e3 * (time.perf_counter() - started):9.2f} ms")
    indexed = [{"set": next(sets)} for _ in range(20)]
    print(f"{_FEW} by it, first               {1e3 * first(retriever, query, indexed):9.2f} ms")


if __name__ == "__main__":
    main()
