"""``imgret train``: train an embedder on a folder of class subfolders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from imgret.cli.ctrl_c import last_words, to_resume
from imgret.cli.options import MAX_PIXELS, Json, MaxPixels

__all__ = ["train"]


def train(
    folder: Annotated[Path, typer.Argument(help="Folder with a subfolder for each class.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .onnx file to write.")],
    recipe: Annotated[str, typer.Option(help="finetune, compact or reference.")] = "finetune",
    network: Annotated[
        str | None,
        typer.Option(help="Another network, such as timm:resnet18 of timm. [the recipe's]"),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights of the timm network to start from: .safetensors or .pth."),
    ] = None,
    valid: Annotated[
        Path | None, typer.Option(help="Validation folder with the same classes.")
    ] = None,
    hold_out: Annotated[
        float, typer.Option(help="Share of each class held out for validation; 0 for none.")
    ] = 0.1,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs. [the recipe's]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per batch. [the recipe's]")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. [the recipe's]")] = None,
    dim: Annotated[int | None, typer.Option(help="Length of the embedding. [128]")] = None,
    head: Annotated[
        str | None, typer.Option(help="arcface, subcenter or softmax. [the recipe's]")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="Teacher model to learn from; can be repeated."),
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint of the same network to start from.")
    ] = None,
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
    """Train an embedder on your own images.

    imgret train photos -o mine.onnx
    imgret index photos -o photos.imgret --embedder mine.onnx

    The 8-bit model, a report and the checkpoints of the run are written next to OUT. Exits with 3
    if an image could not be read and was left out.
    """
    from imgret.train import train as run  # noqa: PLC0415  # so that --help is quick
    from imgret.train.recipes import find_recipe  # noqa: PLC0415

    chosen = find_recipe(recipe)
    given = {"batch_size": batch_size, "lr": lr, "dim": dim, "head": head}
    chosen = replace(chosen, **{n: v for n, v in given.items() if v is not None})  # type: ignore[arg-type]  # checked there
    last_words.append(lambda: to_resume(out))
    report = run(
        folder,
        out,
        recipe=chosen,
        network=network,
        weights=weights,
        valid=hold_out if valid is None else valid,
        epochs=epochs,
        teacher=teacher or [],
        init=init,
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
    if report.failed:
        raise typer.Exit(3)
