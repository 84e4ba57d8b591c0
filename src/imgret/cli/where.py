"""The option ``--where``."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from imgret.support.json_text import loads

__all__ = ["Where", "filter_of"]

Where: TypeAlias = Annotated[
    str | None,
    typer.Option("--where", help='Filter, as JSON: \'{"label": "rose", "year": {"$gte": 2020}}\'.'),
]


def filter_of(where: str | None) -> Any:
    """Return a filter given as JSON; None without one."""
    try:
        return None if where is None else loads(where)
    except ValueError as error:
        raise typer.BadParameter(
            f'expected JSON, such as {{"label": "rose"}}, found {where!r}: {error}',
            param_hint="--where",
        ) from error
