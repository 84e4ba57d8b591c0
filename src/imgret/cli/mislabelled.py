"""``imgret mislabelled``: images whose label may be wrong."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command
from imgret.cli.paths import PathPrinter, check_writable
from imgret.support.terminal import shown

__all__ = ["mislabelled"]


@click.command(cls=Command)
@options.labelled_gallery
@click.option(
    "--threshold",
    type=click.FloatRange(min=0, max=1),
    default=0.5,
    help="Lowest confidence that a label is wrong.",
)
@click.option(
    "-k",
    type=options.COUNT,
    default=20,
    help="Neighbours that vote; about the size of a class.",
)
@options.listed
def mislabelled(
    *,
    gallery: GalleryPlace,
    threshold: float,
    k: int,
    json_: bool,
    paths: bool,
    null: bool,
    html: Path | None,
    max_pixels: int,
) -> None:
    """Find images whose label may be wrong.

    imgret mislabelled photos.imgret --html labels.html
    imgret mislabelled photos.imgret --threshold 0.3

    An image is listed if its neighbours vote for a different label; the confidence is by how much
    that label leads. `imgret adapt` first makes the vote more reliable.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    check_writable(html, "--html")
    printer = PathPrinter.of(paths=paths, null=null, json=json_)
    with Retriever.open(gallery, max_pixels=max_pixels) as retriever:
        issues = retriever.mislabelled(k=k, threshold=threshold)
        if printer is not None:
            printer.print((issue.key, retriever[issue.key].path) for issue in issues)
    if printer is not None:
        printer.close()
    elif json_:
        click.echo(issues.to_json())
    else:
        changes = [f"{shown(issue.label)} -> {shown(issue.suggested)}" for issue in issues]
        width = max(map(len, changes), default=0)
        for issue, change in zip(issues, changes, strict=True):
            click.echo(f"{issue.confidence:.2f}  {change:<{width}}  {shown(issue.key)}")
        click.echo(f"{len(issues):,} labels that may be wrong", err=True)
    if html is not None:
        page = issues.to_html(title=f"Labels of {gallery.name} that may be wrong")
        html.write_text(page, encoding="utf-8", errors="replace")
        click.echo(f"wrote {html}", err=True)
