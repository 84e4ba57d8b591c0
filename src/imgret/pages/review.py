"""The review of duplicates: groups side by side, what to keep, how to move the rest."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from imgret.pages.document import document, file_link, inline_image
from imgret.types import Image

__all__ = ["FORMAT", "ReviewGroup", "Reviewed", "review_page"]

FORMAT = "imgret-duplicates-review"
"""What the list that the page saves says of itself."""

_SIDE = 240  # pixels a side
_MAX_TOTAL = 24_000_000  # bytes of all images together
_MAX_BYTES = 16_000


class Reviewed(NamedTuple):
    """A file of a group.

    Attributes
    ----------
    key : str
    path, label : str or None
    width, height : int
        Size of the image in pixels; 0 if it cannot be read.
    size, mtime_ns : int or None
        Size in bytes and modification time, as indexed.
    sharpness : float or None
        As `imgret.images.sharpness` returns it.
    problem : str
        Why the file cannot be moved; empty if it can.
    image : Image or None
    """

    key: str
    path: str | None
    label: str | None
    width: int
    height: int
    size: int | None
    mtime_ns: int | None
    sharpness: float | None = None
    problem: str = ""
    image: Image | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    @property
    def modified(self) -> str:
        """Modification time in local time, to the minute; empty if it is not known."""
        if self.mtime_ns is None:
            return ""
        try:
            return f"{datetime.fromtimestamp(self.mtime_ns / 1e9).astimezone():%Y-%m-%d %H:%M}"
        except (OverflowError, OSError, ValueError):
            return ""


class ReviewGroup(NamedTuple):
    """Files that are almost the same.

    Attributes
    ----------
    files : sequence of Reviewed
    best : int
        Position of the file that is kept by default.
    score : float
    """

    files: Sequence[Reviewed]
    best: int
    score: float


def review_page(
    title: str, summary: str, groups: Iterable[ReviewGroup], *, n_files: int, hidden: int
) -> str:
    """Return the page.

    Parameters
    ----------
    title, summary : str
        Plain text.
    groups : iterable of ReviewGroup
        Their images are needed one group at a time.
    n_files : int
        Number of files in all groups together.
    hidden : int
        Number of groups that are not shown.
    """
    max_bytes = min(_MAX_BYTES, _MAX_TOTAL // max(1, n_files))
    rows, facts = [], []
    for number, group in enumerate(groups):
        rows.append(_group(number, group, max_bytes))
        facts.append([_facts(file) for file in group.files])
    more = f'<p class="faint">{_unseen(len(rows), hidden)}</p>' if hidden else ""
    data = json.dumps({"format": FORMAT, "groups": facts}).replace("<", "\\u003c")
    body = (
        f"<main><h1>{html.escape(title)}</h1><p>{html.escape(summary)}</p>"
        f"{''.join(rows)}{more}</main>{_TOOLS if rows else ''}"
        f'<script type="application/json" id="files">{data}</script>'
    )
    return document(
        title, body, kind="review", styles=["review.css"], scripts=["review.js"] if rows else []
    )


def _unseen(n_shown: int, hidden: int) -> str:
    if n_shown:
        more = f"{hidden:,} more {'group' if hidden == 1 else 'groups'}"
        return f"and {more}; move these first, then make the page again"
    those = "1 group is" if hidden == 1 else f"{hidden:,} groups are"
    return f"{those} behind those that a page shows; make the page of all groups"


_TOOLS = """
<section class="tools" aria-labelledby="moves">
  <div class="choices">
    <h2 id="moves">Move what is not kept</h2>
    <p id="count" role="status"></p>
    <label>Folder <input id="folder" value="duplicates" spellcheck="false"></label>
    <button type="button" id="copy">Copy commands</button>
    <button type="button" id="save">Save list</button>
    <button type="button" id="reset">Keep the best only</button>
  </div>
  <details id="shown"><summary>Commands</summary>
    <p class="faint">The commands move files (<code>mv</code>, for sh, bash and zsh) and never
      overwrite. To have each file checked for changes first, and the gallery updated, save the list
      and run <code>imgret duplicates GALLERY --review LIST --move FOLDER</code>.</p>
    <pre id="commands" tabindex="0"></pre>
  </details>
</section>
"""


def _group(number: int, group: ReviewGroup, max_bytes: int) -> str:
    widest = max(file.pixels for file in group.files)
    figures = "".join(
        _figure(number, place, file, group, widest, max_bytes)
        for place, file in enumerate(group.files)
    )
    return (
        f'<section class="group" data-group="{number}"><h2>{len(group.files)} images '
        f'<span class="faint">score {group.score:.3f}</span></h2>'
        f'<div class="row">{figures}</div></section>'
    )


def _figure(  # noqa: PLR0917  # private, and called once
    number: int, place: int, file: Reviewed, group: ReviewGroup, widest: int, max_bytes: int
) -> str:
    best = place == group.best
    name = f"keep-{number}-{place}"
    frame = (
        "no image"
        if file.image is None
        else inline_image(file.image, _SIDE, alt=file.key, max_bytes=max_bytes)
    )
    lines = [file_link(file.path, file.key)]
    if file.pixels:
        strong = "b" if file.pixels == widest else "span"
        lines += [f"<{strong}>{file.width:,} x {file.height:,} pixels</{strong}>"]
    if file.size is not None:
        lines += [f"{_bytes(file.size)}"]
    if file.modified:
        lines += [file.modified]
    if file.sharpness is not None:
        lines += [f"sharpness {file.sharpness:,.0f}"]
    if file.label is not None:
        lines += [html.escape(file.label)]
    if file.problem:
        lines += [f'<span class="problem">{html.escape(file.problem)}</span>']
    state = (" checked" if best or file.problem else "") + (" disabled" if file.problem else "")
    mark = " data-best" if best else ""
    return (
        f'<figure><label class="frame" for="{name}">{frame}</label><p class="keep">'
        f'<input type="checkbox" id="{name}" data-place="{place}"{mark}{state}>'
        f'<label for="{name}">Keep</label>{" <b>best</b>" if best else ""}</p>'
        f"<figcaption>{'<br>'.join(lines)}</figcaption></figure>"
    )


def _facts(file: Reviewed) -> dict[str, str | None]:
    return {
        "key": file.key,
        "path": file.path,
        "size": None if file.size is None else str(file.size),
        "mtime_ns": None if file.mtime_ns is None else str(file.mtime_ns),
    }


def _bytes(size: int) -> str:
    """Return a size in bytes as people read it."""
    for unit, step in (("MB", 1e6), ("kB", 1e3)):
        if size >= step:
            return f"{size / step:,.1f} {unit}"
    return f"{size} bytes"
