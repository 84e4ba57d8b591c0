"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

__all__ = ["MAX_PIXELS", "MaxPixels"]

MAX_PIXELS = 100_000_000
"""That of `imgret.images`, which is slow to import."""

MaxPixels: TypeAlias = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Refuse images of more pixels, a large JPEG's counted at the scale it is decoded at.",
    ),
]
