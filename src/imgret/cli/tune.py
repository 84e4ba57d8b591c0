"""``imgret tune``: the fastest search settings that reach a recall."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.options import MAX_PIXELS, CropperAt, EmbedderAt, GalleryAt, MaxPixels
from imgret.cli.paths import check_writable

__all__ = ["tune"]


def tune(
    gallery: GalleryAt,
    recall: Annotated[float, typer.Option(help="Share of the true neighbours to find.")] = 0.95,
    k: Annotated[int, typer.Option("-k", help="Neighbours per query.")] = 10,
    queries: Annotated[
        Path | None,
        typer.Option(help="Folder of query images. [items of the gallery]"),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the plot as SVG.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    embedder: EmbedderAt = None,
    cropper: CropperAt = None,
    max_pixels: MaxPixels = MAX_PIXELS,
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
            raise typer.BadParameter(
                f"{queries}: expected a folder, found {found}", param_hint="--queries"
            )
        images, _ = find_images(queries)
    with Retriever.open(
        gallery, "r+", embedder=embedder, cropper=cropper, max_pixels=max_pixels
    ) as retriever:
        tuning = retriever.tune(recall, k, queries=images)
    if plot is not None:
        plot.write_text(tuning.to_svg(), encoding="utf-8")
        typer.echo(f"wrote {plot}", err=True)
    typer.echo(json.dumps(tuning.to_dict()) if json_ else str(tuning))
