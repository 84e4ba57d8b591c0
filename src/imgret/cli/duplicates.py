"""``imgret duplicates``: images that are almost the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from imgret.cli.options import MAX_PIXELS, EmbedderAt, GalleryAt, MaxPixels
from imgret.cli.paths import check_writable, path
from imgret.support.terminal import plain, shown

if TYPE_CHECKING:
    from imgret.curation import Duplicates, Moved
    from imgret.retriever import Retriever

__all__ = ["duplicates"]


def duplicates(
    gallery: GalleryAt,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Find all pairs of at least this score, such as 0.95, instead of copies."
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page to choose on what to keep, with the commands to move."),
    ] = None,
    move: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Move all but the best of each group into this folder."),
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(metavar="LIST", help="With --move: move what the list of a page says."),
    ] = None,
    image: Annotated[
        Any | None,  # as in `search`
        typer.Option(parser=path, help="List the copies of this image, which may be a new one."),
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per group, copy or moved file.")
    ] = False,
    embedder: EmbedderAt = None,
    max_pixels: MaxPixels = MAX_PIXELS,
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
    with Retriever.open(gallery, mode, embedder=embedder, max_pixels=max_pixels) as retriever:
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
                typer.echo(f"wrote {html}", err=True)


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
        raise typer.BadParameter(
            f"expected a name that ends in .html, found {html}", param_hint="--html"
        )
    others = {"--threshold": threshold, "--html": html, "--move": move, "--review": review}
    given = [name for name, value in others.items() if value is not None]
    if image is not None and given:
        raise typer.BadParameter(f"expected no {given[0]} beside it", param_hint="--image")
    if review is not None:
        if move is None:
            raise typer.BadParameter(
                "expected --move with the folder to move to as well", param_hint="--review"
            )
        if threshold is not None or html is not None:
            raise typer.BadParameter(f"expected no {given[0]} beside it", param_hint="--review")
    if move is not None and move.exists() and not move.is_dir():
        raise typer.BadParameter(f"expected a folder, found the file {move}", param_hint="--move")


def _list(groups: Duplicates, *, json_: bool) -> None:
    for group in groups:
        if json_:
            typer.echo(json.dumps({"score": group.score, "keys": list(group.keys)}))
            continue
        typer.echo(f"{len(group.keys)} images, score {group.score:.4f}")
        for key in group.keys:
            typer.echo(f"  {shown(key)}")
    typer.echo(groups.summary(), err=True)


def _list_copies(retriever: Retriever, image: Path, *, json_: bool) -> None:
    copies = retriever.duplicates_of(image)
    for copy in copies:
        typer.echo(
            json.dumps({"key": copy.key, "score": copy.score})
            if json_
            else f"{copy.score:.4f}  {shown(copy.key)}"
        )
    if not copies:
        typer.echo(f"no copies of {image} among {len(retriever):,} images", err=True)


def _tell(moved: Moved, *, json_: bool) -> None:
    """Say what was moved, and fail if something was not."""
    if json_:
        for each in moved.moved:
            typer.echo(json.dumps({"key": each.key, "path": each.path, "now": each.now}))
    else:
        for each in moved.moved:
            typer.echo(f"{shown(each.path)} -> {shown(each.now)}")
    for refused in moved.refused:
        typer.echo(f"not moved: {plain(refused.key)}: {plain(refused.reason)}", err=True)
    typer.echo(moved.summary(), err=True)
    if moved.refused:
        raise typer.Exit(3 if moved.moved else 1)
