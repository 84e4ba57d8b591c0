"""``imgret calibrate``: probabilities for scores."""

from __future__ import annotations

from typing import Annotated

import typer

from imgret.cli.options import LabelledAt

__all__ = ["calibrate"]


def calibrate(
    gallery: LabelledAt,
    method: Annotated[str, typer.Option(help="isotonic, or logistic for few images.")] = "isotonic",
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours compared with each image.")] = 50,
    text: Annotated[
        bool, typer.Option("--text", help="Calibrate searches by words: each label is a query.")
    ] = False,
    template: Annotated[
        str, typer.Option(help="With --text: description of a label.")
    ] = "a photo of a {}",
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
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
    typer.echo(report.to_json() if json_ else str(report))
