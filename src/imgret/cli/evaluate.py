"""``imgret evaluate``: retrieval metrics of a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.options import MAX_PIXELS, CropperAt, EmbedderAt, LabelledAt, MaxPixels
from imgret.cli.paths import check_writable

__all__ = ["evaluate"]


def evaluate(
    gallery: LabelledAt,
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of queries. [the items of the gallery]")
    ] = None,
    labels: Annotated[
        str, typer.Option(help="'parent': the label of a query is the name of its folder.")
    ] = "parent",
    leave_one_out: Annotated[
        bool,
        typer.Option("--leave-one-out", help="Search with each item for the others; no FOLDER."),
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="Print all metrics, such as recall, nDCG and MRR.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with all classes and the worst queries.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the report as JSON, for `imgret compare`.")
    ] = None,
    embedder: EmbedderAt = None,
    cropper: CropperAt = None,
    max_pixels: MaxPixels = MAX_PIXELS,
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
        raise typer.BadParameter(f"expected 'parent', found {labels!r}", param_hint="--labels")
    if folder is not None and leave_one_out:
        raise typer.BadParameter(
            f"expected no FOLDER, as the items of the gallery are the queries, found {folder}",
            param_hint="--leave-one-out",
        )
    if folder is not None and not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise typer.BadParameter(f"{folder}: expected a folder, found {found}", param_hint="FOLDER")
    check_writable(html, "--html")
    check_writable(save, "--save", "a report")
    if save is not None and save.suffix.lower() != ".json":
        raise typer.BadParameter(
            f"{save}: expected a file name that ends in .json", param_hint="--save"
        )
    with Retriever.open(
        gallery, embedder=embedder, cropper=cropper, max_pixels=max_pixels
    ) as retriever:
        report = retriever.evaluate(folder, progress=None)
    if json_:
        typer.echo(report.to_json())
        for warning in report.warnings:
            typer.echo(f"imgret: warning: {warning}", err=True)
    else:
        typer.echo(str(report) if all_ else report.summary())
        more = "" if all_ else f"; --all prints all {len(report.values)}"
        typer.echo(f"means over the queries, with 95 % intervals{more}", err=True)
    if html is not None:
        page = report.to_html(title=f"Evaluation of {gallery.name}")
        html.write_text(page, encoding="utf-8", errors="replace")
        typer.echo(f"wrote {html}", err=True)
    if save is not None:
        report.save(save)
        typer.echo(f"wrote {save}", err=True)
    if report.failed:
        raise typer.Exit(3 if len(report.failed) < report.n_queries else 1)
