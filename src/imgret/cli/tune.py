"""``imgret tune``: the fastest search settings that reach a recall."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command
from imgret.cli.paths import check_writable

__all__ = ["tune"]


@click.command(cls=Command)
@options.gallery
@click.option("--recall", default=0.95, help="Share of the true neighbours to find.")
@click.option("-k", default=10, help="Neighbours per query.")
@click.option("--queries", type=options.PATH, help="Folder of query images. [items of the gallery]")
@click.option("--plot", type=options.PATH, help="Write the plot as SVG.")
@options.json
@options.opening
def tune(
    *,
    gallery: GalleryPlace,
    recall: float,
    k: int,
    queries: Path | None,
    plot: Path | None,
    json_: bool,
    **opening: Any,
) -> None:
    """Find the fastest search settings that reach a recall.

    imgret tune photos.imgret --recall 0.95 --plot tuning.svg

    The settings are stored in the gallery. Without --queries, the recall holds for queries that may
    be somewhat farther from the items than these are from each other (column "farther").
    """
    from imgret.ingest.folder import find_images  # noqa: PLC0415  # so that --help is quick
    from imgret.retriever import Retriever  # noqa: PLC0415

    check_writable(plot, "--plot", "a file")
    images = None
    if queries is not None:
        if not queries.is_dir():
            found = "a file" if queries.exists() else "nothing"
            raise click.BadParameter(
                f"{queries}: expected a folder, found {found}", param_hint="--queries"
            )
        images, _ = find_images(queries)
    with Retriever.open(gallery, "r+", **opening) as retriever:
        tuning = retriever.tune(recall, k, queries=images)
    if plot is not None:
        plot.write_text(tuning.to_svg(), encoding="utf-8")
        click.echo(f"wrote {plot}", err=True)
    click.echo(json.dumps(tuning.to_dict()) if json_ else str(tuning))
