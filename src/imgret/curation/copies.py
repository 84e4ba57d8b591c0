"""Which items are copies of each other, by hash, embedding and pixels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret import images
from imgret.curation.forest import joined as connected
from imgret.errors import ImgretError
from imgret.ingest.progress import Progress, progress_bar
from imgret.pipeline.embed import worker_count
from imgret.search import View
from imgret.support.locks import RLock
from imgret.types import Embeddings, Ids, Image, Item

__all__ = [
    "RADIUS",
    "Candidates",
    "Comparer",
    "Hashes",
    "Joined",
    "candidates",
    "copies_among",
    "hashes_of",
]

RADIUS = 13
"""Bits of the hash in which two images may differ to be compared."""

_NEAR = 10  # bits up to which that they are near counts in the comparison

# Without files there is nothing to compare: then so few bits may differ, if the embeddings are near
# as well.
_SURE = 6
_NEAREST = 16  # neighbours that tell how close together images are where an item lies
_COMPARED = 6  # of these, those that may be copies
# Copies are closer than this share of the distance of the last of the neighbours. Of copies that
# show 60 % of each side of an image, 95 % are; of other crops, borders and watermarks, 99 %.
_CLOSE = 0.85
# The same for mirror images, which embeddings hardly tell from the original.
_MIRROR_CLOSE = 0.5
_OF_EACH = 8  # images of near hashes with which one is compared, and more that nothing else joins
_SKETCH_BYTES = 512 * 2**20  # memory for images that are compared
_CHUNK = 256  # pairs between two looks at what is joined by now

Done: TypeAlias = Callable[[int], None]


class Hashes(NamedTuple):
    """The perceptual hashes of items.

    Attributes
    ----------
    places : int64 array of shape (m,)
        Positions of the items that have one, increasing.
    hashes : uint8 array of shape (m, 8)
    computed : dict of int to bytes
        Hashes computed now, as the gallery had none, by position.
    """

    places: Ids
    hashes: NDArray[np.uint8]
    computed: dict[int, bytes]


class Candidates(NamedTuple):
    """Pairs of items that may be copies, the first of each before the second.

    Attributes
    ----------
    a, b : int64 arrays of shape (p,)
        Positions of the items.
    bits : int32 array of shape (p,)
        Bits in which their hashes differ, at best over mirroring and quarter turns; 64 if that is
        more than `RADIUS`, or if a hash is missing.
    near : float32 array of shape (p,)
        Their distance as a share of that of the 16th neighbour; infinity if neither is among the
        nearest of the other.
    """

    a: Ids
    b: Ids
    bits: NDArray[np.int32]
    near: Embeddings


def hashes_of(items: Sequence[Item], *, max_pixels: int, done: Done) -> Hashes:
    """Return the hashes of items; missing ones are computed from their files, if possible."""
    missing = [place for place, item in enumerate(items) if item.phash is None and item.path]

    def computed(place: int) -> bytes | None:
        image = _image(items[place], max_pixels)
        done(1)
        return None if image is None else images.perceptual_hash(image)

    found: dict[int, bytes] = {}
    if missing:
        with ThreadPoolExecutor(worker_count(), thread_name_prefix="imgret") as pool:
            made = pool.map(computed, missing)
            found = {p: h for p, h in zip(missing, made, strict=True) if h is not None}
    hashes = [item.phash or found.get(place) for place, item in enumerate(items)]
    places = np.array([p for p, h in enumerate(hashes) if h is not None], dtype=np.int64)
    return Hashes(places, images.hash_array([h for h in hashes if h is not None]), found)


def candidates(view: View, hashes: Hashes, *, progress: Progress = False) -> Candidates:
    """Return the pairs that are worth comparing: near by hash, or unusually near by embedding."""
    from imgret.indexes.faiss.hamming import near_hashes  # noqa: PLC0415  # loads Faiss

    n = len(view)
    bits = _LeastPairs(n)
    # Equal hashes are compared once: a thousand copies of an image do not cost a thousand squared.
    distinct, first, number = np.unique(
        hashes.hashes, axis=0, return_index=True, return_inverse=True
    )
    places, turned = hashes.places[first], images.turned_hashes(distinct)
    total = n + len(turned) * len(distinct)
    with progress_bar(progress, total=total, unit="search", desc="finding pairs") as bar:
        for queries in turned:
            for part, rows, columns, apart in near_hashes(queries, distinct, RADIUS, _OF_EACH):
                bits.add(places[rows], places[columns], apart)
                bar.update(part.stop - part.start)
        near = _LeastPairs(n)
        for a, b, share in _nearest(view, bar.update):
            near.add(a, b, share)
    order = np.argsort(number.ravel(), kind="stable")
    same = np.flatnonzero(np.diff(number.ravel()[order]) == 0)
    for others in (order[same], first[number.ravel()[order[same]]]):  # the one before; the first
        a, b = hashes.places[others], hashes.places[order[same + 1]]
        bits.add(a, b, np.zeros(len(a), dtype=np.int32))
    return _joined(n, bits, near)


class _LeastPairs:
    """Pairs of positions with the least value of each."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._codes: list[Ids] = []
        self._values: list[NDArray[np.generic]] = []

    def add(self, a: Ids, b: Ids, values: NDArray[np.generic]) -> None:
        """Add pairs in any order; those of an item with itself are left out."""
        low, high = np.minimum(a, b), np.maximum(a, b)
        apart = low != high
        self._codes.append((low * self._n + high)[apart])
        self._values.append(values[apart])

    def least(self) -> tuple[Ids, NDArray[np.generic]]:
        """Return the codes of the pairs, increasing, and the least value of each."""
        if not self._codes:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        codes, values = np.concatenate(self._codes), np.concatenate(self._values)
        order = np.lexsort((values, codes))
        codes, kept = np.unique(codes[order], return_index=True)
        return codes, values[order][kept]


def _joined(n: int, bits: _LeastPairs, near: _LeastPairs) -> Candidates:
    by_bits, distances = bits.least()
    by_near, shares = near.least()
    codes = np.union1d(by_bits, by_near)
    all_bits = np.full(len(codes), 64, dtype=np.int32)
    all_bits[np.searchsorted(codes, by_bits)] = distances
    all_near = np.full(len(codes), np.inf, dtype=np.float32)
    all_near[np.searchsorted(codes, by_near)] = shares
    return Candidates(codes // n, codes % n, all_bits, all_near)


def _nearest(view: View, done: Done) -> Iterator[tuple[Ids, Ids, Embeddings]]:
    """Yield pairs of items and unusually near neighbours, with their share of the usual distance.

    What is usual is the distance of the 16th neighbour, or its median over all items if that is
    more: where more than 16 copies lie together, their neighbours are no measure.
    """
    k = min(_NEAREST, len(view) - 1)
    if k < 1:
        return
    pieces = []
    for part, found in view.nearest_others(view.ids, k):
        pieces.append((part, found))
        done(len(found.ids))
    if k < _NEAREST:  # few items: all of them are compared
        for part, found in pieces:
            rows, columns = np.nonzero(found.ids >= 0)
            others = np.searchsorted(view.ids, found.ids[rows, columns])
            yield np.arange(part.start, part.stop)[rows], others, np.zeros(len(rows), np.float32)
        return
    last = np.concatenate([_distances(view, found.scores[:, -1]) for _, found in pieces])
    usual = np.maximum(last, np.median(last))
    for part, found in pieces:
        some = found.ids[:, :_COMPARED]
        share = _distances(view, found.scores[:, :_COMPARED])
        share /= np.maximum(usual[part, None], np.finfo(np.float32).tiny)
        rows, columns = np.nonzero((some >= 0) & (share <= _CLOSE))
        others = np.searchsorted(view.ids, some[rows, columns])
        yield np.arange(part.start, part.stop)[rows], others, share[rows, columns]


def _distances(view: View, scores: Embeddings) -> Embeddings:
    """Return squared distances, or what is proportional to them; 0 for inner products.

    Inner products are no distances: any neighbour may then be a copy.
    """
    if view.metric.rewards_length:
        return np.zeros_like(scores)
    # An approximate index may find less than was asked for.
    return np.where(np.isfinite(scores), np.maximum(view.metric.range[1] - scores, 0), np.inf)


def copies_among(
    items: Sequence[Item], pairs: Candidates, joined: Joined, *, max_pixels: int, done: Done
) -> None:
    """Compare pairs, and join the copies; pairs that are joined already are not compared.

    Parameters
    ----------
    items : sequence of Item
    pairs : Candidates
    joined : Joined
        What is known so far; filled in.
    max_pixels : int
        Images with more pixels are not compared.
    done : callable
        Called with the number of pairs that were decided.
    """
    comparer = Comparer(items, max_pixels)
    # What hangs together one after the other, so that the images are still in memory; of that, the
    # likeliest first, as they save others; and those of one folder together, as items of a folder
    # usually follow each other.
    whole = connected(len(items), pairs.a, pairs.b)[pairs.a]
    order = np.lexsort((pairs.b, pairs.a, pairs.bits > RADIUS, whole))
    with ThreadPoolExecutor(worker_count(), thread_name_prefix="imgret") as pool:
        for start in range(0, len(order), _CHUNK):
            chunk = [
                (int(pairs.a[p]), int(pairs.b[p]), int(pairs.bits[p]), float(pairs.near[p]))
                for p in order[start : start + _CHUNK]
            ]
            open_ = [pair for pair in chunk if not joined.has(pair[0], pair[1])]
            for (a, b, *_), copy in zip(open_, pool.map(comparer.compare, open_), strict=True):
                if copy:
                    joined.add(a, b)
            done(len(chunk))


class Joined:
    """Groups of positions that are joined pair by pair, and the pairs that joined them."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))
        self.pairs: list[tuple[int, int]] = []

    def root(self, place: int) -> int:
        """Return the position that represents the group of one."""
        parent = self._parent
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    def has(self, a: int, b: int) -> bool:
        """Whether two positions are in one group."""
        return self.root(a) == self.root(b)

    def add(self, a: int, b: int) -> None:
        """Join the groups of two positions."""
        x, y = self.root(a), self.root(b)
        if x != y:
            self._parent[max(x, y)] = min(x, y)
            self.pairs.append((a, b))


class Comparer:
    """Compares the images of items, the latest of which stay in memory.

    Parameters
    ----------
    items : sequence of Item
    max_pixels : int
        Images with more pixels are not compared.
    """

    def __init__(self, items: Sequence[Item], max_pixels: int) -> None:
        self._items = items
        self._max_pixels = max_pixels
        self._lock = RLock(brief=True)
        self._recent: OrderedDict[int, images.Sketch | None] = OrderedDict()
        self._bytes = 0

    def compare(self, pair: tuple[int, int, int, float]) -> bool:
        """Whether two items are copies: positions, bits and distance as in `Candidates`."""
        a, b, bits, near = pair
        one, other = self._sketch(a), self._sketch(b)
        if one is None or other is None:
            return bits <= _SURE and near < np.inf
        if images.is_copy(one, other, near=bits <= _NEAR):
            return True
        if bits > RADIUS and near > _MIRROR_CLOSE:
            return False
        return images.is_copy(images.mirrored(one), other, near=bits <= _NEAR)

    def keep(self, place: int, sketch: images.Sketch) -> None:
        """Use this for an item instead of what its file holds."""
        self._put(place, sketch)

    def _sketch(self, place: int) -> images.Sketch | None:
        with self._lock:
            if place in self._recent:
                self._recent.move_to_end(place)
                return self._recent[place]
        image = _image(self._items[place], self._max_pixels)
        found = None if image is None else images.sketch(image)
        self._put(place, found)
        return found

    def _put(self, place: int, sketch: images.Sketch | None) -> None:
        with self._lock:
            if place not in self._recent:
                self._bytes += _size(sketch)
            self._recent[place] = sketch
            while self._bytes > _SKETCH_BYTES:
                self._bytes -= _size(self._recent.popitem(last=False)[1])


def _size(sketch: images.Sketch | None) -> int:
    return 0 if sketch is None else sketch.nbytes


def _image(item: Item, max_pixels: int) -> Image | None:
    """Return the image of an item; None if it has none that can be read."""
    if item.path is None:
        return None
    try:
        return images.load(item.path, max_pixels=max_pixels, min_side=images.SKETCH_SIDE)
    except ImgretError:
        return None
