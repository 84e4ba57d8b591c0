"""``imgret evaluate``: retrieval metrics of a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Argument, Command
from imgret.cli.paths import check_writable

__all__ = ["evaluate"]


@click.command(cls=Command)
@options.labelled_gallery
@click.argument(
    "folder",
    cls=Argument,
    required=False,
    type=options.PATH,
    help="Folder of queries. [the items of the gallery]",
)
@click.option(
    "--labels", default="parent", help="'parent': the label of a query is the name of its folder."
)
@click.option(
    "--leave-one-out", is_flag=True, help="Search with each item for the others; no FOLDER."
)
@click.option(
    "--all", "all_", is_flag=True, help="Print all metrics, such as recall, nDCG and MRR."
)
@options.json
@click.option(
    "--html", type=options.PATH, help="Write an HTML page with all classes and the worst queries."
)
@click.option("--save", type=options.PATH, help="Write the report as JSON, for `imgret compare`.")
@options.opening
def evaluate(
    *,
    gallery: GalleryPlace,
    folder: Path | None,
    labels: str,
    leave_one_out: bool,
    all_: bool,
    json_: bool,
    html: Path | None,
    save: Path | None,
    **opening: Any,
) -> None:
    """Measure how well queries find images of their class.

    imgret evaluate photos.imgret --all
    imgret evaluate photos.imgret queries --html report.html

    Without a folder of queries, each image of the gallery is searched for the others. Prints
    top-1 and top-5 accuracy, mAP@5 (divided by min(5, R) for R images of the class) and mAP@R,
    each with its 95 % interval. Exits with 3 if some of the queries could not be read, and with 1
    if none could.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415

    if labels != "parent":
        raise click.BadParameter(f"expected 'parent', found {labels!r}", param_hint="--labels")
    if folder is not None and leave_one_out:
        raise click.BadParameter(
            f"expected no FOLDER, as the items of the gallery are the queries, found {folder}",
            param_hint="--leave-one-out",
        )
    if folder is not None and not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise click.BadParameter(f"{folder}: expected a folder, found {found}", param_hint="FOLDER")
    check_writable(html, "--html")
    check_writable(save, "--save", "a report")
    if save is not None and save.suffix.lower() != ".json":
        raise click.BadParameter(
            f"{save}: expected a file name that ends in .json", param_hint="--save"
        )
    with Retriever.open(gallery, **opening) as retriever:
        report = retriever.evaluate(folder, progress=None)
    if json_:
        click.echo(report.to_json())
        for warning in report.warnings:
            click.echo(f"imgret: warning: {warning}", err=True)
    else:
        click.echo(str(report) if all_ else report.summary())
        more = "" if all_ else f"; --all prints all {len(report.values)}"
        click.echo(f"means over the queries, with 95 % intervals{more}", err=True)
    if html is not None:
        page = report.to_html(title=f"Evaluation of {gallery.name}")
        html.write_text(page, encoding="utf-8", errors="replace")
        click.echo(f"wrote {html}", err=True)
    if save is not None:
        report.save(save)
        click.echo(f"wrote {save}", err=True)
    if report.failed:
        raise click.exceptions.Exit(3 if len(report.failed) < report.n_queries else 1)
