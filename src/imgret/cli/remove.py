"""``imgret remove``: remove images from a gallery."""

from __future__ import annotations

import json

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command

__all__ = ["remove"]


@click.command(cls=Command)
@options.gallery
@options.keys("Keys of the images to remove.")
@options.json
def remove(*, gallery: GalleryPlace, keys: tuple[str, ...], json_: bool) -> None:
    """Remove images from a gallery, but not their files.

    imgret remove photos.imgret rose/001.jpg rose/002.jpg
    """
    from imgret.retriever import Retriever  # noqa: PLC0415

    with Retriever.open(gallery, "r+") as retriever:
        removed = retriever.remove(keys)
        left = len(retriever)
    if json_:
        click.echo(json.dumps({"removed": removed, "left": left}))
    else:
        click.echo(f"removed {removed:,}; {left:,} {'image' if left == 1 else 'images'} left")
