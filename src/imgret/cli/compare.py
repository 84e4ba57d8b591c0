"""``imgret compare``: two evaluations of the same queries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.options import Json
from imgret.cli.paths import check_writable

__all__ = ["compare"]


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Report that `imgret evaluate` wrote.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Report on the same queries.")],
    metric: Annotated[
        str | None,
        typer.Option(help="Metric that decides, such as top1. [mAP@k (min_k_r), largest k]"),
    ] = None,
    json_: Json = False,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with all classes and what differs.")
    ] = None,
) -> None:
    """Say which of two evaluations is better, and where.

    imgret evaluate photos.imgret queries --save a.json
    imgret reindex photos.imgret --index ivf
    imgret evaluate photos.imgret queries --save b.json
    imgret compare a.json b.json --html comparison.html
    """
    from imgret.evaluation import Report  # noqa: PLC0415  # so that --help is quick
    from imgret.evaluation import compare as compare_reports  # noqa: PLC0415

    check_writable(html, "--html")
    names = (a.name, b.name) if a.name != b.name else (str(a), str(b))
    found = compare_reports(Report.load(a), Report.load(b), metric=metric, names=names)
    typer.echo(found.to_json() if json_ else str(found))
    if html is not None:
        found.save(html)
        typer.echo(f"wrote {html}", err=True)
