"""``imgret duplicates``: images that are almost the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["duplicates"]


def duplicates(
    gallery: Annotated[Path, typer.Argument(help="Directory of the gallery.")],
    threshold: Annotated[float, typer.Option(help="Lowest score of two duplicates, such as 0.95.")],
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object per group.")] = False,
) -> None:
    """Find images that are almost the same.

    imgret duplicates photos.imgret --threshold 0.95

    Groups are listed, the largest first.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    with Retriever.open(gallery) as retriever:
        groups = retriever.duplicates(threshold)
    for group in groups:
        if json_:
            typer.echo(json.dumps({"score": group.score, "keys": list(group.keys)}))
            continue
        typer.echo(f"{len(group.keys)} images, score {group.score:.4f}")
        for key in group.keys:
            typer.echo(f"  {key}")
    more = groups.n_removable
    typer.echo(f"{len(groups)} groups; removing {more} images would leave no duplicates", err=True)
