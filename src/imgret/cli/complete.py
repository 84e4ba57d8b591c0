"""What the shell offers on Tab, beside commands, options and files: galleries and keys.

Nothing is reported here: where something is wrong, the shell offers nothing, and the command
itself says why.
"""

from __future__ import annotations

import os
from contextlib import closing
from itertools import islice
from pathlib import Path

import click

from imgret.errors import ImgretError

__all__ = ["complete_galleries", "complete_keys"]

_MOST = 200


def complete_galleries(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the galleries that a path may become; without any, the shell offers files."""
    folder, _, start = incomplete.rpartition("/")
    folder = f"{folder}/" if "/" in incomplete else ""
    try:
        names = sorted(os.listdir(os.path.expanduser(folder) or "."))  # noqa: PTH111, PTH208  # as it was typed
    except OSError:
        return []
    return [
        folder + name
        for name in names
        if name.startswith(start)
        and Path(os.path.expanduser(folder), name, "manifest.json").is_file()  # noqa: PTH111  # the same
    ]


def complete_keys(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return keys of the gallery that was named before, at most 200."""
    from imgret import registry  # noqa: PLC0415  # so that --help is quick

    at = ctx.params.get("gallery")
    if at is None:
        return []
    uri = os.fspath(at)
    try:
        with closing(registry.gallery(uri).open(uri, writable=False)) as gallery:
            given = ctx.params.get("keys") or ()
            fitting = (k for k in gallery if k.startswith(incomplete) and k not in given)
            return list(islice(fitting, _MOST))
    except (ImgretError, OSError):
        return []
