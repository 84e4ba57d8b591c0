"""``imgret classify``: labels for images."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from imgret.cli.options import MAX_PIXELS, CropperAt, EmbedderAt, LabelledAt, MaxPixels
from imgret.cli.paths import Queries, path
from imgret.support.terminal import shown

__all__ = ["classify"]


def classify(
    gallery: LabelledAt,
    queries: Annotated[
        list[Any],  # as in `search`
        typer.Argument(
            parser=path,
            help="Images to classify, folders of them, or - for a list on standard input.",
        ),
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="Number of nearest images that vote.")] = 10,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Answer unknown below this confidence. [learned]"),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object per query.")] = False,
    embedder: EmbedderAt = None,
    cropper: CropperAt = None,
    max_pixels: MaxPixels = MAX_PIXELS,
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
    with Retriever.open(
        gallery, embedder=embedder, cropper=cropper, max_pixels=max_pixels
    ) as retriever:
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
            typer.echo(json.dumps(facts) if json_ else f"{shown(str(query))}: {name}")
    images.exit()
