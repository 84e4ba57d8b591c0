"""Whole pages, notebook fragments, tables and inlined images."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from imgret import images
from imgret.files import is_archive, is_url
from imgret.types import Image

__all__ = [
    "MAX_BYTES",
    "SIDE",
    "Mark",
    "document",
    "facts",
    "figure",
    "file_address",
    "file_link",
    "fragment",
    "image_data",
    "inline_image",
    "table",
]

# Whether a hit has the label of the query.
Mark: TypeAlias = Literal["right", "wrong"]

# Longer side of an inlined image. Pages show it at 160 pixels, so it is sharp on most screens.
SIDE = 200
# Maximum size of an inlined JPEG: a query and 50 hits then stay below 1 MB in base64.
MAX_BYTES = 14_000
# Side, as a share of the requested one, and quality. The first that is small enough is used.
_LADDER = ((1, 75), (1, 60), (0.8, 60), (0.64, 55), (0.48, 50), (0.32, 40), (0.16, 30))
_LINKED = ("http://", "https://", "ftp://")
_MARKS: dict[Mark, str] = {"right": "\N{CHECK MARK}", "wrong": "\N{MULTIPLICATION X}"}

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
    return _encodable(
        _PAGE.format(
            title=html.escape(title),
            style="".join(map(_asset, ("page.css", *styles))),
            kind=f"imgret {kind}".rstrip(),
            body=body,
            scripts="".join(f"<script>\n{_asset(name)}</script>\n" for name in scripts),
        )
    )


def fragment(body: str) -> str:
    """Return HTML with its style sheet, to be shown outside a page, as in a notebook."""
    return _encodable(f'<style>\n{_asset("page.css")}</style>\n<div class="imgret">{body}</div>')


def table(names: Iterable[str], rows: Iterable[Iterable[Any]], *, sortable: bool = False) -> str:
    """Return a table of plain text.

    Parameters
    ----------
    names : iterable of str
        Headers of the columns.
    rows : iterable of iterables
    sortable : bool
        If true, ``sort.js`` on the page sorts it by a click on a column header.
    """
    start, stop = ('<button type="button">', "</button>") if sortable else ("", "")
    head = "".join(f'<th scope="col">{start}{html.escape(name)}{stop}</th>' for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="table"><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts(rows: Mapping[str, Any]) -> str:
    """Return a table of two columns, names and values, both plain text."""
    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f'<table class="facts"><tbody>{body}</tbody></table>'


def figure(
    image: Image | None,
    caption: str,
    *,
    alt: str,
    kind: str = "",
    side: int = SIDE,
    mark: Mark | None = None,
    max_bytes: int = MAX_BYTES,
) -> str:
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
    mark : {"right", "wrong"}, optional
        Frames the image and adds a sign, which is text for screen readers.
    max_bytes : int
        Maximum size of the JPEG.
    """
    inner = (
        html.escape(alt)
        if image is None
        else inline_image(image, side, alt=alt, max_bytes=max_bytes)
    )
    if mark is not None:
        kind = f"{kind} {mark}".lstrip()
        inner += f'<span class="mark" role="img" aria-label="{mark}">{_MARKS[mark]}</span>'
    of_kind = f' class="{html.escape(kind)}"' if kind else ""
    return (
        f'<figure{of_kind}><div class="frame">{inner}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def file_link(path: str | os.PathLike[str] | None, text: str) -> str:
    """Return the text as a link to a file; plain text if a browser cannot open it."""
    address = None if path is None else file_address(path)
    if address is None:
        return html.escape(text)
    return f'<a href="{html.escape(address)}">{html.escape(text)}</a>'


def file_address(path: str | os.PathLike[str]) -> str | None:
    """Return the address of a file for a link; None if a browser cannot open it.

    File names that are no valid text are escaped byte by byte, as in any ``file:`` address.
    """
    if is_url(path):
        # Not s3:// and the like; and nothing that runs, such as javascript://.
        return str(path) if str(path).lower().startswith(_LINKED) else None
    if not os.path.exists(path) and any(map(is_archive, Path(path).parents)):  # noqa: PTH110  # maybe of bytes
        return None  # a browser does not look into archives
    try:
        return Path(path).absolute().as_uri()
    except ValueError:  # a path of another operating system
        return None


def inline_image(image: Image, side: int, *, alt: str, max_bytes: int = MAX_BYTES) -> str:
    """Return an ``<img>`` element with the image inline.

    It is a JPEG of at most ``side`` pixels. If it would be larger than ``max_bytes``, first its
    quality and then its side is reduced.
    """
    small = b""
    for share, quality in _LADDER:
        shrunk = images.thumbnail(image, max(1, round(side * share)))
        small = images.encode(shrunk, "jpeg", quality=quality)
        if len(small) <= max_bytes:
            break
    return f'<img alt="{html.escape(alt)}" src="{_address(small)}">'


def image_data(image: Image, side: int) -> str:
    """Return the address of an image that is inline: a JPEG of at most ``side`` pixels."""
    return _address(images.encode(images.thumbnail(image, side), "jpeg", quality=82))


def _address(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _encodable(text: str) -> str:
    """Replace what UTF-8 cannot encode, such as bytes of file names that are no valid text."""
    return text.encode("utf-8", "replace").decode()


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
