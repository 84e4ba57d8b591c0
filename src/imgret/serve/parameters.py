"""Parameters that several routes have: declared for the description, and read."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query

from imgret.errors import InvalidInputError
from imgret.support.json_text import loads

__all__ = [
    "JPEG",
    "MOST",
    "UPLOAD",
    "Box",
    "Key",
    "Keys",
    "Limit",
    "Offset",
    "Text",
    "Where",
    "box_of",
    "filter_of",
]

MOST = 200  # hits or items in one answer

UPLOAD = {
    "requestBody": {
        "description": "The image file: JPEG, PNG, WebP, TIFF, AVIF, GIF or BMP.",
        "required": False,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
JPEG: dict[int | str, dict[str, Any]] = {
    200: {"description": "The image.", "content": {"image/jpeg": {}}}
}

Text = Annotated[list[str] | None, Query(max_length=8)]
Keys = Annotated[list[str] | None, Query(max_length=200)]
Box = Annotated[str | None, Query(description="x0,y0,x1,y1 in the image.")]
Where = Annotated[str | None, Query(description='Filter as JSON: {"label": "rose"}.')]
Offset = Annotated[int, Query(ge=0)]
Limit = Annotated[int, Query(ge=1, le=MOST)]
Key = Annotated[str, Path(description="Key of an item.")]


def filter_of(where: str | None) -> Any:
    """Return a filter given as JSON."""
    if where is None:
        return None
    try:
        return loads(where)
    except ValueError as error:
        raise InvalidInputError(f"where: expected JSON, found {where!r}: {error}") from error


def box_of(text: str | None) -> tuple[int, int, int, int] | None:
    """Return a box given as four numbers."""
    if text is None:
        return None
    try:
        x0, y0, x1, y1 = (int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInputError(f"box: expected x0,y0,x1,y1, found {text!r}") from error
    return x0, y0, x1, y1
