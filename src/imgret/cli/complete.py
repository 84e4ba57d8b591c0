"""What the shell offers on Tab, beside commands, options and files: galleries and keys.

Nothing is reported here: where something is wrong, the shell offers nothing, and the command
itself says why.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

import typer

from imgret.errors import ImgretError

__all__ = ["complete_galleries", "complete_keys", "complete_on_first_tab"]

_MOST = 200
_ZSH = """

[[ $zsh_eval_context[-1] == loadautofunc ]] && %(complete_func)s "$@"
"""


def complete_on_first_tab() -> None:
    """Have typer's script for zsh complete as soon as it is loaded.

    zsh loads it on the first Tab, but all it does is to define a function: until the second Tab,
    nothing is offered. Should another typer keep its scripts elsewhere, that stays so.
    """
    with suppress(ImportError, AttributeError, KeyError, TypeError):
        from typer import _completion_shared as shared  # noqa: PLC0415  # no public way

        scripts = shared._completion_scripts  # noqa: SLF001
        if "zsh_eval_context" not in scripts["zsh"]:
            scripts["zsh"] = scripts["zsh"].rstrip() + _ZSH


def complete_galleries(incomplete: str) -> list[str]:
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


def complete_keys(ctx: typer.Context, incomplete: str) -> list[str]:
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
