"""``imgret explain``: what makes a query and a hit similar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from imgret.cli import options
from imgret.cli.complete import complete_keys
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Argument, Command
from imgret.cli.paths import check_writable, path

__all__ = ["explain"]


@click.command(cls=Command)
@options.gallery
@click.argument("query", cls=Argument, type=path, help="Query image.")
@click.argument(
    "key",
    cls=Argument,
    required=False,
    shell_complete=complete_keys,
    help="Key of the item. [the best hit]",
)
@click.option(
    "--method",
    default="auto",
    help="auto, exact or occlusion; auto is exact where that is possible.",
)
@options.json
@click.option(
    "--html", type=options.PATH, help="Write an HTML page with both images, their heat inline."
)
@options.opening
def explain(
    *,
    gallery: GalleryPlace,
    query: Any,
    key: str | None,
    method: str,
    json_: bool,
    html: Path | None,
    **opening: Any,
) -> None:
    """Show which parts of two images make them similar.

    imgret explain photos.imgret query.jpg --html why.html
    imgret explain photos.imgret query.jpg rose/001.jpg
    """
    from imgret.retriever import Retriever  # noqa: PLC0415  # so that --help is quick

    check_writable(html, "--html")
    if method not in {"auto", "exact", "occlusion"}:
        raise click.BadParameter(
            f"expected auto, exact or occlusion, found {method!r}", param_hint="--method"
        )
    with Retriever.open(gallery, **opening) as retriever:
        hit = key if key is not None else retriever.search(query, 1)[0]
        explanation = retriever.explain_match(query, hit, method=method)  # type: ignore[arg-type]  # checked above
    click.echo(explanation.to_json() if json_ else str(explanation))
    if html is not None:
        explanation.save(html)
        click.echo(f"wrote {html}", err=True)
