"""``imgret train-saliency``: train the network of a saliency cropper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.ctrl_c import last_words, to_resume
from imgret.cli.options import MAX_PIXELS, Json, MaxPixels

__all__ = ["train_saliency"]


def train_saliency(
    images: Annotated[Path, typer.Argument(help="Folder of images.")],
    masks: Annotated[
        Path, typer.Argument(help="Folder of masks: the same relative paths, ending in .png.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .onnx file to write.")],
    teacher: Annotated[
        Path | None,
        typer.Option(help="Saliency model that first draws the missing masks."),
    ] = None,
    valid: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Folders of validation images and of their masks."),
    ] = None,
    hold_out: Annotated[
        float, typer.Option(help="Share of the images held out for validation; 0 for none.")
    ] = 0.05,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs. [the recipe's]")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Checkpoint of this run to resume: OUT.training/last.pt")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or another torch device.")] = "auto",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Threads that load images. [one per core]")
    ] = None,
    validate_every: Annotated[int, typer.Option(help="Epochs between two validations.")] = 2,
    patience: Annotated[
        int | None, typer.Option(help="Validations without improvement before it stops. [never]")
    ] = None,
    int8: Annotated[bool, typer.Option(help="Also write the 8-bit model.")] = True,
    name: Annotated[str | None, typer.Option(help="Name of the model. [that of OUT]")] = None,
    training_data: Annotated[
        str | None, typer.Option(help="Description of the images, stored in the model file.")
    ] = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    json_: Json = False,
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
            threads=threads,
            max_pixels=max_pixels,
        )
        for error in undrawn:
            typer.echo(f"imgret: error: {error}", err=True)
    report = run(
        images,
        masks,
        out,
        valid=hold_out if valid is None else valid,
        epochs=epochs,
        resume=resume,
        device=device,
        seed=seed,
        threads=threads,
        validate_every=validate_every,
        patience=patience,
        int8=int8,
        name=name,
        training_data=training_data,
        max_pixels=max_pixels,
    )
    typer.echo(report.to_json() if json_ else str(report))
    typer.echo(f"report: {out.with_suffix('.html')}", err=True)
    if report.failed or undrawn:
        raise typer.Exit(3)
