"""The items that are copies of one image, which may be new."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import final

import numpy as np

from imgret import images
from imgret.curation.copies import RADIUS, Comparer
from imgret.images import MAX_PIXELS
from imgret.pages.curation import PageItems, scored
from imgret.pages.result import ResultList
from imgret.search import View
from imgret.types import Embeddings, Image, Item, Json

__all__ = ["Copies", "Copy", "find_copies_of"]

_NEAREST = 16  # neighbours by embedding that are compared


@dataclass(frozen=True, slots=True)
class Copy:
    """An item that is almost the same as an image.

    Attributes
    ----------
    key : str
    score : float
        Score of the item for the image, as in a search.
    """

    key: str
    score: float


@final
class Copies(ResultList[Copy]):
    """List of `Copy` that a notebook shows by their images, the most similar first.

    Parameters
    ----------
    copies : iterable of Copy
    page_items : PageItems
        Items that a page may show.
    """

    __slots__ = ("_page_items",)

    def __init__(self, copies: Iterable[Copy], page_items: PageItems) -> None:
        super().__init__(copies)
        self._page_items = page_items

    def to_dict(self) -> Json:
        """Return the copies as JSON values."""
        return {"copies": [asdict(copy) for copy in self]}

    def _frame(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        return ("key", "score"), [(copy.key, copy.score) for copy in self]

    def __str__(self) -> str:
        return "\n".join(f"{copy.score:.4f}  {copy.key}" for copy in self) or "no copies"

    def _like(self, entries: list[Copy]) -> Copies:
        return Copies(entries, self._page_items)

    def _body(self) -> str:
        return scored(f"{len(self)} copies", self, self._page_items)


def find_copies_of(
    view: View, image: Image, embedding: Embeddings, *, max_pixels: int = MAX_PIXELS
) -> Copies:
    """Find the items that are copies of an image: near by hash or embedding, then compared.

    Parameters
    ----------
    view : View
    image : uint8 array of shape (H, W, 3)
        The whole image.
    embedding : float32 array of shape (1, dim)
        Its embedding, as the gallery would store it.
    max_pixels : int
        As for `Retriever`.
    """
    query = view.project(embedding, "image")
    found = view.search(query, _NEAREST).ids[0]
    places = np.searchsorted(view.ids, found[found >= 0])
    items = list(view.items())
    bits = _bits(items, image)
    close = np.union1d(places, np.flatnonzero(bits <= RADIUS))
    near = np.isin(close, places)
    comparer = Comparer([*(items[place] for place in close), Item("")], max_pixels)
    comparer.keep(len(close), images.sketch(image))
    # A crop need not look like the other copies, but like the original: copies of copies count.
    own = len(close)
    left, copies, queue = list(range(own)), [], [own]
    while queue:
        one = queue.pop()
        for n in list(left):
            differ = int(bits[close[n]]) if one == own else 64
            # Whether the embedding is near is all that is known of it here.
            if comparer.compare((one, n, differ, 0.0 if near[n] else np.inf)):
                left.remove(n)
                queue.append(n)
                copies.append(int(close[n]))
    if not copies:
        return Copies([], PageItems({}))
    scores = view.metric.scores(
        view.scorable(view.read(view.ids[copies])), view.scorable(query)
    ).tolist()
    order = sorted(range(len(copies)), key=lambda n: -scores[n])
    return Copies(
        [Copy(items[copies[n]].key, float(scores[n])) for n in order],
        PageItems.of([items[place] for place in copies], max_pixels),
    )


def _bits(items: list[Item], image: Image) -> np.ndarray:
    """Return the bits in which each item's hash differs from the image's; 64 without a hash."""
    own = images.hash_array([images.perceptual_hash(image)])
    turned = images.turned_hashes(own)[:, 0]
    hashed = [place for place, item in enumerate(items) if item.phash is not None]
    bits = np.full(len(items), 64, dtype=np.int64)
    if hashed:
        hashes = images.hash_array([items[place].phash or b"" for place in hashed])
        differ = np.bitwise_count(hashes[:, None] ^ turned[None]).sum(axis=2, dtype=np.int64)
        bits[hashed] = differ.min(axis=1)
    return bits
