"""Throughput of concurrent searches by several threads, with and without a writer.

    python benchmarks/threads.py [--items 200000] [--dim 128] [--index flat hnsw] [--out DIR]

Each thread runs one query after another (``search_vectors``, without reading the hits), with Faiss
on one thread each. The writer adds and removes 100 items at a time, as fast as it can. Separately,
it then adds a tenth of the items in one call.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from overhead import Given
from results import save

from imgret import Retriever
from imgret.pages.plot import Axis, Point, plot

_AT_ONCE = 100


def searched(retriever: Retriever, queries: Any, threads: int, seconds: float) -> float:
    """Return searches a second of all threads together."""
    deadline = time.monotonic() + seconds
    counts = [0] * threads

    def work(number: int) -> None:
        place = number
        while time.monotonic() < deadline:
            retriever.search_vectors(queries[place : place + 1], 10)
            place = (place + threads) % len(queries)
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def adding(retriever: Retriever, vectors: Any, n: int, threads: int) -> dict[str, float]:
    """Add vectors in one call; return what that took, and what searches beside it took."""
    stop = threading.Event()
    taken: list[list[float]] = [[] for _ in range(threads)]

    def work(number: int) -> None:
        place = number
        while not stop.is_set():
            started = time.perf_counter()
            retriever.search_vectors(vectors[place : place + 1], 10)
            taken[number].append(time.perf_counter() - started)
            place = (place + threads) % 1000

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    time.sleep(0.3)
    for own in taken:
        own.clear()
    started = time.perf_counter()
    retriever.add_vectors(vectors[n:], keys=[f"new {n}" for n in range(len(vectors) - n)])
    seconds = time.perf_counter() - started
    stop.set()
    for worker in workers:
        worker.join()
    every = np.concatenate([np.zeros(1), *map(np.array, taken)])
    return {
        "adding, s": seconds,
        "searches a second": (len(every) - 1) / seconds,
        "median, ms": 1000 * float(np.median(every)),
        "slowest of 100, ms": 1000 * float(np.quantile(every, 0.99)),
        "slowest, ms": 1000 * float(every.max()),
    }


def written(retriever: Retriever, rows: Any, stop: threading.Event, count: list[int]) -> None:
    """Add and remove items, near others but never the same, until told to stop."""
    keys = [f"new {n}" for n in range(_AT_ONCE)]
    rng = np.random.default_rng(1)
    while not stop.is_set():
        near = rows[rng.integers(len(rows), size=_AT_ONCE)]
        noise = rng.standard_normal(near.shape, dtype=np.float32)
        retriever.add_vectors(near + 0.3 * noise, keys=keys)
        retriever.remove(keys)
        count[0] += 2


def main() -> None:
    """Print a row for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--index", nargs="+", default=["ivf-pq", "hnsw"])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--out", type=Path, help="Folder for JSON, Markdown and the plot.")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((options.items // 200, options.dim), dtype=np.float32)
    vectors = centres[rng.integers(len(centres), size=options.items)]
    vectors += 0.5 * rng.standard_normal(vectors.shape, dtype=np.float32)
    rows: list[dict[str, Any]] = []
    added: list[dict[str, Any]] = []
    series: dict[str, list[Point]] = {}
    for index in options.index:
        retriever = Retriever(embedder=Given(options.dim), index=index)
        retriever.add_vectors(vectors, keys=[str(n) for n in range(len(vectors))])
        for writes in (False, True):
            alone = 0.0
            for threads in (1, 2, 4, 8):
                stop, count = threading.Event(), [0]
                writer = threading.Thread(
                    target=written, args=(retriever, vectors, stop, count), daemon=True
                )
                if writes:
                    writer.start()
                rate = searched(retriever, vectors[:1000], threads, options.seconds)
                stop.set()
                if writes:
                    writer.join()
                alone = alone or rate
                rows.append(
                    {
                        "index": index,
                        "writer": "yes" if writes else "no",
                        "threads": threads,
                        "searches a second": round(rate),
                        "of one thread": rate / alone,
                        "changes a second": count[0] / options.seconds,
                    }
                )
                name = f"{index}{', beside a writer' if writes else ''}"
                series.setdefault(name, []).append((threads, rate, ""))
        del retriever
        for threads in (0, 1, 8):
            n = len(vectors) - len(vectors) // 10
            retriever = Retriever(embedder=Given(options.dim), index=index)
            retriever.add_vectors(vectors[:n], keys=[str(n) for n in range(n)])
            added.append(
                {
                    "index": index,
                    "searching threads": threads,
                    **adding(retriever, vectors, n, threads),
                }
            )
    save(
        options.out,
        "adding",
        added,
        title=f"Adding {len(vectors) // 10:,} to {n:,} x {options.dim} while threads search",
    )
    save(
        options.out,
        "threads",
        rows,
        title=f"Threads: {options.items:,} x {options.dim}, {os.cpu_count()} cores",
        plots={
            "threads": plot(
                series,
                title="Searches a second, all threads together",
                x=Axis("threads", log=True),
                y=Axis("searches a second"),
                best=False,
            )
        },
    )


if __name__ == "__main__":
    main()
