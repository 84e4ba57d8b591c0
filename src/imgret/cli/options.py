"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from imgret.cli.complete import complete_galleries
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Argument
from imgret.support.json_text import loads

__all__ = [
    "MAX_PIXELS",
    "PATH",
    "at_least_one",
    "cropper",
    "embedder",
    "gallery",
    "json",
    "json_or_file",
    "labelled_gallery",
    "max_pixels",
    "null",
    "opening",
    "output_gallery",
    "page",
    "paths",
    "training",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

MAX_PIXELS = 100_000_000
"""The default of `imgret.images`, repeated here as that module is slow to import."""

PATH = click.Path(path_type=Path)

gallery = click.argument(
    "gallery",
    cls=Argument,
    type=GalleryPlace,
    shell_complete=complete_galleries,
    help="Directory of the gallery, such as photos.imgret, or its URI, such as "
    "postgresql://host/database.",
)
labelled_gallery = click.argument(
    "gallery",
    cls=Argument,
    type=GalleryPlace,
    shell_complete=complete_galleries,
    help="Directory or URI of the gallery, with labels.",
)
output_gallery = click.option(
    "-o",
    "--output",
    required=True,
    type=GalleryPlace,
    metavar="PATH",
    help="Gallery to create or to add to: a directory, or a URI.",
)
json = click.option("--json", "json_", is_flag=True, help="Print JSON.")
paths = click.option(
    "-l", "--paths", is_flag=True, help="Print only the paths of the images, each once, by line."
)
null = click.option(
    "-0", "--null", is_flag=True, help="Like -l, but end each path with NUL, for xargs -0."
)
page = click.option(
    "--html", metavar="PAGE", type=PATH, help="Write an HTML page, with the images inline."
)
embedder = click.option("--embedder", help="New path of the gallery's model, if it was moved.")
cropper = click.option("--cropper", help="New path of the cropper's model, if it was moved.")
max_pixels = click.option(
    "--max-pixels",
    default=MAX_PIXELS,
    type=click.IntRange(min=1),
    help="Refuse images with more pixels; a large JPEG counts at the scale it is decoded at.",
)


def _together(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """Return a decorator that adds several options."""

    def add(command: Decorated) -> Decorated:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# What goes into `Retriever.open` as it is, and into the functions that train.
opening = _together(embedder, cropper, max_pixels)
training = _together(
    click.option(
        "--resume", type=PATH, help="Checkpoint of this run to resume: OUT.training/last.pt"
    ),
    click.option("--device", default="auto", help="auto, cpu, cuda or another torch device."),
    click.option("--seed", default=0, help="Random seed."),
    click.option("--threads", type=int, help="Threads that load images. [one per core]"),
    click.option("--validate-every", default=2, help="Epochs between two validations."),
    click.option(
        "--patience", type=int, help="Validations without improvement before it stops. [never]"
    ),
    click.option("--int8/--no-int8", default=True, help="Also write the 8-bit model."),
    click.option("--name", help="Name of the model. [that of OUT]"),
    click.option("--training-data", help="Description of the images, stored in the model file."),
    max_pixels,
)


def at_least_one(ctx: click.Context, param: click.Parameter, number: int | None) -> int | None:
    """Check that a number given as an option is at least 1."""
    if number is not None and number < 1:
        raise click.BadParameter(f"expected a whole number of at least 1, found {number}")
    return number


def json_or_file(text: str, option: str) -> Any:
    """Read JSON from the text itself, or from the file it names."""
    try:
        if not text.lstrip().startswith("{"):
            text = Path(text).read_text(encoding="utf-8")
        return loads(text)
    except (OSError, ValueError) as error:
        raise click.BadParameter(
            f'expected JSON such as {{"size": 224, "scaling": null}}, or a JSON file, found '
            f"{error}",
            param_hint=option,
        ) from error
