"""Whole pages, notebook fragments, tables and inlined images."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from imgret import images
from imgret.types import Image

__all__ = ["document", "figure", "fragment", "inline_image", "table"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body class="{kind}">
{body}
{scripts}</body>
</html>
"""


def document(
    title: str,
    body: str,
    *,
    note: str = "",
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    kind: str = "",
) -> str:
    """Return a self-contained HTML page.

    Parameters
    ----------
    title, note : str
        Plain text. The note appears below the title.
    body : str
        HTML.
    scripts : sequence of str
        Names of script files in this package, such as ``"sort.js"``.
    styles : sequence of str
        Names of style sheets in this package, used after the one of all pages.
    kind : str
        CSS class of the body, for a page with its own layout. Such a page brings its own title.
    """
    if not kind:
        head = f"<h1>{html.escape(title)}</h1>\n"
        body = head + (f'<p class="note">{html.escape(note)}</p>\n' if note else "") + body
    return _PAGE.format(
        title=html.escape(title),
        style="".join(map(_asset, ("page.css", *styles))),
        kind=f"imgret {kind}".rstrip(),
        body=body,
        scripts="".join(f"<script>\n{_asset(name)}</script>\n" for name in scripts),
    )


def fragment(body: str) -> str:
    """Return HTML with its style sheet, to be shown outside a page, as in a notebook."""
    return f'<style>\n{_asset("page.css")}</style>\n<div class="imgret">{body}</div>'


def table(names: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table; ``sort.js`` on the page makes it sort by a click on a column header."""
    head = "".join(
        f'<th scope="col"><button type="button">{html.escape(name)}</button></th>' for name in names
    )
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def figure(image: Image | None, caption: str, *, alt: str, kind: str = "", side: int = 160) -> str:
    """Return an image with a caption.

    Parameters
    ----------
    image : Image or None
        Image to show; None shows ``alt`` in its place.
    caption : str
        HTML.
    alt : str
        Plain text.
    kind : str
        CSS class of the figure.
    side : int
        Longer side in pixels; smaller images are not enlarged.
    """
    inner = html.escape(alt) if image is None else inline_image(image, side, alt=alt)
    of_kind = f' class="{html.escape(kind)}"' if kind else ""
    return (
        f'<figure{of_kind}><div class="frame">{inner}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def inline_image(image: Image, side: int, *, alt: str) -> str:
    """Return an ``<img>`` element with the image inline, as a JPEG of at most ``side`` pixels."""
    small = images.encode(images.thumbnail(image, side), "jpeg", quality=82)
    data = base64.b64encode(small).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/jpeg;base64,{data}">'


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
