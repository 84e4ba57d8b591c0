"""Checks of output paths, made before any work is done."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["check_writable"]


def check_writable(path: Path | None, option: str, what: str = "a page") -> None:
    """Raise if no file can be written at a path; None is always accepted."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        found = "a folder" if path.is_dir() else f"no folder {path.parent}"
        raise typer.BadParameter(
            f"{path}: expected the path of {what} to write, found {found}", param_hint=option
        )
