"""``imgret outliers``: images that are unlike the rest."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command
from imgret.cli.paths import PathPrinter, check_writable
from imgret.support.terminal import shown

__all__ = ["outliers"]


@click.command(cls=Command)
@options.gallery
@click.option("-n", type=options.COUNT, default=20, help="Number of images to list.")
@click.option(
    "-k",
    type=options.COUNT,
    default=10,
    help="Neighbours that each image is compared with.",
)
@options.listed
def outliers(
    *,
    gallery: GalleryPlace,
    n: int,
    k: int,
    json_: bool,
    paths: bool,
    null: bool,
    html: Path | None,
    max_pixels: int,
) -> None:
    """Find images that are unlike all others.

    imgret outliers photos.imgret --html outliers.html
    imgret outliers photos.imgret -n 50 -0 | xargs -0 mv -t aside/

    The score is the mean similarity of an image to its nearest neighbours; the lowest comes first.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    check_writable(html, "--html")
    printer = PathPrinter.of(paths=paths, null=null, json=json_)
    with Retriever.open(gallery, max_pixels=max_pixels) as retriever:
        found = retriever.outliers(n, k=k)
        items = [retriever[outlier.key] for outlier in found]
        total = len(retriever)
    if printer is not None:
        printer.print((item.key, item.path) for item in items)
        printer.close()
    elif json_:
        click.echo(found.to_json())
    else:
        width = max((len(item.label or "") for item in items), default=0)
        for outlier, item in zip(found, items, strict=True):
            named = f"{shown(item.label or ''):<{width}}  {shown(item.key)}".strip()
            click.echo(f"{outlier.score:.4f}  {named}")
        click.echo(f"the {len(found):,} of {total:,} images that are least like others", err=True)
    if html is not None:
        page = found.to_html(title=f"Outliers of {gallery.name}")
        html.write_text(page, encoding="utf-8", errors="replace")
        click.echo(f"wrote {html}", err=True)
