"""Hits as pictures: a grid for notebooks, a page of its own for everything else."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from imgret import images
from imgret.errors import ImageError
from imgret.types import Box, Hit, Image, ImageLike

__all__ = ["Row", "Shown", "grid", "page"]


class Shown(NamedTuple):
    """A picture of a query of several.

    Attributes
    ----------
    word : str
        What it is: ``"query"``, ``"unlike"``.
    title : str
    picture : ImageLike or None
    box : Box or None
        Drawn into it.
    """

    word: str
    title: str
    picture: ImageLike | None
    box: Box | None = None


# A query with its hits: title, picture or all its pictures, hits.
Row: TypeAlias = tuple[str, ImageLike | list[Shown] | None, Sequence[Hit]]

_SIDE = 160
_STYLE = """
.imgret{font:13px/1.35 system-ui,sans-serif;color:#1d1d1f}
.imgret .row{display:flex;gap:14px;flex-wrap:wrap;align-items:flex-start;margin:0 0 22px}
.imgret figure{margin:0;width:160px}
.imgret .frame{width:160px;height:160px;display:flex;align-items:center;justify-content:center;
  background:#f2f2f4;border-radius:8px;overflow:hidden;color:#6e6e73;text-align:center}
.imgret .frame img{max-width:160px;max-height:160px;display:block}
.imgret .query .frame{outline:3px solid #0a6cff}
.imgret .unlike .frame{outline:3px solid #c8372d}
.imgret figcaption{padding:4px 2px;overflow-wrap:anywhere}
.imgret b{font-weight:600}
.imgret .faint{color:#6e6e73}
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body{{margin:28px auto;max-width:1280px;padding:0 20px;background:#fff}}
h1{{font:600 22px/1.3 system-ui,sans-serif;margin:0 0 4px}}
p.note{{font:13px/1.4 system-ui,sans-serif;color:#6e6e73;margin:0 0 24px}}
{style}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="note">{note}</p>
{grid}
</body>
</html>
"""


def grid(rows: Sequence[Row]) -> str:
    """Return HTML that shows queries and their hits, pictures inlined.

    Parameters
    ----------
    rows : sequence of (title, picture or None, hits)
        One for each query. Instead of a picture, a list of `Shown`, which have titles of their own;
        the first title is then a note.
    """
    blocks = "".join(
        f'<div class="row">{_query(title, picture)}{"".join(map(_hit, hits))}</div>'
        for title, picture, hits in rows
    )
    return f'<div class="imgret">{blocks}</div>'


def page(rows: Sequence[Row], *, title: str, note: str = "") -> str:
    """Return a whole HTML page for `grid`, in one file that needs no other."""
    return _PAGE.format(
        title=html.escape(title), note=html.escape(note), style=_STYLE, grid=grid(rows)
    )


def styled(fragment: str) -> str:
    """Return a grid with the style it needs where there is no page around it."""
    return f"<style>{_STYLE}</style>{fragment}"


def _query(title: str, picture: ImageLike | list[Shown] | None) -> str:
    if isinstance(picture, list):
        note = f'<p class="faint">{html.escape(title)}</p>' if title else ""
        return "".join(map(_figure, picture)) + note
    return _figure(Shown("query", title, picture))


def _figure(shown: Shown) -> str:
    if shown.picture is None and not shown.title:
        return ""
    return (
        f'<figure class="{html.escape(shown.word)}">{_frame(shown.picture, shown.box)}'
        f"<figcaption><b>{html.escape(shown.word)}</b><br>{html.escape(shown.title)}</figcaption>"
        f"</figure>"
    )


def _hit(hit: Hit) -> str:
    label = f"<b>{html.escape(hit.label)}</b><br>" if hit.label is not None else ""
    return (
        f"<figure>{_frame(hit.path, hit.box)}"
        f'<figcaption>{label}<span class="faint">{hit.rank} · {hit.score:.3f}</span><br>'
        f"{html.escape(hit.key)}</figcaption></figure>"
    )


def _small(picture: Any) -> tuple[Image, tuple[int, int]]:
    """Return an image, a large JPEG at reduced scale, and its full size."""
    if isinstance(picture, (str, os.PathLike)):
        path = Path(picture)
        return images.decode(images.read(path), path=path, min_side=2 * _SIDE)
    if isinstance(picture, bytes):
        return images.decode(picture, min_side=2 * _SIDE)
    image = images.load(picture)
    return image, (image.shape[1], image.shape[0])


def _frame(picture: Any, box: Box | None) -> str:
    if picture is None:
        return '<div class="frame">no picture kept</div>'
    try:
        image, size = _small(picture)
    except ImageError as error:
        return f'<div class="frame">{html.escape(error.reason)}</div>'
    if box is not None:
        box = box.scale(image.shape[1] / size[0], image.shape[0] / size[1])
    if box is not None and box.clip(image.shape[1], image.shape[0]) != Box.full(image):
        image = images.draw_box(image, box, thickness=max(2, min(image.shape[:2]) // 80))
    data = base64.b64encode(images.encode(images.thumbnail(image, _SIDE), "jpeg", quality=82))
    alt = html.escape(Path(picture).name if isinstance(picture, (str, Path)) else "query")
    return (
        f'<div class="frame"><img alt="{alt}" src="data:image/jpeg;base64,{data.decode()}"></div>'
    )
