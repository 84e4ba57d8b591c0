"""Scaling of a gallery: build, open, search and memory at 10 thousand to 10 million items.

    python benchmarks/scale.py [--items 10000 100000 1000000] [--index auto ivf-pq] [--out DIR]
    python benchmarks/scale.py --items 10000000 --index flat ivf-pq --keep /big/disk   # on request
    python benchmarks/scale.py --items 100000 --index flat hnsw --uri postgresql://db/scale

The vectors are synthetic (clusters on the sphere) and streamed, so that no size is ever in memory
as a whole. A gallery of each size is filled once, and gets one index after the other. Indexing,
and opening and searching, are measured in processes of their own, so that the memory is that of a
program that does nothing else. "RSS" is the peak memory, "cold" the time of the very first search,
which reads the index, and "per s" the queries answered in batches, on all cores. "core s" and "core
ms" are processor time, of indexing and of a query in a batch. With OMP_NUM_THREADS=1 other programs
hardly change these; threads that wait for each other count their waiting.

With ``--uri`` galleries are on a PostgreSQL, in a schema each, which is dropped; an index there is
filled with the items. Memory is that of this program, not of the server.

With ``--keep`` galleries and finished rows stay in that folder: a run that was interrupted goes on
with the next row, and the table has those of earlier runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from overhead import Given
from results import save

from imgret import Retriever
from imgret.pages.plot import Axis, plot
from imgret.types import Embeddings

_BLOCK = 100_000
_PER_CLUSTER = 200
_QUERIES = 500
# Queries of a slow index: at least so many, then until so many seconds have passed.
_LEAST, _SECONDS = 20, 10.0
_RETURNED = 10


def blocks(items: int, dim: int, *, seed: int, clusters: int) -> Iterator[Embeddings]:
    """Yield vectors of length 1 around centres that are the same for every seed."""
    centres = np.random.default_rng(12345).standard_normal((clusters, dim), dtype=np.float32)
    rng = np.random.default_rng(seed)
    for start in range(0, items, _BLOCK):
        count = min(_BLOCK, items - start)
        rows = centres[rng.integers(clusters, size=count)]
        rows += 0.5 * rng.standard_normal((count, dim), dtype=np.float32)
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fill(place: Path | str, items: int, dim: int, index: str = "flat") -> float:
    """Make a gallery, and return the seconds that adding took."""
    seconds, done = 0.0, 0
    with Retriever.open(place, "a", embedder=Given(dim), index=index) as retriever:
        for rows in blocks(items, dim, seed=0, clusters=items // _PER_CLUSTER):
            started = time.perf_counter()
            retriever.add_vectors(
                rows,
                keys=[f"{n:08d}.jpg" for n in range(done, done + len(rows))],
                labels=[f"class {n % 100}" for n in range(len(rows))],
            )
            seconds += time.perf_counter() - started
            done += len(rows)
    return seconds


def _noted(path: Path) -> Path:
    """Return the file that says how long a gallery took to fill; it is there once that is done."""
    return path.with_suffix(".seconds")


def build(path: Path, dim: int, index: str) -> dict[str, Any]:
    """Give a gallery another index."""
    with Retriever.open(path, "a", embedder=Given(dim)) as retriever:
        started, used = time.perf_counter(), time.process_time()
        retriever.reindex(index)
        return {
            "index s": time.perf_counter() - started,
            "core s": time.process_time() - used,
            "build MB": peak_rss(),
        }


def peak_rss() -> float:
    """Return the most memory this program held, in MB; what it was started from left aside."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def use(place: Path | str, dim: int) -> dict[str, Any]:
    """Open a gallery and search it, one query at a time."""
    started = time.perf_counter()
    retriever = Retriever.open(place, embedder=Given(dim))
    opened = time.perf_counter()
    clusters = len(retriever) // _PER_CLUSTER
    queries = next(blocks(_QUERIES, dim, seed=9, clusters=clusters))
    retriever.search_vectors(queries[:1], _RETURNED)
    cold = time.perf_counter()
    taken: list[float] = []
    for query in queries:
        if time.perf_counter() - cold > _SECONDS and len(taken) >= _LEAST:
            break
        before = time.perf_counter()
        list(retriever.search_vectors(query[None], _RETURNED)[0])
        taken.append(1000 * (time.perf_counter() - before))
    # A batch that takes some seconds, by the time of single queries.
    batch = queries[: max(_LEAST, int(1000 * _SECONDS / statistics.median(taken)))]
    rates, spent = [], []
    for _ in range(2):
        before, used = time.perf_counter(), time.process_time()
        for hits in retriever.search_vectors(batch, _RETURNED):
            list(hits)
        rates.append(len(batch) / (time.perf_counter() - before))
        spent.append(1000 * (time.process_time() - used) / len(batch))
    found: dict[str, Any] = {
        "per s": max(rates),
        "core ms": min(spent),
        "open s": opened - started,
        "cold ms": 1000 * (cold - opened),
        "p50 ms": statistics.median(taken),
        "p95 ms": float(np.percentile(taken, 95)),
        "RSS MB": peak_rss(),
    }
    if isinstance(place, Path):
        found["index"] = retriever.index.name
    # Compares with everything, so after the memory was looked at.
    found["recall"] = retriever.recall(_RETURNED, n_queries=200).value
    return found


def measured(root: Path, items: int, dim: int, index: str) -> dict[str, Any]:
    """Give a gallery an index, and use it, in processes of their own."""
    path = root / f"{items}.imgret"
    if not _noted(path).exists():
        if path.exists():  # an interrupted run
            shutil.rmtree(path)
        _noted(path).write_text(json.dumps(fill(path, items, dim)), encoding="utf-8")
    command = [sys.executable, __file__, "--dim", str(dim), "--path", str(path)]
    run = partial(subprocess.run, check=True, stdout=subprocess.PIPE)
    built = json.loads(run([*command, "--index", index, "--what", "build"]).stdout)
    used = json.loads(run([*command, "--what", "use"]).stdout)
    size = {
        name: sum(f.stat().st_size for f in path.rglob(pattern) if f.is_file()) / items
        for name, pattern in (
            ("catalog B", "catalog.sqlite"),
            ("vectors B", "vectors.*"),
            ("index B", "state/*"),
        )
    }
    seconds = json.loads(_noted(path).read_text(encoding="utf-8"))
    return {
        "asked": index,
        "items": items,
        "index": used.pop("index"),
        "add s": seconds,
        **built,
        **used,
        **size,
    }


def on_server(uri: str, items: int, dim: int, index: str) -> dict[str, Any]:
    """Fill a gallery on PostgreSQL, and use it."""
    import psycopg  # noqa: PLC0415  # only here

    schema = f"scale_{items}_{index}"
    sizes = (
        "SELECT (pg_table_size(t) + pg_indexes_size(t) - graph)::float8 / %(n)s, graph / %(n)s "
        "FROM (SELECT %(name)s::regclass AS t, "
        "coalesce(pg_relation_size(to_regclass(%(name)s || '_embedding')), 0)::float8 AS graph) "
        "AS s"
    )
    with psycopg.connect(uri, autocommit=True) as connection:
        try:
            place = f"{uri}{'&' if '?' in uri else '?'}schema={schema}"
            seconds = fill(place, items, dim, index)
            used = use(place, dim)
            named = {"n": items, "name": f"{schema}.items"}
            table, graph = connection.execute(sizes, named).fetchone() or (None, None)
        finally:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")  # names of our own
    return {
        "asked": f"postgresql {index}",
        "items": items,
        "index": index,
        "add s": seconds,
        "index s": 0.0,
        "core s": None,
        "build MB": None,
        **used,
        "catalog B": table,
        "vectors B": 0,
        "index B": graph,
    }


def earlier(file: Path) -> list[dict[str, Any]]:
    """Return the rows of earlier runs."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Print a row a size, and how each figure grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--index", nargs="+", default=["auto", "ivf-pq"])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--keep", type=Path, help="Folder to keep and reuse the galleries in.")
    parser.add_argument("--out", type=Path, help="Folder for JSON, Markdown and plots.")
    parser.add_argument("--uri", help="Database of a running PostgreSQL with pgvector.")
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=["build", "use"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what is not None:
        found = (
            use(options.path, options.dim)
            if options.what == "use"
            else build(options.path, options.dim, options.index[0])
        )
        print(json.dumps(found))
        return
    root = options.keep or Path(tempfile.mkdtemp(prefix="imgret-scale-"))
    root.mkdir(parents=True, exist_ok=True)
    finished = root / "rows.jsonl"
    try:
        for items in options.items:  # all indexes of a gallery, which can be deleted then
            for index in options.index:
                asked = index if options.uri is None else f"postgresql {index}"
                if any((r["asked"], r["items"]) == (asked, items) for r in earlier(finished)):
                    continue
                row = (
                    measured(root, items, options.dim, index)
                    if options.uri is None
                    else on_server(options.uri, items, options.dim, index)
                )
                print(row, file=sys.stderr, flush=True)
                with finished.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        rows = sorted(earlier(finished), key=lambda row: (row["asked"], row["items"]))
    finally:
        if options.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    indexes = list(dict.fromkeys(row["asked"] for row in rows))
    names = ["open s", "cold ms", "p50 ms", "p95 ms", "RSS MB"]
    plots = {
        f"scale-{name.split()[0]}": plot(
            {
                index: [(r["items"], r[name], r["index"]) for r in rows if r["asked"] == index]
                for index in indexes
            },
            title=f"{name} by the number of items",
            x=Axis("items", log=True),
            y=Axis(name, log=True),
            best=False,
        )
        for name in names
    }
    notes = []
    for index in indexes:
        own = [row for row in rows if row["asked"] == index]
        for small, large in itertools.pairwise(own):
            times = large["items"] / small["items"]
            growth = ", ".join(f"{n} x {large[n] / max(small[n], 1e-9):.2f}" for n in names)
            notes.append(f"- {index}, {times:g} times the items ({large['items']:,}): {growth}")
    save(options.out, "scale", rows, title="Scale", plots=plots, notes=notes)


if __name__ == "__main__":
    main()
