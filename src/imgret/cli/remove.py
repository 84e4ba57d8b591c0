"""``imgret remove``: remove images from a gallery."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from imgret.cli.complete import complete_keys
from imgret.cli.options import GalleryAt, Json

__all__ = ["remove"]


def remove(
    gallery: GalleryAt,
    keys: Annotated[
        list[str],
        typer.Argument(help="Keys of the images to remove.", autocompletion=complete_keys),
    ],
    json_: Json = False,
) -> None:
    """Remove images from a gallery, but not their files.

    imgret remove photos.imgret rose/001.jpg rose/002.jpg
    """
    from imgret.retriever import Retriever  # noqa: PLC0415

    with Retriever.open(gallery, "r+") as retriever:
        removed = retriever.remove(keys)
        left = len(retriever)
    if json_:
        typer.echo(json.dumps({"removed": removed, "left": left}))
    else:
        typer.echo(f"removed {removed:,}; {left:,} {'image' if left == 1 else 'images'} left")
