"""Overhead of the facade over raw Faiss, for batches and single queries.

    python benchmarks/overhead.py [--items 100000] [--dim 128] [--out DIR]

Raw Faiss is an index of the same kind, built by hand from the same vectors and used with as many
threads. Rounds of both alternate, in both orders, so that a machine whose speed drifts affects both
alike. Ratios are relative to the speed of raw Faiss. Unlike raw Faiss, the gallery's index has its
arrays in huge pages: "of the same index" compares the gallery with direct searches of its own
index, and "by huge pages" compares that index with raw Faiss; each pair takes turns. "Own" is the
part of the gallery's time that is not spent in Faiss. "Hits read" includes the time to read the
keys, labels and metadata of every hit. "Rested" are calls after a pause, as in a service that gets
a request now and then, after other programs have used the processor's caches.

The second table is of galleries that are opened in place and whose index is ranked again by the
stored vectors: what it costs that these are compared with their checksums, once that was done
("known") and the first time that they are read ("new").
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from results import save

from imgret import Embedder, Retriever
from imgret.pages.plot import Axis, Point, plot
from imgret.types import Embeddings, Ids, Image, Json

# Between two rested calls, in seconds, and how many of these there are.
_PAUSE = 0.01
_RESTED = 100


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
    return differences(tasks, rounds)[0]


def differences(
    tasks: dict[str, Callable[[], object]], rounds: int, pause: float = 0.0
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the median seconds of each task, and by how much it takes longer than the first.

    The differences are those within a round, so that what slows a round down falls out of them.
    """
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    # In all orders, as a task finds in the cache what the one before it has left there.
    orders = itertools.cycle(itertools.permutations(tasks))
    for order in itertools.islice(orders, rounds):
        for name in order:
            time.sleep(pause)
            started = time.perf_counter()
            tasks[name]()
            taken[name].append(time.perf_counter() - started)
    first = np.array(next(iter(taken.values())))
    return (
        {name: statistics.median(values) for name, values in taken.items()},
        {name: float(np.median(np.array(values) - first)) for name, values in taken.items()},
    )


def ratio(seconds: dict[str, float]) -> float:
    """Return the speed of the second of two tasks as a share of the first one's."""
    first, second = seconds.values()
    return first / second


class Clocked:
    """A Faiss index that counts the seconds spent in its searches."""

    def __init__(self, index: faiss.Index) -> None:
        self.index = index
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        """Return what the index has."""
        return getattr(self.index, name)

    def search(self, *args: Any, **options: Any) -> Any:
        """Search, and count the time."""
        started = time.perf_counter()
        found = self.index.search(*args, **options)
        self.seconds += time.perf_counter() - started
        return found


def outside_faiss(retriever: Retriever, task: Callable[[], object], rounds: int) -> float:
    """Return the median seconds that a search spends elsewhere."""
    index: Any = retriever.index
    clocked = index._faiss = Clocked(index._faiss)  # noqa: SLF001  # looks inside
    taken = []
    for _ in range(rounds):
        clocked.seconds = 0.0
        started = time.perf_counter()
        task()
        taken.append(time.perf_counter() - started - clocked.seconds)
    index._faiss = clocked.index  # noqa: SLF001
    return statistics.median(taken)


def raw_twin(retriever: Retriever, vectors: Embeddings) -> faiss.Index:
    """Return the Faiss index that the gallery's index is made of, built by hand."""
    config = retriever.index.config()
    raw: faiss.Index = faiss.IndexFlatIP(vectors.shape[1])
    if "ef_search" in config:
        raw = faiss.IndexHNSWFlat(vectors.shape[1], config["M"], faiss.METRIC_INNER_PRODUCT)
        raw.hnsw.efConstruction = config["ef_construction"]
        raw.hnsw.efSearch = config["ef_search"]
    raw.add(vectors)
    return raw


def checking(options: argparse.Namespace, vectors: Embeddings, queries: Embeddings) -> list[Json]:
    """Return what it costs to compare stored vectors with their checksums before they are ranked.

    The same gallery takes turns with and without, in the same places of memory.
    """
    rows: list[Json] = []
    for index in ("ivf-pq", "hnsw-sq8"):
        with tempfile.TemporaryDirectory() as folder:
            path, embedder = Path(folder) / "gallery", Given(options.dim)
            with Retriever.open(path, mode="a", embedder=embedder, index=index) as made:
                made.add_vectors(vectors, keys=[str(n) for n in range(len(vectors))])
                made.search_vectors(queries[:1], options.k)
            with Retriever.open(path, mode="r", embedder=embedder) as retriever:
                retriever.search_vectors(queries, options.k)
                store: Any = retriever._gallery.store  # type: ignore[attr-defined]  # noqa: SLF001
                checks = store.row_checks
                compare = checks.compare_new
                for size in (1, 10, 100, 1000):
                    seconds, more = differences(
                        _checked_or_not(retriever, checks, compare, queries[:size], options.k),
                        options.rounds * max(4, 100 // size),
                    )
                    rows.append(
                        {
                            "index": index,
                            "queries": size,
                            "unchecked, us": 1e6 * seconds["unchecked"],
                            "known, us more": 1e6 * more["known"],
                            "known, more": more["known"] / seconds["unchecked"],
                            "new, us more": 1e6 * more["new"],
                            "new, more": more["new"] / seconds["unchecked"],
                        }
                    )
    return rows


def _checked_or_not(
    retriever: Retriever, checks: Any, compare: Any, queries: Embeddings, k: int
) -> dict[str, Callable[[], object]]:
    def unchecked() -> None:
        checks.compare_new = _take_as_sound
        retriever.search_vectors(queries, k)

    def known() -> None:
        checks.compare_new = compare
        retriever.search_vectors(queries, k)

    def new() -> None:
        checks.compare_new = compare
        checks.forget()  # 2 us for 100,000 rows
        retriever.search_vectors(queries, k)

    return {"unchecked": unchecked, "known": known, "new": new}


def _take_as_sound(ids: Ids, rows: object) -> None:
    """Stand for the comparison."""


def main() -> None:
    """Print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--out", type=Path, help="Folder for JSON, Markdown and the plot.")
    options = parser.parse_args()
    k = options.k

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((options.items, options.dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:1000] + 0.05 * rng.standard_normal((1000, options.dim), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    names = [str(n) for n in range(options.items)]
    cores = faiss.omp_get_max_threads()
    rows: list[dict[str, Any]] = []
    series: dict[str, list[Point]] = {}
    for index in ("flat", "hnsw"):
        retriever = Retriever(embedder=Given(options.dim), index=index, dtype="float32")
        retriever.add_vectors(vectors, keys=names)
        raw = raw_twin(retriever, vectors)
        for size in (1, 2, 5, 10, 100, 1000):
            some = queries[:size]
            same = retriever.index._faiss  # type: ignore[attr-defined]  # noqa: SLF001
            # Raw Faiss is the fastest there is for one query on one thread.
            faiss.omp_set_num_threads(1 if size == 1 else cores)
            tasks = {
                "raw": lambda: raw.search(some, k),  # noqa: B023  # run at once
                "ours": lambda: retriever.search_vectors(some, k),  # noqa: B023
                "read": lambda: [list(h) for h in retriever.search_vectors(some, k)],  # noqa: B023
                "same": lambda: same.search(some, k),  # noqa: B023
            }
            both = {name: tasks[name] for name in ("raw", "ours")}
            rounds = options.rounds * max(1, 40 // size)
            seconds, more = differences(both, rounds)
            pairs = {
                pair: differences({name: tasks[name] for name in pair}, rounds)[0]
                for pair in (("same", "ours"), ("raw", "same"))
            }
            others, _ = differences({"read": tasks["read"]}, rounds)
            rested, _ = differences(both, min(rounds, _RESTED), pause=_PAUSE)
            own = outside_faiss(retriever, tasks["ours"], rounds)
            rows.append(
                {
                    "index": index,
                    "queries": size,
                    "raw Faiss, us": 1e6 * seconds["raw"],
                    "imgret, us": 1e6 * seconds["ours"],
                    "of its speed": ratio(seconds),
                    "more a query, us": 1e6 * more["ours"] / size,
                    "own, us": 1e6 * own,
                    "hits read, us": 1e6 * others["read"],
                    "of the same index": ratio(pairs["same", "ours"]),
                    "by huge pages": ratio(pairs["raw", "same"]),
                    "rested: raw, us": 1e6 * rested["raw"],
                    "rested: imgret, us": 1e6 * rested["ours"],
                }
            )
        faiss.omp_set_num_threads(cores)
        mine = [row for row in rows if row["index"] == index]
        series[index] = [(row["queries"], row["of its speed"], "") for row in mine]
        series[f"{index}, hits read"] = [
            (row["queries"], row["raw Faiss, us"] / row["hits read, us"], "") for row in mine
        ]
    save(
        options.out,
        "overhead",
        rows,
        title=f"Overhead: {options.items:,} x {options.dim}, cosine, k = {k}, {cores} threads",
        plots={
            "overhead": plot(
                series,
                title="Speed as a share of raw Faiss",
                x=Axis("queries at once", log=True),
                y=Axis("share"),
                best=False,
            )
        },
    )
    save(
        options.out,
        "overhead-checked",
        checking(options, vectors, queries),
        title=f"Checksums of ranked vectors: {options.items:,} x {options.dim}, k = {k}",
    )


if __name__ == "__main__":
    main()
