"""``imgret export``: the items of a gallery as a table."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Argument, Command
from imgret.cli.paths import check_writable
from imgret.cli.where import filter_of, where_option

__all__ = ["export"]


@click.command(cls=Command)
@options.gallery
@click.argument(
    "file",
    cls=Argument,
    type=options.PATH,
    help="File to write: .parquet, .npz, or .csv, which has no vectors.",
)
@where_option
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@options.json
def export(
    *, gallery: GalleryPlace, file: Path, where: str | None, force: bool, json_: bool
) -> None:
    """Write the items of a gallery to a table.

    imgret export photos.imgret photos.parquet
    imgret export photos.imgret roses.csv --where '{"label": "rose"}'

    A table has keys, paths, labels, boxes, metadata and vectors, but in CSV no vectors. No model
    is loaded. `imgret import` makes the gallery again from .parquet and .npz.
    """
    from imgret import registry  # noqa: PLC0415  # so that --help is quick
    from imgret.transfer import FORMATS, GalleryHeader, all_items, export_items  # noqa: PLC0415  # the same

    check_writable(file, "FILE", "a file")
    if file.suffix.lower() not in FORMATS:
        raise click.BadParameter(
            f"{file}: expected a file name that ends in {', '.join(FORMATS)}", param_hint="FILE"
        )
    condition, uri = filter_of(where), os.fspath(gallery)
    with closing(registry.gallery(uri).open(uri, writable=False)) as opened:
        view = all_items(opened, condition)
        count = export_items(view, GalleryHeader.of(opened), file, overwrite=force)
    size = file.stat().st_size
    if json_:
        click.echo(json.dumps({"file": str(file), "items": count, "bytes": size}))
    else:
        images = "image" if count == 1 else "images"
        shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
        click.echo(f"{file}: {count:,} {images}, {shown}")
