"""The option ``--where``."""

from __future__ import annotations

from typing import Any

import click

from imgret.support.json_text import loads

__all__ = ["filter_of", "where_option"]

where_option = click.option(
    "--where", help='Filter, as JSON: \'{"label": "rose", "year": {"$gte": 2020}}\'.'
)


def filter_of(where: str | None) -> Any:
    """Return a filter given as JSON; None without one."""
    try:
        return None if where is None else loads(where)
    except ValueError as error:
        raise click.BadParameter(
            f'expected JSON, such as {{"label": "rose"}}, found {where!r}: {error}',
            param_hint="--where",
        ) from error
