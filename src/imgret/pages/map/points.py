"""A map as a small SVG of points, for notebooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imgret.types import Embeddings

__all__ = ["ranked", "sketch", "unit"]

_MOST_POINTS = 5_000
_SIDE = 480
_GRAY = "#8e8e93"


def sketch(coordinates: Embeddings, labels: Sequence[str | None]) -> str:
    """Return an SVG element; of many items, a random sample is drawn.

    Parameters
    ----------
    coordinates : float32 array of shape (n, 2)
    labels : sequence of length n
    """
    n = len(labels)
    drawn = np.arange(n)
    if n > _MOST_POINTS:
        drawn = np.random.default_rng(0).choice(n, _MOST_POINTS, replace=False)
    _, _, codes = ranked(labels)
    places = (unit(coordinates)[drawn] * [_SIDE, -_SIDE] + [0, _SIDE]).round(1)
    paths: dict[int, list[str]] = {}
    for place, (x, y) in zip(drawn.tolist(), places.tolist(), strict=True):
        paths.setdefault(codes[place], []).append(f"M{x:g} {y:g}h0")
    points = "".join(
        f'<path stroke="{_color(code)}" d="{"".join(path)}"/>' for code, path in paths.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Map" width="{_SIDE}" '
        f'height="{_SIDE}" viewBox="-6 -6 {_SIDE + 12} {_SIDE + 12}"><g fill="none" '
        f'stroke-width="{5 if n <= 1000 else 3}" stroke-linecap="round" opacity="0.8">'
        f"{points}</g></svg>"
    )


def unit(coordinates: Embeddings) -> NDArray[np.float64]:
    """Return coordinates from 0 to 1: the longer side is 1, the shorter one lies in the middle."""
    low = coordinates.min(axis=0)
    span = coordinates.max(axis=0) - low
    scale = max(float(span.max()), 1e-30)
    moved: NDArray[np.float64] = ((coordinates - low - span / 2) / scale + 0.5).astype(np.float64)
    return moved


def ranked(labels: Sequence[str | None]) -> tuple[list[str], list[int], list[int]]:
    """Return the names of the labels, the most frequent first.

    Returns
    -------
    names : list of str
    counts : list of int
        Number of items of each name.
    codes : list of int
        Position in ``names`` of each item's label; -1 if it has none.
    """
    counts = Counter(label for label in labels if label is not None)
    names = [name for name, _ in counts.most_common()]
    codes = {name: code for code, name in enumerate(names)} | {None: -1}
    return names, [counts[name] for name in names], [codes[label] for label in labels]


def _color(code: int) -> str:
    """Return the colour of a label; ``draw.js`` uses the same hue."""
    return (
        _GRAY
        if code < 0
        else f"hsl({(code * 137.508 + 210) % 360:.0f} 65% {(50, 62, 44)[code % 3]}%)"
    )
