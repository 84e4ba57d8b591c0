"""``imgret adapt``: a projection learned from the labels."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from imgret.cli.options import Json, LabelledAt

__all__ = ["adapt"]


def adapt(
    gallery: LabelledAt,
    dim: Annotated[
        int | None, typer.Option(help="Dimension of the indexed vectors. [classes - 1]")
    ] = None,
    off: Annotated[
        bool, typer.Option("--off", help="Drop the projection; search by the embeddings again.")
    ] = False,
    json_: Json = False,
) -> None:
    """Learn from the labels how to tell the classes apart.

    imgret adapt photos.imgret
    imgret adapt photos.imgret --off

    What is learned is a projection of the stored embeddings; no image is read. Exits with 3 if it
    would not help: the gallery is unchanged, and the report shows why.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    if off and dim is not None:
        raise typer.BadParameter("expected --off or --dim, found both", param_hint="--off")
    with Retriever.open(gallery, "r+") as retriever:
        if off:
            retriever.project(None)
            typer.echo(json.dumps({"projection": None}) if json_ else repr(retriever)[1:-1])
            return
        report = retriever.adapt(dim=dim)
    typer.echo(report.to_json() if json_ else str(report))
    if not report.applied:
        raise typer.Exit(3)
