"""Options that say where the model of a gallery is."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

__all__ = ["CropperAt", "EmbedderAt"]

EmbedderAt: TypeAlias = Annotated[
    str | None,
    typer.Option("--embedder", help="Path of the gallery's model, where that was moved."),
]
CropperAt: TypeAlias = Annotated[
    str | None,
    typer.Option("--cropper", help="Path of the model of its cropper, where that was moved."),
]
