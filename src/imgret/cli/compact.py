"""``imgret compact``: delete what is left of removed images."""

from __future__ import annotations

import json

import typer

from imgret.cli.options import GalleryAt, Json

__all__ = ["compact"]


def compact(gallery: GalleryAt, json_: Json = False) -> None:
    """Delete what is left of removed images.

    imgret compact photos.imgret

    That gives the space back. The rest is written beside the gallery and takes its place. It
    happens by itself once more than half of the rows, and at least 1,000, are of removed images.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    with Retriever.open(gallery, "r+") as retriever:
        before = _bytes(gallery)
        removed = retriever.compact()
    after = _bytes(gallery)
    if json_:
        typer.echo(json.dumps({"removed": removed, "bytes_before": before, "bytes": after}))
    elif removed:
        typer.echo(f"deleted what was left of {removed:,} removed images")
        typer.echo(f"{before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now", err=True)
    else:
        typer.echo("nothing is left of removed images")


def _bytes(gallery: GalleryAt) -> int:
    path = gallery.directory
    if path is None:
        return 0
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
