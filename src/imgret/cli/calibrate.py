"""``imgret calibrate``: probabilities for scores."""

from __future__ import annotations

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command

__all__ = ["calibrate"]


@click.command(cls=Command)
@options.labelled_gallery
@click.option("--method", default="isotonic", help="isotonic, or logistic for few images.")
@click.option("-k", type=options.COUNT, default=50, help="Neighbours compared with each image.")
@click.option("--text", is_flag=True, help="Calibrate searches by words: each label is a query.")
@click.option("--template", default="a photo of a {}", help="With --text: description of a label.")
@options.json
def calibrate(
    *, gallery: GalleryPlace, method: str, k: int, text: bool, template: str, json_: bool
) -> None:
    """Learn from the labels how likely a hit is to be right.

    imgret calibrate photos.imgret
    imgret search photos.imgret query.jpg --precision 0.9
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    with Retriever.open(gallery, "r+") as retriever:
        if text:
            report = retriever.calibrate_text(template=template, method=method, k=k)  # type: ignore[arg-type]  # checked there
        else:
            report = retriever.calibrate(method=method, k=k)  # type: ignore[arg-type]  # checked there
    click.echo(report.to_json() if json_ else str(report))
