"""``imgret classify``: labels for images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.options import MAX_PIXELS, CropperAt, EmbedderAt, MaxPixels

__all__ = ["classify"]


def classify(
    gallery: Annotated[Path, typer.Argument(help="Directory of the gallery, with labels.")],
    queries: Annotated[list[Path], typer.Argument(help="Images to classify.")],
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
    """Classify each image by the vote of its nearest neighbours, or report it as unknown."""
    from imgret.errors import ImageError  # noqa: PLC0415  # so that --help is quick
    from imgret.retriever import Retriever  # noqa: PLC0415  # the same

    done = 0
    with Retriever.open(
        gallery, embedder=embedder, cropper=cropper, max_pixels=max_pixels
    ) as retriever:
        for query in queries:
            try:
                name = retriever.classify(query, k, threshold=threshold)
            except ImageError as error:
                typer.echo(f"imgret: error: {error}", err=True)
                continue
            done += 1
            facts = {
                "query": str(query),
                "label": name.label,
                "confidence": name.confidence,
                "threshold": name.threshold,
                "votes": name.votes,
            }
            typer.echo(json.dumps(facts) if json_ else f"{query}: {name}")
    if done < len(queries):
        raise typer.Exit(3 if done else 1)
