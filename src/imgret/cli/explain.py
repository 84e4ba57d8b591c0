"""``imgret explain``: what makes a query and a hit similar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imgret.cli.complete import complete_keys
from imgret.cli.options import MAX_PIXELS, CropperAt, EmbedderAt, GalleryAt, Json, MaxPixels
from imgret.cli.paths import check_writable, path

__all__ = ["explain"]


def explain(
    gallery: GalleryAt,
    query: Annotated[Any, typer.Argument(parser=path, help="Query image.")],
    key: Annotated[
        str | None,
        typer.Argument(help="Key of the item. [the best hit]", autocompletion=complete_keys),
    ] = None,
    method: Annotated[
        str, typer.Option(help="auto, exact or occlusion; auto is exact where that is possible.")
    ] = "auto",
    json_: Json = False,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with both images, their heat inline.")
    ] = None,
    embedder: EmbedderAt = None,
    cropper: CropperAt = None,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Show which parts of two images make them similar.

    imgret explain photos.imgret query.jpg --html why.html
    imgret explain photos.imgret query.jpg rose/001.jpg
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    check_writable(html, "--html")
    if method not in {"auto", "exact", "occlusion"}:
        raise typer.BadParameter(
            f"expected auto, exact or occlusion, found {method!r}", param_hint="--method"
        )
    with Retriever.open(
        gallery, embedder=embedder, cropper=cropper, max_pixels=max_pixels
    ) as retriever:
        hit = key if key is not None else retriever.search(query, 1)[0]
        explanation = retriever.explain_match(query, hit, method=method)  # type: ignore[arg-type]  # checked above
    typer.echo(explanation.to_json() if json_ else str(explanation))
    if html is not None:
        explanation.save(html)
        typer.echo(f"wrote {html}", err=True)
