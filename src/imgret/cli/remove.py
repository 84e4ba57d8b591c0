"""``imgret remove``: images out of a gallery."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from imgret.cli.options import GalleryAt, Json

__all__ = ["remove"]


def remove(
    gallery: GalleryAt,
    keys: Annotated[list[str], typer.Argument(help="Keys of the images to take out.")],
    json_: Json = False,
) -> None:
    """Take images out of a gallery; the files stay where they are."""
    from imgret.retriever import Retriever  # noqa: PLC0415

    with Retriever.open(gallery, "r+") as retriever:
        removed = retriever.remove(keys)
        left = len(retriever)
    if json_:
        typer.echo(json.dumps({"removed": removed, "left": left}))
    else:
        typer.echo(f"removed {removed}; {left} images left")
