"""What a filter costs: one that lets everything pass, and one that lets 100 items pass.

    python benchmarks/filters.py [--items 1000000] [--dim 64]

"First" is a filter that was not asked before, or not since the gallery changed; "again" one
whose ids are remembered. Rounds with and without a filter alternate, so that a machine whose
speed drifts treats them alike.
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

from imgret import Retriever

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
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    n = options.items

    rng = np.random.default_rng(0)
    retriever = Retriever(embedder=Given(options.dim), dtype="float32")
    vectors = rng.standard_normal((n, options.dim), dtype=np.float32)
    retriever.add_vectors(
        vectors,
        keys=[str(i) for i in range(n)],
        labels=[f"label-{i // _FEW}" for i in range(n)],
        metadata=[{"year": 2000 + i % 25, "set": i // _FEW} for i in range(n)],
    )
    print(f"{n} x {options.dim}, flat, cosine, k = 10, one query at a time")

    query = vectors[:1]
    every = {"year": {"$gte": 2000}}
    started = time.perf_counter()
    retriever.search_vectors(query, 10, where=every)
    print(f"lets all pass, first             {1e3 * (time.perf_counter() - started):9.2f} ms")
    tasks: dict[str, Callable[[], object]] = {
        "none": lambda: retriever.search_vectors(query, 10),
        "all": lambda: retriever.search_vectors(query, 10, where=every),
        "half": lambda: retriever.search_vectors(query, 10, where={"year": {"$gte": 2012}}),
        "label": lambda: retriever.search_vectors(query, 10, where={"label": "label-7"}),
    }
    seconds = alternate(tasks, options.rounds)
    print(f"no filter                        {1e3 * seconds['none']:9.2f} ms")
    for name, what in (("all", "all"), ("half", "half"), ("label", f"{_FEW} by label")):
        ratio = seconds[name] / seconds["none"]
        said = f"lets {what} pass, again"
        print(f"{said:<32} {1e3 * seconds[name]:9.2f} ms   {ratio:.3f} of no filter")

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
