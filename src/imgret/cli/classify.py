"""``imgret classify``: labels for images."""

from __future__ import annotations

import json
from typing import Any

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Argument, Command
from imgret.cli.paths import Queries, path
from imgret.support.terminal import shown

__all__ = ["classify"]


@click.command(cls=Command)
@options.labelled_gallery
@click.argument(
    "queries",
    cls=Argument,
    nargs=-1,
    required=True,
    type=path,
    help="Images to classify, folders of them, or - for a list on standard input.",
)
@click.option("-k", type=options.COUNT, default=10, help="Number of nearest images that vote.")
@click.option(
    "--threshold",
    type=click.FloatRange(min=0, max=1),
    help="Answer unknown below this confidence. [learned]",
)
@click.option("--json", "json_", is_flag=True, help="Print one JSON object per query.")
@options.opening
def classify(
    *,
    gallery: GalleryPlace,
    queries: tuple[Any, ...],
    k: int,
    threshold: float | None,
    json_: bool,
    **opening: Any,
) -> None:
    """Label images by a vote of their nearest neighbours.

    imgret classify photos.imgret query.jpg
    imgret classify photos.imgret new/ --json

    An image is reported as unknown if the vote is not sure enough. The gallery must have labels.
    Exits with 3 if some of the images could not be read, and with 1 if none could.
    """
    from imgret.errors import ImageError  # noqa: PLC0415  # so that --help is quick
    from imgret.retriever import Retriever  # noqa: PLC0415  # the same

    images = Queries(queries)
    with Retriever.open(gallery, **opening) as retriever:
        for query in images:
            try:
                name = retriever.classify(query, k, threshold=threshold)
            except ImageError as error:
                images.fail(error)
                continue
            images.done += 1
            facts = {
                "query": str(query),
                "label": name.label,
                "confidence": name.confidence,
                "threshold": name.threshold,
                "votes": name.votes,
            }
            click.echo(json.dumps(facts) if json_ else f"{shown(str(query))}: {name}")
    images.exit()
