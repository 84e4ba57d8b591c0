"""A map as a page in one file."""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from collections.abc import Sequence

import numpy as np

from imgret import images
from imgret.errors import ImageError
from imgret.pages.document import document
from imgret.types import Embeddings

__all__ = ["page"]

_MOST_POINTS = 50_000
_MOST_IMAGES = 300
_SIDE = 128


def page(
    title: str,
    keys: Sequence[str],
    coordinates: Embeddings,
    labels: Sequence[str | None],
    paths: Sequence[str | None],
    *,
    method: str,
    max_pixels: int,
) -> str:
    """Return the page of a map.

    Parameters
    ----------
    title : str
    keys, labels, paths : sequences of length n
    coordinates : float32 array of shape (n, 2)
    method : str
        Name of the method, shown in the note.
    max_pixels : int
        Images with more pixels are not shown.
    """
    n = len(keys)
    drawn = np.arange(n)
    note = f"{method.upper()}. Scroll to zoom, drag to move, double-click to go back."
    if n > _MOST_POINTS:
        drawn = np.sort(np.random.default_rng(0).choice(n, _MOST_POINTS, replace=False))
        note += f" Drawn: {_MOST_POINTS} of {n} items, chosen at random."
    counts = Counter(label for label in labels if label is not None)
    names = [name for name, _ in counts.most_common()]
    codes = {name: code for code, name in enumerate(names)} | {None: -1}
    low = coordinates.min(axis=0)
    span = coordinates.max(axis=0) - low
    scale = max(float(span.max()), 1e-30)
    # The longer side is 1; the shorter one lies in the middle.
    unit = ((coordinates[drawn] - low - span / 2) / scale + 0.5).astype(np.float64).round(5)
    places = drawn.tolist()
    data = {
        "x": unit[:, 0].tolist(),
        "y": unit[:, 1].tolist(),
        "keys": [keys[place] for place in places],
        "label": [codes[labels[place]] for place in places],
        "labels": names,
        "counts": [counts[name] for name in names],
        "pictures": [_image(path, max_pixels) for path in paths] if n <= _MOST_IMAGES else [],
    }
    # Only "<" can end a script element.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    body = (
        f'<header><h1>{html.escape(title)}</h1><p class="note">{html.escape(note)}</p></header>'
        f"<main><canvas></canvas><ul></ul></main>"
        f'<div id="tip" hidden><img alt=""><b></b><span></span></div>'
        f'<script type="application/json" id="data">{text}</script>'
    )
    return document(title, body, scripts=["map.js"], kind="map")


def _image(path: str | None, max_pixels: int) -> str | None:
    """Return a small JPEG in base64; None if there is no readable image."""
    if path is None:
        return None
    try:
        image = images.thumbnail(images.load(path, max_pixels=max_pixels, min_side=_SIDE), _SIDE)
    except ImageError:
        return None
    return base64.b64encode(images.encode(image, "jpeg", quality=80)).decode()
