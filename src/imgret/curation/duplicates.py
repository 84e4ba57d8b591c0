"""Groups of items that are almost the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import final

import numpy as np
from numpy.typing import NDArray

from imgret.curation.copies import Hashes, Joined, candidates, copies_among, hashes_of
from imgret.curation.files import best_of, look
from imgret.curation.forest import Forest, joined
from imgret.images import MAX_PIXELS
from imgret.ingest.progress import Progress, progress_bar
from imgret.pages.curation import PageItems, Section, sections
from imgret.pages.result import ResultList
from imgret.pages.review import ReviewGroup, review_page
from imgret.search import View
from imgret.support.checks import check_number
from imgret.support.terminal import plain
from imgret.types import Embeddings, Ids, Item, Json

__all__ = ["DuplicateGroup", "Duplicates", "find_duplicates"]

_GROUPS, _IMAGES = 25, 6  # what a page shows: groups, and images of each
_MOST = 200  # groups whose images can be shown, as parts of the list
_PAIRS = 4096  # pairs whose embeddings are read at once
_FIRST, _MORE = 16, 4  # neighbours in the first search; factor for each further search


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Items that are almost the same.

    Attributes
    ----------
    keys : tuple of str
        Keys of at least two items, in the order they were added.
    score : float
        Lowest score that holds the group together: with a threshold above it, the group would
        fall apart.
    """

    keys: tuple[str, ...]
    score: float


@final
class Duplicates(ResultList[DuplicateGroup]):
    """List of `DuplicateGroup` that a notebook shows by their images.

    Parameters
    ----------
    groups : iterable of DuplicateGroup
    page_items : PageItems
        Items that a page may show.
    n_unhashed : int
        Number of items without a perceptual hash whose file could not be read either: only equal
        embeddings of these were found. 0 if a threshold was given.
    """

    __slots__ = ("_page_items", "n_unhashed")

    def __init__(
        self, groups: Iterable[DuplicateGroup], page_items: PageItems, n_unhashed: int = 0
    ) -> None:
        super().__init__(groups)
        self._page_items = page_items
        self.n_unhashed = n_unhashed

    @property
    def n_removable(self) -> int:
        """Number of images to remove, so that one of each group is left."""
        return sum(len(group.keys) - 1 for group in self)

    def to_dict(self) -> Json:
        """Return the groups as JSON values."""
        groups = [{"score": group.score, "keys": list(group.keys)} for group in self]
        return {
            "n_removable": self.n_removable,
            "n_unhashed": self.n_unhashed,
            "groups": groups,
        }

    def _frame(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        return ("group", "key", "score"), [
            (number, key, group.score) for number, group in enumerate(self) for key in group.keys
        ]

    def __str__(self) -> str:
        lines: list[str] = []
        for group in self:
            lines.append(f"{len(group.keys)} images, score {group.score:.4f}")
            lines += [f"  {plain(key)}" for key in group.keys]
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """Return how many groups there are, and what could not be compared."""
        n, more = len(self), self.n_removable
        groups, extra = "groups" if n > 1 else "group", "images" if more > 1 else "image"
        text = f"{n} {groups}; removing {more} {extra} would leave no duplicates"
        if not n:
            text = "no duplicates"
        if self.n_unhashed:
            text += (
                f". {self.n_unhashed} images could not be compared: they have no perceptual hash, "
                f"and their files cannot be read"
            )
        return text

    def to_html(self, *, title: str | None = None) -> str:
        """Return a page on which one chooses what to keep; nothing is loaded from elsewhere.

        It shows the files of up to 200 groups with their sizes, dates and sharpness, keeps the
        best of each group unless another one is chosen, and writes the commands that move the rest.

        Parameters
        ----------
        title : str, optional
            Title of the page; by default "Duplicates".
        """
        # In a part of the list, the groups need not be the first of the whole.
        known = [group for group in self if group.keys[0] in self._page_items.items]
        return review_page(
            title or "Duplicates",
            self.summary(),
            self.review(known),
            n_files=sum(len(group.keys) for group in known),
            hidden=len(self) - len(known),
        )

    def review(self, groups: Iterable[DuplicateGroup]) -> Iterator[ReviewGroup]:
        """Yield what a review shows of some of the first 200 groups; their images are read."""
        chosen = list(groups)
        items = [self._page_items.items[key] for group in chosen for key in group.keys]
        files = look(items, max_pixels=self._page_items.max_pixels)
        for group in chosen:
            of_group = [next(files) for _ in group.keys]
            yield ReviewGroup(of_group, best_of(of_group), group.score)

    def _like(self, entries: list[DuplicateGroup]) -> Duplicates:
        return Duplicates(entries, self._page_items, self.n_unhashed)

    def _body(self) -> str:
        rows = [
            Section(
                f"{len(group.keys)} images, score {group.score:.4f}",
                group.keys[:_IMAGES],
                n_more=max(0, len(group.keys) - _IMAGES),
            )
            for group in self[:_GROUPS]
        ]
        hidden = f"and {len(self) - _GROUPS} more groups" if len(self) > _GROUPS else ""
        return sections(self.summary(), rows, self._page_items, hidden=hidden)


def find_duplicates(
    view: View,
    *,
    threshold: float | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = False,
    keep_hashes: Callable[[Mapping[str, bytes]], None] | None = None,
) -> Duplicates:
    """Find groups of items that are almost the same.

    Without a threshold, pairs of near hashes, and neighbours that are nearer than usual, are
    compared pixel by pixel (`imgret.images.is_copy`). Where a file cannot be read, hash and
    embedding decide together: at most 6 bits of the hash differ, and the embeddings are nearer
    than usual. Files of the same bytes, and equal embeddings without images, are always found.

    With a threshold, groups are the connected components of the graph of all pairs that reach it.

    Parameters
    ----------
    view : View
    threshold : float, optional
        As for `Retriever.duplicates`.
    max_pixels : int
        As for `Retriever`.
    progress : bool or callable, optional
        As for `Retriever.add`; without a threshold only.
    keep_hashes : callable, optional
        Called with the hashes that were computed as the gallery had none, by key.
    """
    if threshold is None:
        return _copies(view, max_pixels, progress, keep_hashes)
    return _reaching(view, threshold, max_pixels)


def _copies(
    view: View,
    max_pixels: int,
    progress: Progress,
    keep_hashes: Callable[[Mapping[str, bytes]], None] | None,
) -> Duplicates:
    """Find the groups that hash, embedding and pixels tell together."""
    items = list(view.items())
    missing = sum(item.phash is None and item.path is not None for item in items)
    with progress_bar(progress, total=missing, unit="image", desc="hashing") as bar:
        hashes = hashes_of(items, max_pixels=max_pixels, done=bar.update if missing else _nothing)
    if hashes.computed and keep_hashes is not None:
        keep_hashes({items[place].key: hash_ for place, hash_ in hashes.computed.items()})
    joined = Joined(len(items))
    _join_equal(view, items, hashes, joined)
    pairs = candidates(view, hashes, progress=progress)
    with progress_bar(progress, total=len(pairs.a), unit="pair", desc="comparing") as bar:
        copies_among(items, pairs, joined, max_pixels=max_pixels, done=bar.update)
    weakest = _weakest(view, joined)
    members: dict[int, list[int]] = {}
    for place in sorted({place for pair in joined.pairs for place in pair}):
        members.setdefault(joined.root(place), []).append(place)
    found = [
        DuplicateGroup(tuple(items[place].key for place in places), weakest[root])
        for root, places in members.items()
    ]
    found.sort(key=lambda one: (-len(one.keys), -one.score))
    shown = {key for group in found[:_MOST] for key in group.keys}
    blind = len(items) - len(hashes.places)
    return Duplicates(
        found, PageItems.of([item for item in items if item.key in shown], max_pixels), blind
    )


def _nothing(_: int) -> None:
    """Tell nobody."""


def _join_equal(view: View, items: list[Item], hashes: Hashes, joined: Joined) -> None:
    """Join files of the same bytes, and equal embeddings if nothing else is known of them."""
    first: dict[bytes, int] = {}
    for place, item in enumerate(items):
        if item.sha256 is not None:
            joined.add(first.setdefault(item.sha256, place), place)
    seen = np.zeros(len(items), dtype=bool)
    seen[hashes.places] = True
    for place, other in enumerate(_first_equal(view).tolist()):
        if not (seen[place] and seen[other]):
            joined.add(other, place)


def _weakest(view: View, joined: Joined) -> dict[int, float]:
    """Return the lowest score of the pairs that join each group, by its representative."""
    weakest: dict[int, float] = {}
    for start in range(0, len(joined.pairs), _PAIRS):
        pairs = joined.pairs[start : start + _PAIRS]
        a, b = (view.scorable(view.read(view.ids[list(side)])) for side in zip(*pairs, strict=True))
        for (place, _), score in zip(pairs, view.metric.scores(a, b).tolist(), strict=True):
            root = joined.root(place)
            weakest[root] = min(weakest.get(root, np.inf), score, view.metric.range[1])
    return weakest


def _reaching(view: View, threshold: float, max_pixels: int) -> Duplicates:
    """Find the connected components of the graph of all pairs that reach a threshold.

    Equal embeddings are found by their bytes, and searched once. Each is searched for its 16
    nearest. If the last of these still reaches the threshold, there may be more. But a pair is
    missed only if both of its items have more, and it matters only if it joins what is not joined
    already, or joins it better. Items that may have missed such a pair are searched again for
    four times as many neighbours, until none are left. So a thousand copies of one image do not
    cost a thousand squared.
    """
    low, high = view.metric.range
    threshold = check_number(threshold, "threshold", at_least=low, at_most=high)
    first = _first_equal(view)
    pairs = _Pairs(view, first, threshold)
    pairs.ask(np.flatnonzero(first == np.arange(len(view))), _FIRST)
    k = _FIRST
    while len(unsettled := pairs.unsettled()):
        k *= _MORE
        pairs.ask(unsettled, k)
    group, weakest = pairs.groups()
    group = group[first]
    # Groups of equal items only.
    sizes = np.bincount(group, minlength=len(view))
    copies = np.flatnonzero((sizes > 1) & (weakest == np.inf))
    weakest[copies] = _own_scores(view, view.ids[copies])
    keys = view.keys()
    found = [
        DuplicateGroup(
            tuple(keys[place] for place in members.tolist()), min(float(weakest[root]), high)
        )
        for root, members in _members(group, sizes)
        if weakest[root] >= np.float32(threshold)
    ]
    found.sort(key=lambda one: (-len(one.keys), -one.score))
    shown = [key for group in found[:_MOST] for key in group.keys]
    return Duplicates(found, PageItems.of(view.items(view.require(shown)), max_pixels))


class _Pairs:
    """Pairs that were found, and items that may have missed some.

    Items are identified by their position in ``ids``; equal items count as one, the first.
    """

    def __init__(self, view: View, first: Ids, threshold: float) -> None:
        self._view, self._ids, self._first = view, view.ids, first
        self._threshold = np.float32(threshold)
        self._forest = Forest(len(view))
        # All pairs of an item with a score above this one were found.
        self._known: Embeddings = np.full(len(view), -np.inf, dtype=np.float32)

    def ask(self, places: Ids, k: int) -> None:
        """Search for the ``k`` nearest of some items, and add these pairs."""
        k = min(k, len(self._ids))
        for part, found in self._view.nearest(self._ids[places], k):
            asked = places[part]
            last = found.scores[:, -1]
            more = (last >= self._threshold) & (k < len(self._ids))
            self._known[asked] = np.where(more, last, -np.inf)
            rows, columns = np.nonzero(found.scores >= self._threshold)
            others = self._first[np.searchsorted(self._ids, found.ids[rows, columns])]
            new = others != asked[rows]
            rows, columns = rows[new], columns[new]
            self._forest.add(asked[rows], others[new], found.scores[rows, columns])

    def groups(self) -> tuple[Ids, Embeddings]:
        """Return the group of each item, and the lowest score that holds each group together.

        A group is identified by one of its items; a group of one has the score infinity.
        """
        a, b, scores = self._forest.pairs()
        group = joined(len(self._ids), a, b)
        weakest: Embeddings = np.full(len(group), np.inf, dtype=np.float32)
        np.minimum.at(weakest, group[a], scores)
        return group, weakest

    def unsettled(self) -> Ids:
        """Return the increasing positions of items that may have missed pairs that matter.

        The score of a missed pair is at most the known score of both of its items. So if all
        items that could have missed a pair between two parts are in one part, there is no such
        pair. It is enough to search for the items in all parts but one.
        """
        group, weakest = self.groups()
        a, b, scores = self._forest.pairs()
        # The parts into which each group splits without its weakest pairs.
        strong = scores > weakest[group[a]]
        part = joined(len(group), a[strong], b[strong])
        across = _but_largest(self._known >= self._threshold, np.zeros_like(group), group)
        within = _but_largest(self._known > weakest[group], group, part)
        return np.union1d(across, within)


def _but_largest(open_: NDArray[np.bool_], whole: Ids, part: Ids) -> Ids:
    """Return open positions, except those in the part of each whole that has the most."""
    places = np.flatnonzero(open_)
    _, parts, counts = np.unique(part[places], return_inverse=True, return_counts=True)
    order = np.lexsort((parts, counts[parts], whole[places]))
    ends = np.flatnonzero(np.diff(whole[places][order], append=-1))
    largest = parts[order[ends]]
    return places[~np.isin(parts, largest)]


def _first_equal(view: View) -> Ids:
    """Return, for each item, the position of the first one whose embedding has the same bytes."""
    digests = np.empty(len(view), dtype="S16")
    done = 0
    for block, embeddings in view.embedding_blocks():
        digests[done : done + len(block)] = [
            blake2b(row.data, digest_size=16).digest() for row in embeddings
        ]
        done += len(block)
    _, first, number = np.unique(digests, return_index=True, return_inverse=True)
    return first[number]


def _own_scores(view: View, ids: Ids) -> Embeddings:
    """Return the score of each item with an equal one."""
    if not view.metric.rewards_length:  # equal items then have the best possible score
        return np.full(len(ids), view.metric.range[1], dtype=np.float32)
    own = [view.metric.scores(rows, rows) for _, rows in view.blocks(ids)]
    return np.concatenate([np.empty(0, dtype=np.float32), *own])


def _members(group: Ids, sizes: Ids) -> Iterator[tuple[int, Ids]]:
    """Yield each group of two or more, and the increasing positions of its items."""
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(sizes)
    for root in np.flatnonzero(sizes > 1).tolist():
        yield root, order[ends[root] - sizes[root] : ends[root]]
