"""``imgret relocate``: new paths for the model files of a gallery."""

from __future__ import annotations

import json

import typer

from imgret.cli.options import CropperAt, EmbedderAt, GalleryAt, Json

__all__ = ["relocate"]


def relocate(
    gallery: GalleryAt,
    embedder: EmbedderAt = None,
    cropper: CropperAt = None,
    json_: Json = False,
) -> None:
    """Store new paths of the model files of a gallery.

    imgret relocate photos.imgret --embedder models/mine.onnx

    They must be the files that the gallery was made with.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    if embedder is None and cropper is None:
        raise typer.BadParameter(
            "expected --embedder or --cropper with the new path of a model, found neither"
        )
    with Retriever.open(gallery, "r+", embedder=embedder, cropper=cropper):
        pass
    if json_:
        facts = {"gallery": str(gallery), "embedder": embedder, "cropper": cropper}
        typer.echo(json.dumps(facts))
    else:
        typer.echo(f"{gallery}: {' and '.join(at for at in (embedder, cropper) if at)}")
