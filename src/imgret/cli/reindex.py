"""``imgret reindex``: a new index from the stored embeddings."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from imgret.cli.options import GalleryAt, Json

__all__ = ["reindex"]


def reindex(
    gallery: GalleryAt,
    index: Annotated[
        str | None,
        typer.Option(help="flat, ivf-pq, hnsw-sq8, hnsw, ivf, auto, ... [the one in use]"),
    ] = None,
    json_: Json = False,
) -> None:
    """Rebuild the index, or build a different one.

    imgret reindex photos.imgret --index hnsw

    The stored embeddings are used; no image is read.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415

    with Retriever.open(gallery, "r+") as retriever:
        started = time.perf_counter()
        retriever.reindex(index)
        seconds = time.perf_counter() - started
        built, reason = retriever.index, retriever.index_reason
    if json_:
        facts = {"index": built.name, "config": built.config(), "items": len(built)}
        typer.echo(json.dumps({**facts, "reason": reason, "seconds": seconds}))
        return
    typer.echo(f"{built!r} in {seconds:.2f} s")
    if reason is not None:
        typer.echo(reason)
