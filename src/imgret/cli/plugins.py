"""``imgret plugins``: all installed parts."""

from __future__ import annotations

import json
from typing import get_args

import typer

from imgret.cli.options import Json

__all__ = ["plugins"]


def plugins(json_: Json = False) -> None:
    """List the installed embedders, indexes and other parts.

    imgret plugins

    Embedders, croppers, indexes, rerankers and galleries, and the package each comes from.
    """
    from imgret import registry  # noqa: PLC0415

    kinds: tuple[registry.Kind, ...] = get_args(registry.Kind)
    if json_:
        typer.echo(json.dumps({kind: registry.names(kind) for kind in kinds}))
        return
    for kind in kinds:
        typer.echo(kind)
        found = registry.names(kind)
        for name, home in found.items():
            typer.echo(f"  {name:<{max(map(len, found))}}  {home}")
