"""``imgret crop-report``: the effect of cropping on retrieval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command
from imgret.cli.paths import check_writable

__all__ = ["crop_report"]


@click.command(cls=Command)
@options.labelled_gallery
@click.option("--cropper", help="Name or model file of the cropper. [the gallery's, or saliency]")
@options.json
@click.option("--html", type=options.PATH, help="Write an HTML page with the crops that cost most.")
@options.embedder
@options.max_pixels
def crop_report(
    *,
    gallery: GalleryPlace,
    cropper: str | None,
    json_: bool,
    html: Path | None,
    **opening: Any,
) -> None:
    """Measure what cropping to the subject would change.

    imgret crop-report photos.imgret
    imgret crop-report photos.imgret --cropper spectral --html crops.html

    Whole images, crops, and both together are compared; every image is read again.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    check_writable(html, "--html")
    with Retriever.open(gallery, **opening) as retriever:
        report = retriever.crop_report(cropper)
    click.echo(report.to_json() if json_ else str(report))
    if html is not None:
        report.save(html)
        click.echo(f"wrote {html}", err=True)
