"""Queries with their hits: each query at the left, its hits beside it."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from imgret import images
from imgret.errors import ImageError, ImgretError
from imgret.files import ItemFile, Url, is_url
from imgret.pages.document import MAX_BYTES, SIDE, Mark, document, figure, file_link
from imgret.types import Box, Hit, Image, ImageLike

__all__ = [
    "MAX_IMAGES",
    "MAX_TOTAL",
    "Row",
    "Shown",
    "cell",
    "grid",
    "image_figure",
    "mark_of",
    "page",
    "small",
]


class Shown(NamedTuple):
    """One image of a query that has several.

    Attributes
    ----------
    word : str
        Role of the image: ``"query"``, ``"unlike"``.
    title : str
    image : ImageLike, ItemFile or None
    box : Box or None
        Box to draw into the image.
    is_text : bool
        Whether the title is the query itself, and there is no image.
    """

    word: str
    title: str
    image: ImageLike | ItemFile | None
    box: Box | None = None
    is_text: bool = False


class Row(NamedTuple):
    """A query with its hits.

    Attributes
    ----------
    title : str
    image : ImageLike, ItemFile, list of Shown or None
        The query image, or all images of the query. These have their own titles; the title of
        the row is then a note.
    hits : sequence of Hit
    label : str or None
        Label of the query, if it is known: hits are then marked as right or wrong.
    """

    title: str
    image: ImageLike | ItemFile | list[Shown] | None
    hits: Sequence[Hit]
    label: str | None = None


_Draw: TypeAlias = Callable[..., str]

# In a notebook: maximum number of images, and of bytes of all of them together, before base64.
MAX_IMAGES, MAX_TOTAL = 200, 700_000


def grid(
    rows: Sequence[Row],
    *,
    max_pixels: int = images.MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> str:
    """Return HTML that shows queries at the left and their hits beside them, images inlined.

    Parameters
    ----------
    rows : sequence of Row
    max_pixels : int
        Images with more pixels are not shown.
    max_bytes : int
        Maximum size of the JPEG of each image.
    """
    draw = partial(_figure, max_pixels, max_bytes)
    many = "".join(
        f'<section class="search"><div class="asked">{_query(row, draw)}</div>'
        f'<div class="found">{"".join(_hit(hit, row.label, draw) for hit in row.hits)}</div>'
        f"</section>"
        for row in rows
    )
    return f'<div class="many">{many}</div>' if len(rows) > 1 else many


def page(
    rows: Sequence[Row], *, title: str, note: str = "", max_pixels: int = images.MAX_PIXELS
) -> str:
    """Return `grid` as a self-contained HTML page."""
    return document(title, grid(rows, max_pixels=max_pixels), note=note)


def cell(rows: Sequence[Row], *, max_pixels: int = images.MAX_PIXELS) -> str:
    """Return `grid` for a notebook, always below 1 MB: a notebook stores what its cells show.

    The more images there are, the smaller they get. Hits and queries that no longer fit are
    counted below.
    """
    most = max(1, MAX_IMAGES - _n_shown(rows[0])) if rows else 0
    fitting: list[Row] = []
    total = 0
    for row in rows:
        cut = row._replace(hits=row.hits[:most])
        total += _n_shown(cut) + len(cut.hits)
        if fitting and total > MAX_IMAGES:
            total -= _n_shown(cut) + len(cut.hits)
            break
        fitting.append(cut)
    text = grid(
        fitting,
        max_pixels=max_pixels,
        max_bytes=min(MAX_BYTES, MAX_TOTAL // max(1, total)),
    )
    if hidden := sum(
        len(row.hits) - len(cut.hits) for row, cut in zip(rows, fitting, strict=False)
    ):
        text += f'<p class="faint">and {hidden} more hits</p>'
    if hidden := len(rows) - len(fitting):
        text += f'<p class="faint">and {hidden} more queries</p>'
    return text


def mark_of(label: str | None, query_label: str | None) -> Mark | None:
    """Return whether a hit's label is that of the query; None if one of them is not known."""
    if label is None or query_label is None:
        return None
    return "right" if label == query_label else "wrong"


def small(image: ImageLike | ItemFile, max_pixels: int) -> tuple[Image, tuple[int, int]]:
    """Return an image, a large JPEG at reduced scale, and its full size."""
    if isinstance(image, ItemFile):
        data = image.read()
        return images.decode(data, path=image.path, max_pixels=max_pixels, min_side=2 * SIDE)
    if isinstance(image, (str, os.PathLike)):
        path = Url(image) if is_url(image) else Path(image)
        data = images.read(path)
        return images.decode(data, path=path, max_pixels=max_pixels, min_side=2 * SIDE)
    if isinstance(image, bytes):
        return images.decode(image, max_pixels=max_pixels, min_side=2 * SIDE)
    pixels = images.load(image, max_pixels=max_pixels)
    return pixels, (pixels.shape[1], pixels.shape[0])


def boxed(image: Image, box: Box, size: tuple[int, int]) -> Image:
    """Return the image with the box drawn in, unless the box covers all of it.

    ``box`` is in pixels of the full size.
    """
    box = box.scale(image.shape[1] / size[0], image.shape[0] / size[1])
    if box.clip(image.shape[1], image.shape[0]) == Box.full(image):
        return image
    # Lines thick enough to show in a thumbnail, red beside white to show on things that are red.
    thickness = max(2, min(image.shape[:2]) // 80)
    lined = images.draw_box(image, box, color=(255, 255, 255), thickness=2 * thickness)
    return images.draw_box(lined, box, thickness=thickness)


def image_figure(
    shown: ImageLike | ItemFile | None,
    caption: str,
    *,
    kind: str = "",
    box: Box | None = None,
    mark: Mark | None = None,
    max_pixels: int = images.MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> str:
    """Return an image, read again if it is a file, with a caption; or why it cannot be shown.

    Parameters
    ----------
    shown : ImageLike, ItemFile or None
    caption : str
        HTML.
    kind : str
        CSS class of the figure.
    box : Box, optional
        Box to draw into the image.
    mark : {"right", "wrong"}, optional
    max_pixels, max_bytes : int
        As for `grid`.
    """
    if shown is None:
        return figure(None, caption, alt="no image stored", kind=kind, mark=mark)
    try:
        image, size = small(shown, max_pixels)
    except ImgretError as error:
        why = error.reason if isinstance(error, ImageError) else str(error)
        return figure(None, caption, alt=why, kind=kind, mark=mark)
    if box is not None:
        image = boxed(image, box, size)
    place = shown.path if isinstance(shown, ItemFile) else shown
    alt = Path(place).name if isinstance(place, (str, Path)) else "query"
    return figure(image, caption, alt=alt, kind=kind, mark=mark, max_bytes=max_bytes)


def _n_shown(row: Row) -> int:
    return len(row.image) if isinstance(row.image, list) else 1


def _query(row: Row, draw: _Draw) -> str:
    counted = [mark_of(hit.label, row.label) for hit in row.hits]
    known = sum(mark is not None for mark in counted)
    note = f"{counted.count('right')} of {known} right" if known else ""
    if not isinstance(row.image, list):
        return _shown(Shown("query", row.title, row.image), draw, row.label, note)
    below = f'<p class="faint">{html.escape(row.title)}</p>' if row.title else ""
    first, *others = row.image or [None]
    return (
        ("" if first is None else _shown(first, draw, row.label, note))
        + "".join(_shown(shown, draw) for shown in others)
        + below
    )


def _shown(shown: Shown, draw: _Draw, label: str | None = None, note: str = "") -> str:
    lines = [f'<b class="word">{html.escape(shown.word)}</b>']
    lines += [f"<b>{html.escape(label)}</b>"] if label is not None else []
    lines += [f'<span class="faint">{note}</span>'] if note else []
    if shown.is_text:
        return figure(None, "<br>".join(lines), alt=shown.title, kind=f"{shown.word} words")
    if shown.image is None and not shown.title and label is None:
        return ""
    place = shown.image.path if isinstance(shown.image, ItemFile) else shown.image
    path = place if isinstance(place, (str, os.PathLike)) else None
    lines += [file_link(path, shown.title)] if shown.title else []
    return draw(shown.image, "<br>".join(lines), kind=shown.word, box=shown.box)


def _hit(hit: Hit, query_label: str | None, draw: _Draw) -> str:
    lines = [] if hit.label is None else [f"<b>{html.escape(hit.label)}</b>"]
    likely = "" if hit.probability is None else f" · p {hit.probability:.2f}"
    lines += [f'<span class="faint">{hit.rank} · {hit.score:.3f}{likely}</span>']
    lines += [file_link(hit.path, hit.key)]
    mark = mark_of(hit.label, query_label)
    return draw(ItemFile.of(hit), "<br>".join(lines), kind="hit", box=hit.box, mark=mark)


def _figure(
    max_pixels: int,
    max_bytes: int,
    shown: ImageLike | ItemFile | None,
    caption: str,
    **options: Any,
) -> str:
    return image_figure(shown, caption, max_pixels=max_pixels, max_bytes=max_bytes, **options)
