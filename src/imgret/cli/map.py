"""``imgret map``: a map of a gallery as an HTML page."""

from __future__ import annotations

import json
from pathlib import Path

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command
from imgret.cli.paths import check_writable

__all__ = ["draw_map"]


@click.command("map", cls=Command)
@options.gallery
@click.option("-o", "--output", required=True, type=options.PATH, help="HTML page to write.")
@click.option(
    "--method",
    default="auto",
    help="tsne (needs imgret[map]), umap (needs imgret[umap]), pca, or auto: tsne if it is "
    "installed, pca otherwise.",
)
@options.max_pixels
@options.json
def draw_map(
    *, gallery: GalleryPlace, output: Path, method: str, max_pixels: int, json_: bool
) -> None:
    """Draw a map on which similar images lie close together.

    imgret map photos.imgret -o map.html

    The page zooms, enlarges images, searches keys and labels, and selects with a lasso.
    """
    from imgret.curation.map2d import METHODS  # noqa: PLC0415  # so that --help is quick
    from imgret.retriever import Retriever  # noqa: PLC0415

    check_writable(output, "--output")
    if method not in METHODS:
        expected = ", ".join(METHODS)
        raise click.BadParameter(
            f"expected one of {expected}, found {method!r}", param_hint="--method"
        )
    with Retriever.open(gallery, max_pixels=max_pixels) as retriever:
        map2d = retriever.map2d(method, progress=None)
    page = map2d.to_html(title=f"Map of {gallery.name}")
    if map2d.note:
        click.echo(map2d.note, err=True)
    output.write_text(page, encoding="utf-8", errors="replace")
    if json_:
        facts = {"page": str(output), "method": map2d.method, "items": len(map2d.keys)}
        click.echo(json.dumps(facts))
    else:
        click.echo(f"wrote {output}", err=True)
