"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from imgret.cli.complete import complete_galleries
from imgret.cli.gallery_at import GalleryPlace
from imgret.support.json_text import loads

__all__ = [
    "MAX_PIXELS",
    "CropperAt",
    "EmbedderAt",
    "GalleryAt",
    "Json",
    "LabelledAt",
    "MaxPixels",
    "Null",
    "OutputAt",
    "Page",
    "Paths",
    "at_least_one",
    "json_or_file",
]

MAX_PIXELS = 100_000_000
"""The default of `imgret.images`, repeated here as that module is slow to import."""

MaxPixels: TypeAlias = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Refuse images with more pixels; a large JPEG counts at the scale it is decoded at.",
    ),
]

GalleryAt: TypeAlias = Annotated[
    GalleryPlace,
    typer.Argument(
        parser=GalleryPlace,
        metavar="GALLERY",
        help="Directory of the gallery, such as photos.imgret, or its URI, such as "
        "postgresql://host/database.",
        autocompletion=complete_galleries,
    ),
]
LabelledAt: TypeAlias = Annotated[
    GalleryPlace,
    typer.Argument(
        parser=GalleryPlace,
        metavar="GALLERY",
        help="Directory or URI of the gallery, with labels.",
        autocompletion=complete_galleries,
    ),
]
OutputAt: TypeAlias = Annotated[
    GalleryPlace,
    typer.Option(
        "-o",
        "--output",
        parser=GalleryPlace,
        metavar="PATH",
        help="Gallery to create or to add to: a directory, or a URI.",
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Paths: TypeAlias = Annotated[
    bool,
    typer.Option("-l", "--paths", help="Print only the paths of the images, each once, by line."),
]
Null: TypeAlias = Annotated[
    bool, typer.Option("-0", "--null", help="Like -l, but end each path with NUL, for xargs -0.")
]
Page: TypeAlias = Annotated[
    Path | None,
    typer.Option("--html", metavar="PAGE", help="Write an HTML page, with the images inline."),
]

EmbedderAt: TypeAlias = Annotated[
    str | None,
    typer.Option("--embedder", help="New path of the gallery's model, if it was moved."),
]
CropperAt: TypeAlias = Annotated[
    str | None,
    typer.Option("--cropper", help="New path of the cropper's model, if it was moved."),
]


def at_least_one(number: int | None) -> int | None:
    """Check that a number given as an option is at least 1."""
    if number is not None and number < 1:
        raise typer.BadParameter(f"expected a whole number of at least 1, found {number}")
    return number


def json_or_file(text: str, option: str) -> Any:
    """Read JSON from the text itself, or from the file it names."""
    try:
        if not text.lstrip().startswith("{"):
            text = Path(text).read_text(encoding="utf-8")
        return loads(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(
            f'expected JSON such as {{"size": 224, "scaling": null}}, or a JSON file, found '
            f"{error}",
            param_hint=option,
        ) from error
