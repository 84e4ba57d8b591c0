"""``imgret compact``: delete what is left of removed images."""

from __future__ import annotations

import json

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command

__all__ = ["compact"]


@click.command(cls=Command)
@options.gallery
@options.json
def compact(*, gallery: GalleryPlace, json_: bool) -> None:
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
        click.echo(json.dumps({"removed": removed, "bytes_before": before, "bytes": after}))
    elif removed:
        click.echo(f"deleted what was left of {removed:,} removed images")
        click.echo(f"{before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now", err=True)
    else:
        click.echo("nothing is left of removed images")


def _bytes(gallery: GalleryPlace) -> int:
    path = gallery.directory
    if path is None:
        return 0
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
