"""``imgret relocate``: new paths for the model files of a gallery."""

from __future__ import annotations

import json

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command

__all__ = ["relocate"]


@click.command(cls=Command)
@options.gallery
@options.embedder
@options.cropper
@options.json
def relocate(
    *, gallery: GalleryPlace, embedder: str | None, cropper: str | None, json_: bool
) -> None:
    """Store new paths of the model files of a gallery.

    imgret relocate photos.imgret --embedder models/mine.onnx

    They must be the files that the gallery was made with.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    if embedder is None and cropper is None:
        raise click.BadParameter(
            "expected --embedder or --cropper with the new path of a model, found neither"
        )
    with Retriever.open(gallery, "r+", embedder=embedder, cropper=cropper):
        pass
    if json_:
        facts = {"gallery": str(gallery), "embedder": embedder, "cropper": cropper}
        click.echo(json.dumps(facts))
    else:
        click.echo(f"{gallery}: {' and '.join(at for at in (embedder, cropper) if at)}")
