"""A program of a stranger: what it gets has the types that it expects.

``nox -s types`` checks it with mypy and pyright, strictly, against an imgret that is installed.
Each mistake below is marked as one; a checker that lets it pass reports the mark.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from imgret_color import ColorHistogram
from numpy.typing import NDArray
from parts import BrightPart, TableIndex, WorstFirst

from imgret import Hit, Hits, ImgretError, IngestReport, Retriever, datasets, images, metrics
from imgret.curation import Duplicates
from imgret.errors import KeyNotFoundError
from imgret.evaluation import Report
from imgret.search.hits import HitsList
from imgret.types import Box, Item


def search(folder: Path) -> list[str]:
    """Index a folder by parts of our own, and return the keys that an image finds."""
    color = ColorHistogram(bins=4)
    retriever = Retriever(
        embedder=color, cropper=BrightPart(), index=TableIndex(color.dim, "cosine")
    )
    report = retriever.add_folder(folder, labels="parent")
    assert_type(report, IngestReport)
    assert_type([(line.key, line.reason) for line in report.failed], list[tuple[str, str]])

    query = next(folder.rglob("*.jpg"))
    hits = retriever.search(query, k=3, where={"label": {"$exists": True}}, rerank=WorstFirst())
    assert_type(hits, Hits)
    assert_type(hits[0], Hit)
    assert_type(hits[0].score, float)
    assert_type(hits[0].metadata, Mapping[str, Any])
    assert_type(hits.to_json(), str)
    assert_type(retriever.search_many([query, str(query)]), HitsList)

    assert_type(retriever[hits[0].key], Item)
    assert_type(retriever[hits[0].key].box, Box | None)
    assert_type(retriever.embeddings(), NDArray[np.float32])
    assert_type(retriever.evaluate(k=(1, 2)), Report)
    assert_type(retriever.duplicates(), Duplicates)
    assert_type(images.load(query), NDArray[np.uint8])
    assert_type(metrics.reciprocal_rank([[True, False]]), NDArray[np.float64])
    try:
        retriever.remove("not there")
    except KeyNotFoundError as error:
        assert_type(error, KeyNotFoundError)
    return [hit.key for hit in hits]


def mistakes(retriever: Retriever) -> None:
    """Never called."""
    retriever.search("query.jpg", k="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    retriever.search("query.jpg", 3, {"label": "rose"})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    retriever.serach("query.jpg")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    Retriever(metric="euclid")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def flowers(folder: Path) -> list[Path]:
    """Never called: it needs the data set."""
    try:
        return datasets.flowers102(folder).train.paths
    except ImgretError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    print(*search(Path(sys.argv[1])), sep="\n")  # noqa: T201  # what a program does
