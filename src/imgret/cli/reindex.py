"""``imgret reindex``: a new index from the stored embeddings."""

from __future__ import annotations

import json
import time

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command

__all__ = ["reindex"]


@click.command(cls=Command)
@options.gallery
@click.option("--index", help="flat, ivf-pq, hnsw-sq8, hnsw, ivf, auto, ... [the one in use]")
@options.json
def reindex(*, gallery: GalleryPlace, index: str | None, json_: bool) -> None:
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
        click.echo(json.dumps({**facts, "reason": reason, "seconds": seconds}))
        return
    click.echo(f"{built!r} in {seconds:.2f} s")
    if reason is not None:
        click.echo(reason)
