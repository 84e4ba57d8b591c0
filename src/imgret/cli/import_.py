"""``imgret import``: a gallery from a table of vectors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.options import Json, OutputAt

__all__ = ["import_file"]


def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help=".parquet or .npz file of `imgret export` or of another program; a folder of "
            "Parquet shards; or a .csv file of `imgret export`, whose labels and metadata replace "
            "those of the gallery.",
        ),
    ],
    output: OutputAt,
    embedder: Annotated[
        str | None,
        typer.Option(
            help="Model that made the vectors: needed for the file of another program; else its "
            "new path, if it was moved."
        ),
    ] = None,
    key_column: Annotated[
        str | None, typer.Option(help="Column of the keys. [key, id, image_path or the like]")
    ] = None,
    vector_column: Annotated[
        str | None, typer.Option(help="Column of the vectors. [vector, embedding or the like]")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="With the file of another program: cosine, ip or l2. [cosine]"),
    ] = None,
    json_: Json = False,
) -> None:
    """Make a gallery from a table, or add to one.

    imgret import photos.parquet -o photos.imgret

    No image is read. Images that the gallery has already are left as they are. Nothing is added if
    one of them differs, or if a row is not valid.
    """
    from imgret.transfer import import_items  # noqa: PLC0415  # so that --help is quick

    done = import_items(
        file,
        os.fspath(output),
        key=key_column,
        vector=vector_column,
        embedder=embedder,
        metric=metric,  # type: ignore[arg-type]  # checked there
    )
    if json_:
        facts = {"gallery": str(output), "items": done.total, "added": done.added}
        facts |= {"changed": done.changed, "unchanged": done.unchanged}
        typer.echo(json.dumps(facts))
        return
    if done.columns:
        typer.echo(f"imgret: {file}: {done.columns}", err=True)
    counts = (("added", done.added), ("changed", done.changed), ("unchanged", done.unchanged))
    changes = ", ".join(f"{count:,} {name}" for name, count in counts if count)
    images = "image" if done.total == 1 else "images"
    typer.echo(f"{output}: {done.total:,} {images}" + (f" ({changes})" if changes else ""))
