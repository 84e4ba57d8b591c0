"""``imgret compare``: two evaluations of the same queries."""

from __future__ import annotations

from pathlib import Path

import click

from imgret.cli import options
from imgret.cli.help import Argument, Command
from imgret.cli.paths import check_writable

__all__ = ["compare"]


@click.command(cls=Command)
@click.argument("a", cls=Argument, type=options.PATH, help="Report that `imgret evaluate` wrote.")
@click.argument("b", cls=Argument, type=options.PATH, help="Report on the same queries.")
@click.option("--metric", help="Metric that decides, such as top1. [mAP@k (min_k_r), largest k]")
@options.json
@click.option(
    "--html", type=options.PATH, help="Write an HTML page with all classes and what differs."
)
def compare(*, a: Path, b: Path, metric: str | None, json_: bool, html: Path | None) -> None:
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
    click.echo(found.to_json() if json_ else str(found))
    if html is not None:
        found.save(html)
        click.echo(f"wrote {html}", err=True)
