"""``imgret duplicates``: images that are almost the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command
from imgret.cli.paths import check_writable, path
from imgret.support.terminal import plain, shown

if TYPE_CHECKING:
    from imgret.curation import Duplicates, Moved
    from imgret.retriever import Retriever

__all__ = ["duplicates"]


@click.command(cls=Command)
@options.gallery
@click.option(
    "--threshold",
    type=float,
    help="Find all pairs of at least this score, such as 0.95, instead of copies.",
)
@click.option(
    "--html",
    type=options.PATH,
    help="Write a page to choose on what to keep, with the commands to move.",
)
@click.option(
    "--move",
    type=options.PATH,
    metavar="DIR",
    help="Move all but the best of each group into this folder.",
)
@click.option(
    "--review",
    type=options.PATH,
    metavar="LIST",
    help="With --move: move what the list of a page says.",
)
@click.option("--image", type=path, help="List the copies of this image, which may be a new one.")
@click.option(
    "--json", "json_", is_flag=True, help="Print one JSON object per group, copy or moved file."
)
@options.embedder
@options.max_pixels
def duplicates(
    *,
    gallery: GalleryPlace,
    threshold: float | None,
    html: Path | None,
    move: Path | None,
    review: Path | None,
    image: Any | None,
    json_: bool,
    **opening: Any,
) -> None:
    """Find images that are almost the same.

    imgret duplicates photos.imgret --html review.html
    imgret duplicates photos.imgret --move set-aside

    Groups are listed, the largest first: copies of one image, of another size or quality,
    cropped, mirrored, turned, framed or marked. The best of a group has the most pixels.
    With --move, exits with 3 if some files could not be moved, and with 1 if none could.
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    _check(threshold, html, move, review, image)
    mode: Literal["r", "r+"] = "r" if move is None else "r+"
    with Retriever.open(gallery, mode, **opening) as retriever:
        if image is not None:
            _list_copies(retriever, image, json_=json_)
        elif review is not None and move is not None:
            _tell(retriever.move_duplicates(review, move), json_=json_)
        else:
            groups = retriever.duplicates(threshold, progress=None)
            if html is not None:
                groups.save(html)
            if move is None:
                _list(groups, json_=json_)
            else:
                _tell(retriever.move_duplicates(groups, move), json_=json_)
            if html is not None:
                click.echo(f"wrote {html}", err=True)


def _check(
    threshold: float | None,
    html: Path | None,
    move: Path | None,
    review: Path | None,
    image: Path | None,
) -> None:
    """Raise for options that do not go together, before any work is done."""
    check_writable(html, "--html")
    if html is not None and html.suffix.lower() not in {".html", ".htm"}:
        raise click.BadParameter(
            f"expected a name that ends in .html, found {html}", param_hint="--html"
        )
    others = {"--threshold": threshold, "--html": html, "--move": move, "--review": review}
    given = [name for name, value in others.items() if value is not None]
    if image is not None and given:
        raise click.BadParameter(f"expected no {given[0]} beside it", param_hint="--image")
    if review is not None:
        if move is None:
            raise click.BadParameter(
                "expected --move with the folder to move to as well", param_hint="--review"
            )
        if threshold is not None or html is not None:
            raise click.BadParameter(f"expected no {given[0]} beside it", param_hint="--review")
    if move is not None and move.exists() and not move.is_dir():
        raise click.BadParameter(f"expected a folder, found the file {move}", param_hint="--move")


def _list(groups: Duplicates, *, json_: bool) -> None:
    for group in groups:
        if json_:
            click.echo(json.dumps({"score": group.score, "keys": list(group.keys)}))
            continue
        click.echo(f"{len(group.keys)} images, score {group.score:.4f}")
        for key in group.keys:
            click.echo(f"  {shown(key)}")
    click.echo(groups.summary(), err=True)


def _list_copies(retriever: Retriever, image: Path, *, json_: bool) -> None:
    copies = retriever.duplicates_of(image)
    for copy in copies:
        click.echo(
            json.dumps({"key": copy.key, "score": copy.score})
            if json_
            else f"{copy.score:.4f}  {shown(copy.key)}"
        )
    if not copies:
        click.echo(f"no copies of {image} among {len(retriever):,} images", err=True)


def _tell(moved: Moved, *, json_: bool) -> None:
    """Say what was moved, and fail if something was not."""
    if json_:
        for each in moved.moved:
            click.echo(json.dumps({"key": each.key, "path": each.path, "now": each.now}))
    else:
        for each in moved.moved:
            click.echo(f"{shown(each.path)} -> {shown(each.now)}")
    for refused in moved.refused:
        click.echo(f"not moved: {plain(refused.key)}: {plain(refused.reason)}", err=True)
    click.echo(moved.summary(), err=True)
    if moved.refused:
        raise click.exceptions.Exit(3 if moved.moved else 1)
