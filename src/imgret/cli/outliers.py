"""``imgret outliers``: images that are unlike the rest."""

from __future__ import annotations

from typing import Annotated

import typer

from imgret.cli.options import MAX_PIXELS, GalleryAt, Json, MaxPixels, Null, Page, Paths
from imgret.cli.paths import PathPrinter, check_writable
from imgret.support.terminal import shown

__all__ = ["outliers"]


def outliers(
    gallery: GalleryAt,
    n: Annotated[int, typer.Option("-n", min=1, help="Number of images to list.")] = 20,
    k: Annotated[
        int, typer.Option("-k", min=1, help="Neighbours that each image is compared with.")
    ] = 10,
    json_: Json = False,
    paths: Paths = False,
    null: Null = False,
    html: Page = None,
    max_pixels: MaxPixels = MAX_PIXELS,
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
        typer.echo(found.to_json())
    else:
        width = max((len(item.label or "") for item in items), default=0)
        for outlier, item in zip(found, items, strict=True):
            named = f"{shown(item.label or ''):<{width}}  {shown(item.key)}".strip()
            typer.echo(f"{outlier.score:.4f}  {named}")
        typer.echo(f"the {len(found):,} of {total:,} images that are least like others", err=True)
    if html is not None:
        page = found.to_html(title=f"Outliers of {gallery.name}")
        html.write_text(page, encoding="utf-8", errors="replace")
        typer.echo(f"wrote {html}", err=True)
