"""``imgret plugins``: all installed parts."""

from __future__ import annotations

import json
from typing import get_args

import click

from imgret.cli import options
from imgret.cli.help import Command

__all__ = ["plugins"]


@click.command(cls=Command)
@options.json
def plugins(*, json_: bool) -> None:
    """List the installed embedders, indexes and other parts.

    imgret plugins

    Embedders, croppers, indexes, rerankers and galleries, and the package each comes from.
    """
    from imgret import registry  # noqa: PLC0415

    kinds: tuple[registry.Kind, ...] = get_args(registry.Kind)
    if json_:
        click.echo(json.dumps({kind: registry.names(kind) for kind in kinds}))
        return
    for kind in kinds:
        click.echo(kind)
        found = registry.names(kind)
        for name, home in found.items():
            click.echo(f"  {name:<{max(map(len, found))}}  {home}")
