"""``imgret plugins``: all installed parts."""

from __future__ import annotations

import json

import typer

from imgret.cli.options import Json

__all__ = ["plugins"]


def plugins(json_: Json = False) -> None:
    """List the installed embedders, indexes and other parts.

    imgret plugins

    Embedders, croppers, indexes, rerankers and galleries, and the package each comes from.
    """
    from imgret import registry  # noqa: PLC0415

    kinds: list[registry.Kind] = ["embedders", "croppers", "indexes", "rerankers", "galleries"]
    if json_:
        typer.echo(json.dumps({kind: registry.names(kind) for kind in kinds}))
        return
    for kind in kinds:
        typer.echo(kind)
        found = registry.names(kind)
        for name, home in found.items():
            typer.echo(f"  {name:<{max(map(len, found))}}  {home}")
