"""Queries with their hits, as rows of images."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from imgret import images
from imgret.errors import ImageError
from imgret.pages.document import document, figure
from imgret.types import Box, Hit, Image, ImageLike

__all__ = ["Row", "Shown", "grid", "page"]


class Shown(NamedTuple):
    """An image of a query of several.

    Attributes
    ----------
    word : str
        What it is: ``"query"``, ``"unlike"``.
    title : str
    image : ImageLike or None
    box : Box or None
        Drawn into it.
    """

    word: str
    title: str
    picture: ImageLike | None
    box: Box | None = None


# A query with its hits: title, image or all its images, hits.
Row: TypeAlias = tuple[str, ImageLike | list[Shown] | None, Sequence[Hit]]

_SIDE = 160


def grid(rows: Sequence[Row]) -> str:
    """Return HTML that shows queries and their hits, images inlined.

    Parameters
    ----------
    rows : sequence of (title, image or None, hits)
        One for each query. Instead of an image, a list of `Shown`, which have titles of their own;
        the first title is then a note.
    """
    return "".join(
        f'<div class="row">{_query(title, picture)}{"".join(map(_hit, hits))}</div>'
        for title, picture, hits in rows
    )


def page(rows: Sequence[Row], *, title: str, note: str = "") -> str:
    """Return a whole page for `grid`, in one file that needs no other."""
    return document(title, grid(rows), note=note)


def small(picture: ImageLike) -> tuple[Image, tuple[int, int]]:
    """Return an image, a large JPEG at reduced scale, and its full size."""
    if isinstance(picture, (str, os.PathLike)):
        path = Path(picture)
        return images.decode(images.read(path), path=path, min_side=2 * _SIDE)
    if isinstance(picture, bytes):
        return images.decode(picture, min_side=2 * _SIDE)
    image = images.load(picture)
    return image, (image.shape[1], image.shape[0])


def boxed(image: Image, box: Box, size: tuple[int, int]) -> Image:
    """Return the image with a box of the full-size image drawn into it, unless it is all of it."""
    box = box.scale(image.shape[1] / size[0], image.shape[0] / size[1])
    if box.clip(image.shape[1], image.shape[0]) == Box.full(image):
        return image
    # In lines that a thumbnail still shows.
    return images.draw_box(image, box, thickness=max(2, min(image.shape[:2]) // 80))


def _query(title: str, picture: ImageLike | list[Shown] | None) -> str:
    if isinstance(picture, list):
        note = f'<p class="faint">{html.escape(title)}</p>' if title else ""
        return "".join(map(_shown, picture)) + note
    return _shown(Shown("query", title, picture))


def _shown(shown: Shown) -> str:
    if shown.picture is None and not shown.title:
        return ""
    caption = f"<b>{html.escape(shown.word)}</b><br>{html.escape(shown.title)}"
    return _figure(shown.picture, shown.box, caption, shown.word)


def _hit(hit: Hit) -> str:
    label = f"<b>{html.escape(hit.label)}</b><br>" if hit.label is not None else ""
    score = f'<span class="faint">{hit.rank} · {hit.score:.3f}</span><br>'
    return _figure(hit.path, hit.box, label + score + html.escape(hit.key), "hit")


def _figure(picture: Any, box: Box | None, caption: str, kind: str) -> str:
    if picture is None:
        return figure(None, caption, alt="no image kept", kind=kind)
    try:
        image, size = small(picture)
    except ImageError as error:
        return figure(None, caption, alt=error.reason, kind=kind)
    if box is not None:
        image = boxed(image, box, size)
    alt = Path(picture).name if isinstance(picture, (str, Path)) else "query"
    return figure(image, caption, alt=alt, kind=kind, side=_SIDE)
