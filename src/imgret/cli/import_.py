"""``imgret import``: a gallery from a table of vectors."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Argument, Command

__all__ = ["import_file"]


@click.command("import", cls=Command)
@click.argument(
    "file",
    cls=Argument,
    type=options.PATH,
    help=".parquet or .npz file of `imgret export` or of another program; a folder of "
    "Parquet shards; or a .csv file of `imgret export`, whose labels and metadata replace "
    "those of the gallery.",
)
@options.output_gallery
@click.option(
    "--embedder",
    help="Model that made the vectors: needed for the file of another program; else its "
    "new path, if it was moved.",
)
@click.option("--key-column", help="Column of the keys. [key, id, image_path or the like]")
@click.option("--vector-column", help="Column of the vectors. [vector, embedding or the like]")
@click.option("--metric", help="With the file of another program: cosine, ip or l2. [cosine]")
@options.json
def import_file(
    *,
    file: Path,
    output: GalleryPlace,
    embedder: str | None,
    key_column: str | None,
    vector_column: str | None,
    metric: str | None,
    json_: bool,
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
        click.echo(json.dumps(facts))
        return
    if done.columns:
        click.echo(f"imgret: {file}: {done.columns}", err=True)
    counts = (("added", done.added), ("changed", done.changed), ("unchanged", done.unchanged))
    changes = ", ".join(f"{count:,} {name}" for name, count in counts if count)
    images = "image" if done.total == 1 else "images"
    click.echo(f"{output}: {done.total:,} {images}" + (f" ({changes})" if changes else ""))
