"""``imgret copy``: a gallery to another place, or to another kind of gallery."""

from __future__ import annotations

import click

from imgret.cli import options
from imgret.cli.complete import complete_galleries
from imgret.cli.ctrl_c import last_words
from imgret.cli.help import Argument, Command

__all__ = ["copy"]


@click.command(cls=Command)
@click.argument(
    "source",
    cls=Argument,
    shell_complete=complete_galleries,
    help="Gallery to copy: a directory, or a URI such as postgresql://host/photos.",
)
@click.argument(
    "target", cls=Argument, help="Where it goes: a new directory or URI, or a copy to be continued."
)
@click.option("--index", help="Index of the new gallery. [that of SOURCE, or the nearest]")
@options.json
def copy(*, source: str, target: str, index: str | None, json_: bool) -> None:
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
        click.echo(report.to_json())
        return
    for note in report.notes:
        click.echo(f"imgret: note: {note}", err=True)
    click.echo(str(report).splitlines()[0])
