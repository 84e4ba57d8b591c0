"""The option ``--where``."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeAlias

import typer

__all__ = ["Where", "filter_of"]

Where: TypeAlias = Annotated[
    str | None,
    typer.Option("--where", help='Filter, as JSON: \'{"label": "rose", "year": {"$gte": 2020}}\'.'),
]


def filter_of(where: str | None) -> Any:
    """Return a filter given as JSON; None without one."""
    try:
        return None if where is None else json.loads(where)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(
            f'expected JSON, such as {{"label": "rose"}}, found {where!r}: {error}',
            param_hint="--where",
        ) from error
