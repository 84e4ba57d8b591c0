"""JSON from files that anybody may have written."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["loads"]


def loads(text: str | bytes, **options: Any) -> Any:
    """Return what a JSON text says; as `json.loads`, with one kind of error.

    Raises
    ------
    ValueError
        The text is no JSON, or is nested more deeply than Python's stack allows.
    """
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply to be read") from None
