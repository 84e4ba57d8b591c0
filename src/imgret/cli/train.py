"""``imgret train``: train an embedder on a folder of class subfolders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from imgret.cli import options
from imgret.cli.ctrl_c import last_words, to_resume
from imgret.cli.help import Argument, Command

__all__ = ["train"]


@click.command(cls=Command)
@click.argument(
    "folder", cls=Argument, type=options.PATH, help="Folder with a subfolder for each class."
)
@click.option("-o", "--out", required=True, type=options.PATH, help="The .onnx file to write.")
@click.option("--recipe", default="finetune", help="finetune, compact or reference.")
@click.option("--network", help="Another network, such as timm:resnet18 of timm. [the recipe's]")
@click.option(
    "--weights",
    type=options.PATH,
    help="Weights of the timm network to start from: .safetensors or .pth.",
)
@click.option("--valid", type=options.PATH, help="Validation folder with the same classes.")
@click.option(
    "--hold-out", default=0.1, help="Share of each class held out for validation; 0 for none."
)
@click.option("--epochs", type=int, help="Number of epochs. [the recipe's]")
@click.option("--batch-size", type=int, help="Images per batch. [the recipe's]")
@click.option("--lr", type=float, help="Learning rate. [the recipe's]")
@click.option("--dim", type=int, help="Length of the embedding. [128]")
@click.option("--head", help="arcface, subcenter or softmax. [the recipe's]")
@click.option("--teacher", multiple=True, help="Teacher model to learn from; can be repeated.")
@click.option("--init", type=options.PATH, help="Checkpoint of the same network to start from.")
@options.training
@options.json
def train(
    *,
    folder: Path,
    out: Path,
    recipe: str,
    valid: Path | None,
    hold_out: float,
    batch_size: int | None,
    lr: float | None,
    dim: int | None,
    head: str | None,
    json_: bool,
    **course: Any,
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
    held_out = hold_out if valid is None else valid
    report = run(folder, out, recipe=chosen, valid=held_out, **course)
    click.echo(report.to_json() if json_ else str(report))
    click.echo(f"report: {out.with_suffix('.html')}", err=True)
    if report.failed:
        raise click.exceptions.Exit(3)
