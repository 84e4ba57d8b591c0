"""A map as a page in one file."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.files import ItemFile
from imgret.pages.document import document, file_address
from imgret.pages.map import tiles
from imgret.pages.map.points import ranked, unit
from imgret.types import Embeddings, Ids, Json

__all__ = ["page"]

_MOST_POINTS = 50_000
_NAMES = {"pca": "two principal components", "tsne": "t-SNE", "umap": "UMAP"}
_SCRIPTS = ("data", "view", "tiles", "draw", "select", "card", "side", "events")


def page(
    title: str,
    keys: Sequence[str],
    coordinates: Embeddings,
    labels: Sequence[str | None],
    files: Sequence[ItemFile | None],
    *,
    method: str,
    note: str,
    max_pixels: int,
    threads: int,
    progress: Callable[[int], AbstractContextManager[Any]],
) -> str:
    """Return the page of a map.

    Parameters
    ----------
    title : str
    keys, labels, files : sequences of length n
    coordinates : float32 array of shape (n, 2)
    method, note : str
        Name of the method and a remark, both shown below the title.
    max_pixels : int
        Images with more pixels are not shown.
    threads : int
        Number of threads that read images.
    progress : callable
        Function of the number of images to read that returns a progress bar.
    """
    drawn, pictured = _samples(len(keys))
    places = drawn.tolist()
    shown = [files[place] for place in drawn[pictured].tolist()]
    data = {
        **_points(coordinates, drawn),
        **_labels(labels, places),
        **_files([files[place] for place in places]),
        "keys": [keys[place] for place in places],
        "pictured": None if len(pictured) == len(drawn) else pictured.tolist(),
        "tiles": _tiles(shown, threads, max_pixels, progress),
    }
    # Only "<" can end a script element.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    remarks = [f"Laid out by {_NAMES[method]}: similar images lie close together.", note]
    if len(drawn) < len(keys):
        remarks.append(f"Drawn: {len(drawn)} of {len(keys)} items, chosen at random.")
    if len(pictured) < len(drawn):
        remarks.append(f"Images of {len(pictured)} items, chosen at random.")
    template = Path(__file__).with_name("body.html").read_text(encoding="utf-8")
    body = template.format(
        title=html.escape(title), note=html.escape(" ".join(filter(None, remarks))), data=text
    )
    scripts = [f"map/{name}.js" for name in _SCRIPTS]
    return document(title, body, scripts=scripts, styles=["map/map.css"], kind="map")


def _samples(n: int) -> tuple[Ids, NDArray[np.int64]]:
    """Return the items to draw, and which of these show an image."""
    generator = np.random.default_rng(0)
    drawn, pictured = np.arange(n), np.arange(min(n, _MOST_POINTS))
    if n > _MOST_POINTS:
        drawn = np.sort(generator.choice(n, _MOST_POINTS, replace=False))
    if len(drawn) > tiles.MOST_TILES:
        pictured = np.sort(generator.choice(len(drawn), tiles.MOST_TILES, replace=False))
    return drawn, pictured


def _points(coordinates: Embeddings, drawn: Ids) -> Json:
    x, y = unit(coordinates)[drawn].round(5).T.tolist()
    return {"x": x, "y": y}


def _labels(labels: Sequence[str | None], places: list[int]) -> Json:
    """Return the names of the labels, the most frequent first, and the number of each item's."""
    names, counts, codes = ranked(labels)
    return {
        "label": [codes[place] for place in places],
        "labels": names,
        "counts": counts,
    }


def _files(files: list[ItemFile | None]) -> Json:
    """Return the URLs of the files, in two parts: what all have in common, and the rest."""
    urls = [None if file is None else file_address(file.path) for file in files]
    known = [url for url in urls if url is not None]
    folder = os.path.commonprefix(known)  # noqa: RUF071  # any shared start will do
    return {
        "folder": folder,
        "files": [None if url is None else url[len(folder) :] for url in urls],
    }


def _tiles(
    files: list[ItemFile | None],
    threads: int,
    max_pixels: int,
    progress: Callable[[int], AbstractContextManager[Any]],
) -> Json:
    if not any(files):
        return tiles.sheets((), 0)

    def watched(bar: Any) -> Iterator[tiles.Tile]:
        for tile in tiles.read(files, threads=threads, max_pixels=max_pixels):
            yield tile
            bar.update()

    with progress(len(files)) as bar:
        return tiles.sheets(watched(bar), len(files))
