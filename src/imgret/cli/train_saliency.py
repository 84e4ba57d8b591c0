"""``imgret train-saliency``: train the network of a saliency cropper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from imgret.cli import options
from imgret.cli.ctrl_c import last_words, to_resume
from imgret.cli.help import Argument, Command

__all__ = ["train_saliency"]


@click.command(cls=Command)
@click.argument("images", cls=Argument, type=options.PATH, help="Folder of images.")
@click.argument(
    "masks",
    cls=Argument,
    type=options.PATH,
    help="Folder of masks: the same relative paths, ending in .png.",
)
@click.option("-o", "--out", required=True, type=options.PATH, help="The .onnx file to write.")
@click.option(
    "--teacher", type=options.PATH, help="Saliency model that first draws the missing masks."
)
@click.option(
    "--valid",
    type=(options.PATH, options.PATH),
    metavar="PATH PATH",
    help="Folders of validation images and of their masks.",
)
@click.option(
    "--hold-out", default=0.05, help="Share of the images held out for validation; 0 for none."
)
@click.option("--epochs", type=int, help="Number of epochs. [the recipe's]")
@options.training
@options.json
def train_saliency(
    *,
    images: Path,
    masks: Path,
    out: Path,
    teacher: Path | None,
    valid: tuple[Path, Path] | None,
    hold_out: float,
    json_: bool,
    **course: Any,
) -> None:
    """Train the network of a saliency cropper.

    imgret train-saliency images masks -o saliency.onnx

    Exits with 3 if an image could not be read and was left out.

    The 8-bit model, a report and the checkpoints of the run are written next to OUT. The file of
    a teacher must hold its preprocessing: see imgret.models.write_bundle.
    """
    from imgret.croppers import SaliencyCropper  # noqa: PLC0415  # so that --help is quick
    from imgret.errors import ImageError  # noqa: PLC0415
    from imgret.train import draw_masks  # noqa: PLC0415
    from imgret.train import train_saliency as run  # noqa: PLC0415

    undrawn: list[ImageError] = []
    last_words.append(lambda: to_resume(out))
    if teacher is not None:
        undrawn = draw_masks(
            images,
            masks,
            SaliencyCropper(teacher),
            threads=course["threads"],
            max_pixels=course["max_pixels"],
        )
        for error in undrawn:
            click.echo(f"imgret: error: {error}", err=True)
    report = run(images, masks, out, valid=hold_out if valid is None else valid, **course)
    click.echo(report.to_json() if json_ else str(report))
    click.echo(f"report: {out.with_suffix('.html')}", err=True)
    if report.failed or undrawn:
        raise click.exceptions.Exit(3)
