"""``imgret copy``: a gallery to another place, or to another kind of gallery."""

from __future__ import annotations

from typing import Annotated

import typer

from imgret.cli.complete import complete_galleries
from imgret.cli.ctrl_c import last_words
from imgret.cli.options import Json

__all__ = ["copy"]


def copy(
    source: Annotated[
        str,
        typer.Argument(
            help="Gallery to copy: a directory, or a URI such as postgresql://host/photos.",
            autocompletion=complete_galleries,
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(help="Where it goes: a new directory or URI, or a copy to be continued."),
    ],
    index: Annotated[
        str | None,
        typer.Option(help="Index of the new gallery. [that of SOURCE, or the nearest]"),
    ] = None,
    json_: Json = False,
) -> None:
    """Copy a gallery, also to a server and back.

    imgret copy photos.imgret postgresql://db.example/photos
    imgret copy postgresql://db.example/photos photos.imgret --index hnsw

    Items and embeddings are sent in pieces and compared at the end. No image is read, and no model
    is loaded. Run the same command again after an interruption, or to send what SOURCE got since.
    """
    from imgret.transfer import copy_gallery  # noqa: PLC0415  # so that --help is quick

    last_words.append(lambda: "imgret: run the same command to continue")
    report = copy_gallery(source, target, index=index)
    if json_:
        typer.echo(report.to_json())
        return
    for note in report.notes:
        typer.echo(f"imgret: note: {note}", err=True)
    typer.echo(str(report).splitlines()[0])
