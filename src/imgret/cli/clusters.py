"""``imgret clusters``: groups of similar images."""

from __future__ import annotations

from typing import Annotated

import typer

from imgret.cli.options import MAX_PIXELS, GalleryAt, Json, MaxPixels, Null, Page, Paths
from imgret.cli.paths import PathPrinter, check_writable
from imgret.support.terminal import shown

__all__ = ["clusters"]


def clusters(
    gallery: GalleryAt,
    n: Annotated[int | None, typer.Option("-n", min=1, help="Number of clusters. [10]")] = None,
    word: Annotated[
        list[str] | None,
        typer.Option(
            "--word",
            help="Name to choose from for each cluster; can be repeated. Needs an embedder that "
            "reads text.",
        ),
    ] = None,
    cluster: Annotated[
        int | None,
        typer.Option("--cluster", min=0, help="Print the images of this cluster only."),
    ] = None,
    json_: Json = False,
    paths: Paths = False,
    null: Null = False,
    html: Page = None,
    max_pixels: MaxPixels = MAX_PIXELS,
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
        found = retriever.clusters(number, words=word)
        keys = found.representatives if cluster is None else found.members(cluster)
        if printer is not None:
            printer.print((key, retriever[key].path) for key in keys)
    if printer is not None:
        printer.close()
    elif json_:
        typer.echo(found.to_json())
    elif cluster is not None:
        typer.echo("\n".join(map(shown, keys)))
    else:
        typer.echo(str(found))
    if html is not None:
        page = found.to_html(title=f"Clusters of {gallery.name}")
        html.write_text(page, encoding="utf-8", errors="replace")
        typer.echo(f"wrote {html}", err=True)
