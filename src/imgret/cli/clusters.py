"""``imgret clusters``: groups of similar images."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command
from imgret.cli.paths import PathPrinter, check_writable
from imgret.support.terminal import shown

__all__ = ["clusters"]


@click.command(cls=Command)
@options.gallery
@click.option("-n", type=options.COUNT, help="Number of clusters. [10]")
@click.option(
    "--word",
    multiple=True,
    help="Name to choose from for each cluster; can be repeated. Needs an embedder that "
    "reads text.",
)
@click.option(
    "--cluster", type=click.IntRange(min=0), help="Print the images of this cluster only."
)
@options.listed
def clusters(
    *,
    gallery: GalleryPlace,
    n: int | None,
    word: tuple[str, ...],
    cluster: int | None,
    json_: bool,
    paths: bool,
    null: bool,
    html: Path | None,
    max_pixels: int,
) -> None:
    """Divide a gallery into groups of similar images.

    imgret clusters photos.imgret -n 20 --html clusters.html
    imgret clusters photos.imgret -n 20 -l > one-of-each.txt
    imgret clusters photos.imgret -n 20 --cluster 3 -0 | xargs -0 cp -t third/

    The largest comes first, each with its most typical image. With -l or -0 the path of that image
    is printed: a small sample of all there is.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    check_writable(html, "--html")
    printer = PathPrinter.of(paths=paths, null=null, json=json_)
    with Retriever.open(gallery, max_pixels=max_pixels) as retriever:
        number = n if n is not None else max(1, min(10, len(retriever)))
        found = retriever.clusters(number, words=word or None)
        keys = found.representatives if cluster is None else found.members(cluster)
        if printer is not None:
            printer.print((key, retriever[key].path) for key in keys)
    if printer is not None:
        printer.close()
    elif json_:
        click.echo(found.to_json())
    elif cluster is not None:
        click.echo("\n".join(map(shown, keys)))
    else:
        click.echo(str(found))
    if html is not None:
        page = found.to_html(title=f"Clusters of {gallery.name}")
        html.write_text(page, encoding="utf-8", errors="replace")
        click.echo(f"wrote {html}", err=True)
