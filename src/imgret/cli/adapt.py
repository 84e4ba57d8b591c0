"""``imgret adapt``: a projection learned from the labels."""

from __future__ import annotations

import json

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command

__all__ = ["adapt"]


@click.command(cls=Command)
@options.labelled_gallery
@click.option("--dim", type=int, help="Dimension of the indexed vectors. [classes - 1]")
@click.option("--off", is_flag=True, help="Drop the projection; search by the embeddings again.")
@options.json
def adapt(*, gallery: GalleryPlace, dim: int | None, off: bool, json_: bool) -> None:
    """Learn from the labels how to tell the classes apart.

    imgret adapt photos.imgret
    imgret adapt photos.imgret --off

    What is learned is a projection of the stored embeddings; no image is read. Exits with 3 if it
    would not help: the gallery is unchanged, and the report shows why.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    if off and dim is not None:
        raise click.BadParameter("expected --off or --dim, found both", param_hint="--off")
    with Retriever.open(gallery, "r+") as retriever:
        if off:
            retriever.project(None)
            click.echo(json.dumps({"projection": None}) if json_ else repr(retriever)[1:-1])
            return
        report = retriever.adapt(dim=dim)
    click.echo(report.to_json() if json_ else str(report))
    if not report.applied:
        raise click.exceptions.Exit(3)
