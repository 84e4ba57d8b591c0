"""Gain and cost of re-ranking: mAP and top-1 on two folders of class subfolders.

    python benchmarks/rerank.py TRAIN VALID [--embedder general] [--out DIR]

The gallery is TRAIN and the queries are VALID, once with the original embeddings and once after
`Retriever.adapt`. mAP is over the whole ranking of the gallery; mAP@100 and mAP@5 are by min(k, R).
"once" is the time in seconds to prepare the gallery, before any query. "ms" is the time per query
including its search, but not its embedding. The rows "in search" request 100 hits from a retriever;
for mAP, the rest of the gallery follows by cosine similarity.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from results import save

from imgret import Retriever, rerank
from imgret.evaluation.metrics import average_precision_at_k, top_k_accuracy
from imgret.pages.plot import Axis, Point, plot
from imgret.rerank import KReciprocal
from imgret.rerank.named import Rerank
from imgret.types import Embeddings

_HITS = 100

# Queries in; the rows of the gallery, best first, as far as they are ranked.
Ranking: TypeAlias = Callable[[Embeddings], NDArray[np.int64]]


class Gallery(NamedTuple):
    """The items, as vectors of length 1 that are searched, and in a retriever.

    Attributes
    ----------
    vectors : float32 array of shape (m, d)
    retriever : Retriever
    queries : float32 array of shape (n, dim)
        Embeddings, which the retriever takes.
    """

    vectors: Embeddings
    retriever: Retriever
    queries: Embeddings


# What is done once for a gallery, and gives what ranks queries.
Way: TypeAlias = Callable[[Gallery], Ranking]


def by_cosine(queries: Embeddings, gallery: Embeddings) -> NDArray[np.int64]:
    """Rank the whole gallery."""
    return np.argsort(-(queries @ gallery.T), axis=1, kind="stable")


def plain(gallery: Gallery) -> Ranking:
    """Rank by cosine alone."""
    return lambda queries: by_cosine(queries, gallery.vectors)


def expanded(alpha: float, k: int) -> Way:
    """Rank by expanded queries."""

    def prepare(gallery: Gallery) -> Ranking:
        items = gallery.vectors
        return lambda queries: by_cosine(
            rerank.expand_queries(queries, items, k=k, alpha=alpha), items
        )

    return prepare


def augmented(k: int, expand: int = 0) -> Way:
    """Rank an augmented gallery, by expanded queries where that is asked for."""

    def prepare(gallery: Gallery) -> Ranking:
        items = rerank.augment_gallery(gallery.vectors, k=k)
        if expand:
            return lambda queries: by_cosine(rerank.expand_queries(queries, items, k=expand), items)
        return lambda queries: by_cosine(queries, items)

    return prepare


def reciprocal(gallery: Gallery) -> Ranking:
    """Rank the nearest 100 again by what they share."""
    known = rerank.Neighbourhoods(gallery.vectors)
    known.prepare()
    return lambda queries: known.rank(queries)[0]


def diffused(gallery: Gallery) -> Ranking:
    """Rank by diffusion; what it does not reach follows by cosine."""
    items = gallery.vectors
    return lambda queries: np.argsort(
        -(rerank.diffuse(queries, items) + 1e-6 * (queries @ items.T)), axis=1, kind="stable"
    )


def in_search(how: Rerank | None, augment: int = 0) -> Way:
    """Rank within a search, of an augmented gallery where that is asked for."""

    def prepare(gallery: Gallery) -> Ranking:
        retriever = gallery.retriever
        if augment:
            retriever = retriever.augmented(augment)
        retriever.search_vectors(gallery.queries[:1], _HITS, rerank=how)  # what is done once
        places = {key: row for row, key in enumerate(retriever)}

        def rank(_: Embeddings) -> NDArray[np.int64]:
            found = retriever.search_vectors(gallery.queries, _HITS, rerank=how)
            return np.array([[places[hit.key] for hit in hits] for hits in found])

        return rank

    return prepare


WAYS: dict[str, Way] = {
    "cosine": plain,
    "average query expansion, 3": expanded(0, 3),
    "alpha query expansion, 10": expanded(3, 10),
    "augmented gallery, 10": augmented(10),
    "both": augmented(10, 10),
    "k-reciprocal, 100": reciprocal,
    "diffusion": diffused,
    "plain search": in_search(None),
    "average-qe in search": in_search("average-qe"),
    "alpha-qe in search": in_search("alpha-qe"),
    "k-reciprocal in search": in_search("k-reciprocal"),
    "the same, 200 candidates": in_search(KReciprocal(candidates=200)),
    "diffusion in search": in_search("diffusion"),
    "alpha-qe, k-reciprocal": in_search(("alpha-qe", "k-reciprocal")),
    "augmented(10) and alpha-qe": in_search("alpha-qe", augment=10),
}


def main() -> None:
    """Print a table for the embeddings as they are, and one after adapting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("valid", type=Path)
    parser.add_argument("--embedder", default="general")
    parser.add_argument("--out", type=Path, help="Folder for JSON, Markdown and the plot.")
    options = parser.parse_args()
    retriever = Retriever(embedder=options.embedder, dtype="float32")
    retriever.add_folder(options.train, labels="parent", progress=False)
    paths = sorted(options.valid.glob("*/*.jpg"))
    queries = retriever.embed(paths)
    labels = np.array([retriever[key].label for key in retriever])
    wanted = np.array([path.parent.name for path in paths])
    rows = _rows("as they are", retriever, queries, wanted, labels)
    retriever.adapt()
    if retriever.projection is None:
        print("adapt found nothing to gain")
    else:
        rows += _rows("adapted", retriever, queries, wanted, labels)
    series: dict[str, list[Point]] = {}
    for row in rows:
        series.setdefault(row["embeddings"], []).append(
            (max(row["ms"], 1e-3), row["mAP@100"], row["way"])
        )
    save(
        options.out,
        "rerank",
        rows,
        title=f"Re-ranking: {len(paths)} queries, {len(retriever)} items, {options.embedder}",
        plots={
            "rerank": plot(
                series,
                title="mAP@100 against what a query costs",
                x=Axis("ms a query", log=True),
                y=Axis("mAP@100"),
                best=False,
            )
        },
    )


def _rows(
    title: str,
    retriever: Retriever,
    embeddings: Embeddings,
    wanted: NDArray[np.str_],
    labels: NDArray[np.str_],
) -> list[dict[str, Any]]:
    queries, items = embeddings, retriever.embeddings()
    if retriever.projection is not None:
        queries, items = map(retriever.projection.apply, (queries, items))
    queries, items = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries, items))
    gallery = Gallery(items, retriever, embeddings)
    count = (wanted[:, None] == labels).sum(axis=1)
    rest = by_cosine(queries, items)
    rows: list[dict[str, Any]] = []
    for name, way in WAYS.items():
        started = time.perf_counter()
        rank = way(gallery)
        prepared = time.perf_counter()
        first = rank(queries)
        ended = time.perf_counter()
        relevant = labels[_completed(first, rest)] == wanted[:, None]
        precise = [average_precision_at_k(relevant, count, len(items), denominator="r").mean()]
        precise += [
            average_precision_at_k(relevant, count, k, denominator="min_k_r").mean()
            for k in (100, 5)
        ]
        rows.append(
            {
                "embeddings": title,
                "way": name,
                **dict(zip(("mAP", "mAP@100", "mAP@5"), map(float, precise), strict=True)),
                "top-1": float(top_k_accuracy(relevant, 1).mean()),
                "once s": prepared - started,
                "ms": 1000 * (ended - prepared) / len(queries),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _completed(first: NDArray[np.int64], rest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return rankings of the whole gallery: what was ranked, then the others in their order."""
    done = np.zeros(rest.shape, dtype=bool)
    np.put_along_axis(done, first, values=True, axis=1)
    left = ~np.take_along_axis(done, rest, axis=1)
    return np.concatenate([first, rest[left].reshape(len(rest), -1)], axis=1)


if __name__ == "__main__":
    main()
