"""Recall and speed of filtered search, with filters that pass few to most items.

    python benchmarks/filters.py [--items 200000] [--dim 128] [--index hnsw] [--out DIR]
    python benchmarks/filters.py --costs [--items 1000000] [--dim 64] [--index flat]

The filters pass from 0.001 % to 90 % of the items. For each, recall@10 is measured against brute
force over the passing items, and queries per second for imgret, for the same Faiss index with an
IDSelector (which is made beforehand and not timed), and for a search without a filter whose 1000
hits are filtered afterwards. There is one thread, with batches of 100 and single queries, and the
filters have been used before. The last row is anti-correlated: each query searches only clusters
other than its own, so that the filter excludes exactly the items near it.

``--costs`` measures the time that a filter which passes everything, or 100 items, adds to a search.
"First" is a filter that was not used before, or not since the gallery changed; "again" is a filter
whose result is partly cached. Rounds alternate, so that a machine whose speed drifts affects all
alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import faiss as _faiss
import numpy as np
from overhead import Given, alternate
from results import save

from imgret import HNSWIndex, Retriever, VectorIndex
from imgret.pages.plot import Axis, Point, plot
from imgret.types import Embeddings

if TYPE_CHECKING:
    from imgret.galleries.local import LocalGallery

faiss: Any = _faiss  # its types miss half of it
_FEW = 100
_K, _QUERIES, _AFTERWARDS, _BEFORE = 10, 100, 1000, 12
_AGAINST = 30
_SHORT = {"imgret": "imgret", "Faiss with a selector": "Faiss", "filtered afterwards": "after"}


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


def selectivities(options: argparse.Namespace) -> None:
    """Print a row for each share of items that pass."""
    faiss.omp_set_num_threads(1)
    n, dim = options.items, options.dim
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, n // 200), dim), dtype=np.float32)

    def drawn(count: int) -> tuple[Embeddings, Any]:
        clusters = rng.integers(len(centres), size=count)
        rows = centres[clusters]
        rows += 0.5 * rng.standard_normal((count, dim), dtype=np.float32)
        unit: Embeddings = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit, clusters

    (vectors, clusters), (queries, own) = drawn(n), drawn(_QUERIES)
    chance = rng.permutation(n)  # the filter passes what is below a number, wherever it lies
    retriever = Retriever(embedder=Given(dim), index=options.index, dtype="float32")
    retriever.add_vectors(
        vectors,
        keys=[str(i) for i in range(n)],
        metadata=[{"u": int(u), "c": int(c)} for u, c in zip(chance, clusters, strict=True)],
    )
    if not retriever.index.is_exact:
        tuned = retriever.tune(options.recall, _K)
        print(f"tuned to recall {options.recall}: {tuned.chosen}")
    rows: list[dict[str, Any]] = []
    series: dict[str, list[Point]] = {name: [] for name in _SHORT}
    for percent in (0.001, 0.1, 1, 10, 50, 90):
        passing = max(1, round(n * percent / 100))
        where = {"u": {"$lt": passing}}
        ids = np.flatnonzero(chance < passing)
        truth = ids[np.argsort(-(queries @ vectors[ids].T), axis=1)[:, :_K]]
        ways = _ways(retriever, where, ids)
        recalls = {name: _recall(way(queries), truth) for name, way in ways.items()}
        for _ in range(_BEFORE):  # what comes often is listed
            ways["imgret"](queries)
        batch = alternate({w: partial(way, queries) for w, way in ways.items()}, options.rounds)
        one = alternate({w: partial(way, queries[:1]) for w, way in ways.items()}, 20)
        row: dict[str, Any] = {
            "passes %": percent,
            "items": passing,
            "way": retriever.explain(_K, where=where, n_queries=_QUERIES).way,
            "way of one": retriever.explain(_K, where=where).way,
        }
        for name, short in _SHORT.items():
            row[f"recall {short}"] = recalls[name]
            row[f"QPS {short}"] = round(_QUERIES / batch[name])
            row[f"one, us {short}"] = round(1e6 * one[name])
            point = (percent, _QUERIES / batch[name], f"recall {recalls[name]:.3f}")
            series[name].append(point)
        rows.append(row)
    rows.append(anti_correlated(retriever, vectors, clusters, queries, own))
    drawing = plot(
        series,
        title=f"{options.index}: queries a second by what a filter lets pass",
        x=Axis("items that pass, %", log=True),
        best=False,
    )
    save(
        options.out,
        f"filters-{options.index}",
        rows,
        title=f"Filters: {n:,} x {dim}, {options.index}, recall@{_K}",
        plots={f"filters-{options.index}": drawing},
    )


def anti_correlated(
    retriever: Retriever, vectors: Embeddings, clusters: Any, queries: Embeddings, own: Any
) -> dict[str, Any]:
    """Return the row of queries that are asked for anything but their own clusters."""
    found: dict[str, list[float]] = {name: [] for name in _SHORT}
    seconds: dict[str, list[float]] = {name: [] for name in _SHORT}
    plans = []
    for query, cluster in zip(queries[:_AGAINST, None], own[:_AGAINST].tolist(), strict=True):
        where = {"c": {"$ne": cluster}}
        ids = np.flatnonzero(clusters != cluster)
        truth = ids[np.argsort(-(query @ vectors[ids].T), axis=1)[:, :_K]]
        ways = _ways(retriever, where, ids)
        for name, way in ways.items():
            found[name].append(_recall(way(query), truth))
        taken = alternate({w: partial(way, query) for w, way in ways.items()}, 5)
        for name, value in taken.items():
            seconds[name].append(value)
        plans.append(retriever.explain(_K, where=where))
    row: dict[str, Any] = {
        "passes %": "anti-correlated",
        "items": round(statistics.mean(plan.matching for plan in plans)),
        "way": "",
        "way of one": plans[-1].way,
    }
    for name, short in _SHORT.items():
        row[f"recall {short}"] = statistics.mean(found[name])
        row[f"QPS {short}"] = ""
        row[f"one, us {short}"] = round(1e6 * statistics.median(seconds[name]))
    return row


def _ways(
    retriever: Retriever, where: dict[str, Any], ids: Any
) -> dict[str, Callable[[Embeddings], list[list[int]]]]:
    """Return what is compared: each gives the ids that it finds for each query."""
    index: Any = retriever.index
    raw, settings = index._faiss, index.settings()  # noqa: SLF001  # the same graph or lists
    chosen = np.zeros(len(retriever), dtype=bool)
    chosen[ids] = True
    selector = faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
    params = faiss.SearchParameters(sel=selector)
    if "ef_search" in settings:
        params = faiss.SearchParametersHNSW(sel=selector, efSearch=settings["ef_search"])
    elif "nprobe" in settings:
        params = faiss.SearchParametersIVF(sel=selector, nprobe=settings["nprobe"])
    if isinstance(raw, faiss.IndexPreTransform):
        params = faiss.SearchParametersPreTransform(index_params=params)
    many = min(len(retriever), _AFTERWARDS)
    live = cast("LocalGallery", retriever._gallery).live  # noqa: SLF001  # the ids alone
    view = retriever.view()

    def ours(queries: Embeddings) -> list[list[int]]:
        found = live.find(view.project(queries), _K, where, live.projection)
        return [[i for i in row if i >= 0] for row in found.ids.tolist()]

    def theirs(queries: Embeddings) -> list[list[int]]:
        _, found = raw.search(queries, _K, params=params)
        return [[i for i in row if i >= 0] for row in found.tolist()]

    def afterwards(queries: Embeddings) -> list[list[int]]:
        _, found = raw.search(queries, many)
        return [row[chosen[row] & (row >= 0)][:_K].tolist() for row in found]

    return dict(zip(_SHORT, (ours, theirs, afterwards), strict=True))


def _recall(found: list[list[int]], truth: Any) -> float:
    shares = [len(set(a) & set(b)) / len(b) for a, b in zip(found, truth.tolist(), strict=True)]
    return float(np.mean(shares))


def main() -> None:
    """Print ratios and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int)
    parser.add_argument("--dim", type=int)
    parser.add_argument("--index")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--recall", type=float, default=0.95, help="Recall to tune the index to.")
    parser.add_argument("--out", type=Path, help="Folder for JSON, Markdown and the plot.")
    parser.add_argument("--costs", action="store_true")
    options = parser.parse_args()
    defaults = (1_000_000, 64, "flat", 30) if options.costs else (200_000, 128, "hnsw", 5)
    for name, value in zip(("items", "dim", "index", "rounds"), defaults, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.costs:
        costs(options)
    else:
        selectivities(options)


def costs(options: argparse.Namespace) -> None:
    """Print what a filter adds."""
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
