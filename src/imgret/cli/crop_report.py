"""``imgret crop-report``: the effect of cropping on retrieval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.options import MAX_PIXELS, EmbedderAt, LabelledAt, MaxPixels
from imgret.cli.paths import check_writable

__all__ = ["crop_report"]


def crop_report(
    gallery: LabelledAt,
    cropper: Annotated[
        str | None,
        typer.Option(help="Name or model file of the cropper. [the gallery's, or saliency]"),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with the crops that cost most.")
    ] = None,
    embedder: EmbedderAt = None,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Measure what cropping to the subject would change.

    imgret crop-report photos.imgret
    imgret crop-report photos.imgret --cropper spectral --html crops.html

    Whole images, crops, and both together are compared; every image is read again.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    check_writable(html, "--html")
    with Retriever.open(gallery, embedder=embedder, max_pixels=max_pixels) as retriever:
        report = retriever.crop_report(cropper)
    typer.echo(report.to_json() if json_ else str(report))
    if html is not None:
        report.save(html)
        typer.echo(f"wrote {html}", err=True)
