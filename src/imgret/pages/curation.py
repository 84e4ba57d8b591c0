"""Duplicates, outliers, label issues and clusters, shown by their images."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from imgret import images
from imgret.files import ItemFile
from imgret.pages.document import MAX_BYTES, file_link
from imgret.pages.hits import MAX_TOTAL, image_figure
from imgret.types import Item

__all__ = ["PageItems", "Scored", "Section", "scored", "sections"]

_SHOWN = 60  # images of a list with scores


@dataclass(frozen=True, slots=True)
class PageItems:
    """The items that a page may show.

    Attributes
    ----------
    items : mapping of str to Item
        Items by key. Keys that are missing are shown as text.
    max_pixels : int
        Images with more pixels are not shown.
    """

    items: Mapping[str, Item]
    max_pixels: int = images.MAX_PIXELS

    @classmethod
    def of(cls, items: Iterable[Item], max_pixels: int) -> PageItems:
        """Return these items by their keys."""
        return cls({item.key: item for item in items}, max_pixels)


@dataclass(frozen=True, slots=True)
class Section:
    """A row of images.

    Attributes
    ----------
    title : str
        Plain text above the images; may be empty.
    keys : sequence of str
        Items to show.
    notes : sequence of str
        One line of plain text for each of them; may be empty.
    n_more : int
        Number of items that are not shown.
    first : str
        Word for the first item if it is the one that the others belong to; may be empty.
    """

    title: str
    keys: Sequence[str]
    notes: Sequence[str] = ()
    n_more: int = 0
    first: str = ""


class Scored(Protocol):
    """An item of a list, with its score."""

    @property
    def key(self) -> str:
        """Key of the item."""

    @property
    def score(self) -> float:
        """Score to show below it."""


def scored(summary: str, entries: Sequence[Scored], page_items: PageItems) -> str:
    """Return HTML of the first 60 items of a list, with their scores."""
    shown = entries[:_SHOWN]
    row = Section(
        "",
        [one.key for one in shown],
        [f"score {one.score:.3f}" for one in shown],
        n_more=len(entries) - len(shown),
    )
    return sections(summary, [row], page_items)


def sections(
    summary: str, rows: Sequence[Section], page_items: PageItems, *, hidden: str = ""
) -> str:
    """Return HTML of rows of images, below 1 MB for up to 200 images.

    Parameters
    ----------
    summary : str
        Plain text at the top.
    rows : sequence of Section
    page_items : PageItems
    hidden : str
        Plain text at the end about what is not shown.
    """
    total = sum(len(row.keys) for row in rows)
    max_bytes = min(MAX_BYTES, MAX_TOTAL // max(1, total))
    body = "".join(_section(row, page_items, max_bytes) for row in rows)
    end = f'<p class="faint">{html.escape(hidden)}</p>' if hidden else ""
    return f"<p>{html.escape(summary)}</p>{body}{end}"


def _section(row: Section, page_items: PageItems, max_bytes: int) -> str:
    figures = [
        _figure(key, note, page_items, max_bytes, row.first if not place else "")
        for place, (key, note) in enumerate(
            zip(row.keys, row.notes or [""] * len(row.keys), strict=True)
        )
    ]
    title = f"<h3>{html.escape(row.title)}</h3>" if row.title else ""
    more = f'<p class="faint">and {row.n_more:,} more</p>' if row.n_more else ""
    return f'{title}<div class="row">{"".join(figures)}{more}</div>'


def _figure(key: str, note: str, page_items: PageItems, max_bytes: int, word: str) -> str:
    item = page_items.items.get(key, Item(key))
    lines = [f'<b class="word">{html.escape(word)}</b>'] if word else []
    lines += [f"<b>{html.escape(item.label)}</b>"] if item.label is not None else []
    lines += [f'<span class="faint">{html.escape(note)}</span>'] if note else []
    lines += [file_link(item.path, key)]
    return image_figure(
        ItemFile.of(item),
        "<br>".join(lines),
        kind="query" if word else "",
        max_pixels=page_items.max_pixels,
        max_bytes=max_bytes,
    )
