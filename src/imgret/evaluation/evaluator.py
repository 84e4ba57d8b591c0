"""Evaluation of a gallery: searches with every query and returns a report."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from imgret.abc import Cropper, Embedder
from imgret.errors import InvalidInputError
from imgret.evaluation.ground_truth import GroundTruth
from imgret.evaluation.judge import Judge
from imgret.evaluation.queries import (
    Queries,
    Query,
    QueryLabels,
    ask_images,
    ask_stored,
    query_sources,
)
from imgret.evaluation.report import Report
from imgret.images import MAX_PIXELS
from imgret.ingest.progress import progress_bar
from imgret.search import View
from imgret.support.checks import check_count, check_seed
from imgret.support.given import threshold_or_none
from imgret.types import Json
from imgret.version import __version__

__all__ = ["evaluate"]

# Queries per search. Each search disturbs the threads that embed, so there are few of them.
_BLOCK_QUERIES = 1024


def evaluate(
    view: View,
    embedder: Embedder | None = None,
    cropper: Cropper | None = None,
    *,
    queries: Queries | None = None,
    labels: QueryLabels | None = None,
    k: Iterable[int] = (1, 5, 10),
    near_identical: float = 0.98,
    n_resamples: int = 1000,
    seed: int = 0,
    threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: bool | None = False,
) -> Report:
    """Evaluate a gallery with queries, or with its labelled items: see `Retriever.evaluate`.

    Parameters
    ----------
    view : View
        If it is not exact, it is searched once as users search it, for the metrics at ``k``, and
        once more to the depth that mAP@R and MRR need.
    embedder, cropper
        Embedder and cropper of the gallery, needed only if there are ``queries``.
    queries, labels, k, near_identical, n_resamples, seed, threads, progress
        As for `Retriever.evaluate`.
    max_pixels : int
        As for `Retriever`.
    """
    started = time.perf_counter()
    ks = _check_ks(k)
    n_resamples, seed = check_count(n_resamples, "n_resamples"), check_seed(seed)
    if not 0 < (threshold_or_none(near_identical, "near_identical") or 0) <= 1:
        raise InvalidInputError(
            f"near_identical: expected a cosine above 0 and up to 1, found {near_identical!r}"
        )
    if threads is not None:
        check_count(threads, "threads")
    if queries is None and labels is not None:
        raise InvalidInputError(
            "labels: expected None without queries, because items of the gallery have their own "
            f"labels, found {labels!r:.80}"
        )
    sources = None if queries is None else query_sources(queries, labels)
    truth = GroundTruth(view)
    stages: dict[str, float] = {}

    def add_stage(stage: str, seconds: float) -> None:
        stages[stage] = stages.get(stage, 0.0) + seconds

    if sources is None or embedder is None or cropper is None:
        total, runs = len(truth.labelled), ask_stored(view, truth)
    else:
        total = len(sources)
        runs = ask_images(
            sources,
            view,
            truth,
            embedder,
            cropper,
            threads=threads,
            max_pixels=max_pixels,
            on_stage=add_stage,
        )
    judge = Judge(
        view,
        truth,
        ks,
        total,
        near_identical=near_identical,
        stored=sources is None,
    )
    bar = progress_bar(progress, total=total, unit="query", desc="evaluating")
    with bar:
        for block in _blocks(runs):
            began = time.perf_counter()
            judge.take(block)
            add_stage("search", time.perf_counter() - began)
            bar.update(len(block))
    config: Json = {
        "imgret": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "leave_one_out": sources is None,
        "queries": str(queries) if isinstance(queries, (str, os.PathLike)) else None,
        "n_items": truth.size,
        "n_classes": len(truth.classes),
        "n_unlabelled": truth.size - len(truth.labelled),
        "k": list(ks),
        **view.facts(),
        "self_match": "items of the query's path or sha256 are left out",
        "unreadable": "counted as 0",
        "near_identical": near_identical,
        "bootstrap": {"n_resamples": n_resamples, "confidence": 0.95, "seed": seed},
    }
    seconds = time.perf_counter() - started
    return judge.report(config, seconds=seconds, stages=stages, max_pixels=max_pixels)


def _check_ks(k: Any) -> tuple[int, ...]:
    try:
        ks = tuple(check_count(n, "k") for n in k)
    except TypeError:
        raise InvalidInputError(
            f"k: expected a sequence of ranks, such as (1, 5, 10), found {k!r}"
        ) from None
    if not ks or len(set(ks)) != len(ks):
        raise InvalidInputError(f"k: expected at least one rank, each only once, found {k!r}")
    return tuple(sorted(ks))


def _blocks(runs: Iterable[Sequence[Query]]) -> Iterator[list[Query]]:
    """Cut runs of any length into blocks."""
    waiting: list[Query] = []
    for run in runs:
        waiting += run
        while len(waiting) >= _BLOCK_QUERIES:
            yield waiting[:_BLOCK_QUERIES]
            waiting = waiting[_BLOCK_QUERIES:]
    if waiting:
        yield waiting
