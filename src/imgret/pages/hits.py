"""Queries with their hits, as rows of images."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from imgret import images
from imgret.errors import ImageError
from imgret.pages.document import document, figure
from imgret.types import Box, Hit, Image, ImageLike

__all__ = ["Row", "Shown", "grid", "page"]


class Shown(NamedTuple):
    """One image of a query that has several.

    Attributes
    ----------
    word : str
        Role of the image: ``"query"``, ``"unlike"``.
    title : str
    image : ImageLike or None
    box : Box or None
        Box to draw into the image.
    is_text : bool
        Whether the title is the query itself, and there is no image.
    """

    word: str
    title: str
    image: ImageLike | None
    box: Box | None = None
    is_text: bool = False


# A query with its hits: title, image or all its images, hits.
Row: TypeAlias = tuple[str, ImageLike | list[Shown] | None, Sequence[Hit]]

_Draw: TypeAlias = Callable[[ImageLike | None, Box | None, str, str], str]

_SIDE = 160


def grid(rows: Sequence[Row], *, max_pixels: int = images.MAX_PIXELS) -> str:
    """Return HTML that shows queries and their hits, images inlined.

    Parameters
    ----------
    rows : sequence of (title, image or None, hits)
        One row per query. The image may be a list of `Shown`, which have their own titles; the
        title of the row is then a note.
    max_pixels : int
        Images with more pixels are not shown.
    """
    draw = partial(_figure, max_pixels)
    return "".join(
        f'<div class="row">{_query(title, image, draw)}'
        f"{''.join(_hit(hit, draw) for hit in hits)}</div>"
        for title, image, hits in rows
    )


def page(
    rows: Sequence[Row], *, title: str, note: str = "", max_pixels: int = images.MAX_PIXELS
) -> str:
    """Return `grid` as a self-contained HTML page."""
    return document(title, grid(rows, max_pixels=max_pixels), note=note)


def small(image: ImageLike, max_pixels: int) -> tuple[Image, tuple[int, int]]:
    """Return an image, a large JPEG at reduced scale, and its full size."""
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        data = images.read(path)
        return images.decode(data, path=path, max_pixels=max_pixels, min_side=2 * _SIDE)
    if isinstance(image, bytes):
        return images.decode(image, max_pixels=max_pixels, min_side=2 * _SIDE)
    pixels = images.load(image, max_pixels=max_pixels)
    return pixels, (pixels.shape[1], pixels.shape[0])


def boxed(image: Image, box: Box, size: tuple[int, int]) -> Image:
    """Return the image with the box drawn in, unless the box covers all of it.

    ``box`` is in pixels of the full size.
    """
    box = box.scale(image.shape[1] / size[0], image.shape[0] / size[1])
    if box.clip(image.shape[1], image.shape[0]) == Box.full(image):
        return image
    # Lines thick enough to show in a thumbnail.
    return images.draw_box(image, box, thickness=max(2, min(image.shape[:2]) // 80))


def _query(title: str, image: ImageLike | list[Shown] | None, draw: _Draw) -> str:
    if isinstance(image, list):
        note = f'<p class="faint">{html.escape(title)}</p>' if title else ""
        return "".join(_shown(shown, draw) for shown in image) + note
    return _shown(Shown("query", title, image), draw)


def _shown(shown: Shown, draw: _Draw) -> str:
    if shown.is_text:
        return figure(None, f"<b>{html.escape(shown.word)}</b>", alt=shown.title, kind=shown.word)
    if shown.image is None and not shown.title:
        return ""
    caption = f"<b>{html.escape(shown.word)}</b><br>{html.escape(shown.title)}"
    return draw(shown.image, shown.box, caption, shown.word)


def _hit(hit: Hit, draw: _Draw) -> str:
    label = f"<b>{html.escape(hit.label)}</b><br>" if hit.label is not None else ""
    score = f'<span class="faint">{hit.rank} · {hit.score:.3f}</span><br>'
    return draw(hit.path, hit.box, label + score + html.escape(hit.key), "hit")


def _figure(
    max_pixels: int, shown: ImageLike | None, box: Box | None, caption: str, kind: str
) -> str:
    if shown is None:
        return figure(None, caption, alt="no image stored", kind=kind)
    try:
        image, size = small(shown, max_pixels)
    except ImageError as error:
        return figure(None, caption, alt=error.reason, kind=kind)
    if box is not None:
        image = boxed(image, box, size)
    alt = Path(shown).name if isinstance(shown, (str, Path)) else "query"
    return figure(image, caption, alt=alt, kind=kind, side=_SIDE)
