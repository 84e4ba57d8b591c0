"""Queries of an evaluation: labelled images, or the items of the gallery."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from imgret.abc import Cropper, Embedder
from imgret.errors import InvalidInputError
from imgret.evaluation.ground_truth import GroundTruth
from imgret.ingest import Source, embed_sources, one_each, path_of
from imgret.ingest.folder import find_images
from imgret.search import View
from imgret.support.given import label_or_none, many_images
from imgret.types import Embeddings, ImageLike

__all__ = ["Queries", "QueryLabels", "ask_images", "ask_stored", "query_sources"]

Queries: TypeAlias = str | os.PathLike[str] | Iterable[ImageLike]
QueryLabels: TypeAlias = Sequence[str] | str | Callable[[Any], str | None] | Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Query:
    """A labelled query.

    Attributes
    ----------
    name : str
    label : str
    image : ImageLike or None
        Image to show in a report.
    vector : float32 array of shape (dim,) or None
        Embedding; None if the image could not be read.
    itself : list of int
        Ids of the items that are this very image.
    reason : str
        Reason why the image could not be read.
    sha256 : bytes or None
        Digest of its file.
    """

    name: str
    label: str
    image: ImageLike | None
    vector: Embeddings | None
    itself: list[int]
    reason: str = ""
    sha256: bytes | None = None


def query_sources(queries: Queries, labels: QueryLabels | None) -> list[Source]:
    """Return the queries with names and labels, without reading any image.

    Raises
    ------
    ImageNotFoundError
        The folder does not exist.
    InvalidInputError
        There are no queries, or a label is missing or is not text.
    """
    folder = Path(queries) if isinstance(queries, (str, os.PathLike)) else None
    images: list[ImageLike] = (
        many_images(queries, "queries", single="a single one goes in as [image], a folder by path")
        if folder is None
        else list(find_images(folder)[0])
    )
    if not images:
        raise InvalidInputError(
            f"queries: expected at least one image, found none{f' in {folder}' if folder else ''}"
        )
    root = None if folder is None else str(folder.absolute())
    sources = []
    for number, image in enumerate(images, 1):
        path = path_of(image)
        name = f"query-{number:06d}" if path is None else str(image)
        if root is not None:  # five times as fast as relative_to
            name = os.path.relpath(str(path), root).replace(os.sep, "/")
        sources.append(Source(name.encode("utf-8", "replace").decode(), image, path))
    if folder is not None and labels is None:
        labels = "parent"
    given = [
        label_or_none(label)
        for label in _labels(sources, labels, None if folder is None else folder.absolute())
    ]
    missing = [s.key for s, label in zip(sources, given, strict=True) if label is None]
    if missing:
        raise InvalidInputError(
            f"labels: expected a class name for every query, found none for {len(missing)} of "
            f"{len(sources)}, the first {missing[0]!r}; label them or leave them out"
        )
    for source, label in zip(sources, given, strict=True):
        if not isinstance(label, str):
            raise InvalidInputError(
                f"labels: expected text, like the labels of the gallery, found {label!r} for "
                f"{source.key!r}"
            )
    return [
        Source(source.key, source.image, source.path, str(label))
        for source, label in zip(sources, given, strict=True)
    ]


def _labels(
    sources: Sequence[Source], labels: QueryLabels | None, folder: Path | None
) -> list[str | None]:
    if labels is None:
        raise InvalidInputError(
            "labels: expected one for each query, found None; pass a list, or 'parent' for the "
            "name of the folder of each image"
        )
    if isinstance(labels, Mapping):
        return [labels.get(source.key) for source in sources]
    if isinstance(labels, str) and labels != "parent":
        raise InvalidInputError(
            f"labels: expected a list, 'parent', a callable or a mapping, found {labels!r}"
        )
    if not isinstance(labels, str) and not callable(labels):
        return one_each(labels, len(sources), "labels")
    found: list[str | None] = []
    for source in sources:
        if source.path is None:
            raise InvalidInputError(
                f"labels: expected a list, because {source.key} does not come from a file, found "
                f"{labels!r}"
            )
        if callable(labels):
            found.append(labels(source.path))
        else:
            parent = source.path.parent
            found.append(None if parent == folder else parent.name)
    return found


def ask_images(
    sources: Sequence[Source],
    view: View,
    truth: GroundTruth,
    embedder: Embedder,
    cropper: Cropper,
    *,
    threads: int | None,
    max_pixels: int,
    on_stage: Callable[[str, float], None],
) -> Iterator[list[Query]]:
    """Yield the queries as they are embedded, in order."""
    runs = embed_sources(
        sources,
        embedder,
        cropper,
        refuse=view.refusals,
        threads=threads,
        max_pixels=max_pixels,
        on_stage=on_stage,
    )
    for run in runs:
        yield [
            Query(
                outcome.source.key,
                str(outcome.source.label),
                outcome.source.image,
                outcome.embedding if outcome.status == "ok" else None,
                truth.same_image(outcome.source.path, outcome.sha256),
                outcome.reason,
                outcome.sha256,
            )
            for outcome in run
        ]


def ask_stored(view: View, truth: GroundTruth) -> Iterator[list[Query]]:
    """Yield the labelled items of the gallery, with their stored embeddings."""
    for ids, embeddings in view.embedding_blocks(truth.labelled):
        yield [
            _stored(id_, item, embedding, truth)
            for id_, item, embedding in zip(ids.tolist(), view.items(ids), embeddings, strict=True)
        ]


def _stored(id_: int, item: Any, vector: Embeddings, truth: GroundTruth) -> Query:
    twins = truth.same_image(None, item.sha256)
    itself = [id_, *(twin for twin in twins if twin != id_)]
    return Query(item.key, item.label, item.path, vector, itself, sha256=item.sha256)
