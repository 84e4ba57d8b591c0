"""Scaling of a gallery: build, open, search and memory at 10 thousand to 10 million items.

    python benchmarks/scale.py [--items 10000 100000 1000000] [--index auto ivf-pq] [--out DIR]
    python benchmarks/scale.py --items 10000000 --index ivf-pq --keep /big/disk   # on request

The vectors are synthetic (clusters on the sphere) and streamed, so that no size is ever in memory
as a whole. Opening and searching are measured in a separate process, so that the memory is that of
a program that only searches. "RSS" is the peak memory, and "cold" the time of the very first
search, which reads the index.
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


def build(path: Path, items: int, dim: int, index: str) -> float:
    """Make a gallery on disk, block by block, and return the seconds it took."""
    started = time.perf_counter()
    done = 0
    with Retriever.open(path, "a", embedder=Given(dim), index=index) as retriever:
        for rows in blocks(items, dim, seed=0, clusters=items // _PER_CLUSTER):
            retriever.add_vectors(
                rows,
                keys=[f"{n:08d}.jpg" for n in range(done, done + len(rows))],
                labels=[f"class {n % 100}" for n in range(len(rows))],
            )
            done += len(rows)
    return time.perf_counter() - started


def peak_rss() -> float:
    """Return the most memory this program held, in MB; what it was started from left aside."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def use(path: Path, dim: int) -> dict[str, Any]:
    """Open a gallery and search it, one query at a time."""
    started = time.perf_counter()
    retriever = Retriever.open(path, embedder=Given(dim))
    opened = time.perf_counter()
    clusters = len(retriever) // _PER_CLUSTER
    queries = next(blocks(_QUERIES, dim, seed=9, clusters=clusters))
    retriever.search_vectors(queries[:1], _RETURNED)
    cold = time.perf_counter()
    taken = []
    for query in queries:
        before = time.perf_counter()
        list(retriever.search_vectors(query[None], _RETURNED)[0])
        taken.append(1000 * (time.perf_counter() - before))
    found = {
        "open s": opened - started,
        "cold ms": 1000 * (cold - opened),
        "p50 ms": statistics.median(taken),
        "p95 ms": float(np.percentile(taken, 95)),
        "RSS MB": peak_rss(),
        "index": retriever.index.name,
    }
    # Compares with everything, so after the memory was looked at.
    found["recall"] = retriever.recall(_RETURNED, n_queries=200).value
    return found


def measured(root: Path, items: int, dim: int, index: str) -> dict[str, Any]:
    """Build a gallery and use it in a process of its own."""
    path = root / f"{items}-{index.replace(':', '-')}.imgret"
    seconds = None if path.exists() else build(path, items, dim, index)
    command = [sys.executable, __file__, "--use", str(path), "--dim", str(dim)]
    used = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603  # ourselves
    size = {
        name: sum(f.stat().st_size for f in path.rglob(pattern) if f.is_file()) / items
        for name, pattern in (
            ("catalog B", "catalog.sqlite"),
            ("vectors B", "vectors.*"),
            ("index B", "state/*"),
        )
    }
    return {"items": items, "index": used.pop("index"), "build s": seconds, **used, **size}


def main() -> None:
    """Print a row a size, and how each figure grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--index", nargs="+", default=["auto", "ivf-pq"])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--keep", type=Path, help="Folder to keep and reuse the galleries in.")
    parser.add_argument("--out", type=Path, help="Folder for JSON, Markdown and plots.")
    parser.add_argument("--use", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.use is not None:
        print(json.dumps(use(options.use, options.dim)))
        return
    root = options.keep or Path(tempfile.mkdtemp(prefix="imgret-scale-"))
    root.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    try:
        for index in options.index:
            for items in options.items:
                rows.append({"asked": index, **measured(root, items, options.dim, index)})
                print(rows[-1], file=sys.stderr, flush=True)
    finally:
        if options.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    names = ["open s", "cold ms", "p50 ms", "p95 ms", "RSS MB"]
    plots = {
        f"scale-{name.split()[0]}": plot(
            {
                index: [(r["items"], r[name], r["index"]) for r in rows if r["asked"] == index]
                for index in options.index
            },
            title=f"{name} by the number of items",
            x=Axis("items", log=True),
            y=Axis(name, log=True),
            best=False,
        )
        for name in names
    }
    notes = []
    for index in options.index:
        own = [row for row in rows if row["asked"] == index]
        for small, large in itertools.pairwise(own):
            times = large["items"] / small["items"]
            growth = ", ".join(f"{n} x {large[n] / max(small[n], 1e-9):.2f}" for n in names)
            notes.append(f"- {index}, {times:g} times the items ({large['items']:,}): {growth}")
    save(options.out, "scale", rows, title="Scale", plots=plots, notes=notes)


if __name__ == "__main__":
    main()
