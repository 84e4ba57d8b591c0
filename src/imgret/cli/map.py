"""``imgret map``: a map of a gallery as an HTML page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.options import MAX_PIXELS, Json, MaxPixels
from imgret.cli.paths import check_writable

__all__ = ["draw_map"]


def draw_map(
    gallery: Annotated[Path, typer.Argument(help="Directory of the gallery.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML page to write.")],
    method: Annotated[str, typer.Option(help="pca, or umap with the extra imgret[umap].")] = "pca",
    max_pixels: MaxPixels = MAX_PIXELS,
    json_: Json = False,
) -> None:
    """Write a page with every image as a point; similar images lie close together."""
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    check_writable(output, "--output")
    if method not in {"pca", "umap"}:
        raise typer.BadParameter(f"expected pca or umap, found {method!r}", param_hint="--method")
    with Retriever.open(gallery, max_pixels=max_pixels) as retriever:
        map2d = retriever.map2d(method)  # type: ignore[arg-type]  # checked above
    page = map2d.to_html(title=f"Map of {gallery.name}")
    output.write_text(page, encoding="utf-8", errors="replace")
    if json_:
        facts = {"page": str(output), "method": method, "items": len(map2d.keys)}
        typer.echo(json.dumps(facts))
    else:
        typer.echo(f"wrote {output}", err=True)
