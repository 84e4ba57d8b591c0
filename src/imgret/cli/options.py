"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from imgret.cli.complete import complete_galleries, complete_keys
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Argument
from imgret.support.json_text import loads

__all__ = [
    "COUNT",
    "MAX_PIXELS",
    "PATH",
    "cropper",
    "embedder",
    "gallery",
    "json",
    "json_or_file",
    "keys",
    "labelled_gallery",
    "listed",
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


class _Count(click.types.IntParamType):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"expected a whole number of at least 1, found {value}", param, ctx)
        return number


COUNT = _Count()
"""The type of options that take a whole number of at least 1."""

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


def keys(help: str) -> Callable[[Decorated], Decorated]:  # noqa: A002  # as for an argument
    """Return a decorator that adds the argument for keys of the gallery."""
    return click.argument(
        "keys", cls=Argument, nargs=-1, required=True, shell_complete=complete_keys, help=help
    )


embedder = click.option("--embedder", help="New path of the gallery's model, if it was moved.")
cropper = click.option("--cropper", help="New path of the cropper's model, if it was moved.")
max_pixels = click.option(
    "--max-pixels",
    default=MAX_PIXELS,
    type=COUNT,
    help="Refuse images with more pixels; a large JPEG counts at the scale it is decoded at.",
)


def _together(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """Return a decorator that adds several options."""

    def add(command: Decorated) -> Decorated:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# What is done with the images that a command lists.
listed = _together(json, paths, null, page, max_pixels)
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
