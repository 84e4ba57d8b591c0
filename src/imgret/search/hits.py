"""The hits of a query, and the batch of queries it belongs to."""

from __future__ import annotations

import math
import os
import sys
import tempfile
import webbrowser
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final, overload

import numpy as np
from numpy.typing import NDArray

from imgret.images import MAX_PIXELS
from imgret.pages.result import ResultList, Tabular
from imgret.support.lazy import cached_property
from imgret.support.metric import DistanceMetric
from imgret.types import Box, Hit, Ids, ImageLike, Json, Neighbors

if TYPE_CHECKING:
    from imgret.pages.hits import Row
    from imgret.types import Item

# Maps scores to probabilities: float arrays of the same shape.
Probability: TypeAlias = Callable[[Any], Any]

__all__ = ["Batch", "Hits", "HitsList", "Probability"]

# Columns of a data frame of hits.
_COLUMNS = ("key", "rank", "score", "label", "path", "box", "metadata")


class Lookup(Protocol):
    """Looks up the items of hits, as a `View` does."""

    def items(self, ids: Ids, /) -> Iterator[Item]:
        """Yield items in the order of their ids."""


class Batch:
    """The answers to a batch of queries, whose items are looked up on first use.

    Looking up keys, labels and metadata costs more than the search itself, and many callers
    need only some of them. The owner of the gallery calls `resolve` before the gallery changes
    or closes, so that a result always shows the items as they were when they were searched.

    Parameters
    ----------
    neighbors : Neighbors
    metric : DistanceMetric or None
        Metric of the scores; None for scores on a scale of their own.
    searched : View
        View that looks up the items.
    threshold : float or None
        Minimum score of a hit.
    best : float array of shape (n,)
        Best score found for each query, even below the threshold; -inf if nothing was found.
    probability : callable or None
        Function that turns scores into probabilities.
    max_pixels : int
        Pixel limit with which a page reads the images again.
    """

    def __init__(
        self,
        neighbors: Neighbors,
        metric: DistanceMetric | None,
        searched: Lookup,
        threshold: float | None,
        *,
        best: NDArray[np.floating[Any]],
        probability: Probability | None,
        max_pixels: int,
    ) -> None:
        self._ids, self._scores = neighbors
        self.best = best
        self.max_pixels = max_pixels
        self.threshold = threshold
        self._squared = metric is not None and not metric.by_product
        self.calibrated = probability is not None
        self._probability = probability
        self._searched: Lookup | None = searched
        self._rows: list[tuple[Hit, ...]] = []

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self._ids)

    def _kept(self) -> NDArray[np.bool_]:
        """Return which neighbours are hits."""
        kept: NDArray[np.bool_] = self._ids >= 0
        if self.threshold is not None:
            kept &= self._scores >= self.threshold
        return kept

    @cached_property
    def counts(self) -> list[int]:
        """Number of hits of each query."""
        counts: list[int] = self._kept().sum(axis=1).tolist()
        return counts

    def resolve(self) -> list[tuple[Hit, ...]]:
        """Return the hits of every query."""
        searched = self._searched
        if searched is not None:
            kept = self._kept()
            ids = sorted(set(self._ids[kept].tolist()))
            found = searched.items(np.array(ids, dtype=np.int64))
            items = dict(zip(ids, found, strict=True))
            self._rows = [self._hits_of(row, kept[row], items) for row in range(len(kept))]
            self._searched = None
        return self._rows

    def _hits_of(
        self, row: int, kept: NDArray[np.bool_], items: dict[int, Item]
    ) -> tuple[Hit, ...]:
        ids, scores = self._ids[row][kept].tolist(), self._scores[row][kept]
        likely = [None] * len(ids) if self._probability is None else self._probability(scores)
        return tuple(
            _hit(
                items[id_],
                score,
                rank,
                probability,
                squared=self._squared,
            )
            for rank, (id_, score, probability) in enumerate(
                zip(ids, scores.tolist(), likely, strict=True), 1
            )
        )


def _hit(item: Item, score: float, rank: int, probability: Any, *, squared: bool) -> Hit:
    return Hit(
        item.key,
        score,
        rank,
        item.label,
        item.metadata,
        item.path,
        item.box,
        0.0 - score if squared else None,
        None if probability is None else float(probability),
        item.sha256,
    )


class Hits(Tabular, Sequence[Hit]):
    """Hits of one query, best first: a sequence that shows its images in a notebook.

    It is empty, and therefore false, if no item is good enough.

    Attributes
    ----------
    query : ImageLike, tuple of ImageLike or None
        The query image, or all of them; None for a vector.
    negatives : tuple of ImageLike
        Images that the hits should be unlike.
    box : Box or None
        The part of the query image that was searched with; None for the whole image.
    text, negative_text : tuple of str
        The descriptions that were searched with, and those that hits should not match.
    query_label : str or None
        Label of the query, if it is known: pages then mark each hit as right or wrong.
        `Retriever.search_key` sets it; after other searches, you can.
    """

    __slots__ = (
        "_batch",
        "_row",
        "box",
        "negative_text",
        "negatives",
        "query",
        "query_label",
        "text",
    )

    def __init__(
        self,
        batch: Batch,
        row: int,
        query: ImageLike | tuple[ImageLike, ...] | None = None,
        *,
        negatives: tuple[ImageLike, ...] = (),
        box: Box | None = None,
        text: tuple[str, ...] = (),
        negative_text: tuple[str, ...] = (),
        query_label: str | None = None,
    ) -> None:
        self._batch = batch
        self._row = row
        self.query = query
        self.negatives = negatives
        self.box = box
        self.text = text
        self.negative_text = negative_text
        self.query_label = query_label

    def _hits(self) -> tuple[Hit, ...]:
        return self._batch.resolve()[self._row]

    def __len__(self) -> int:
        return self._batch.counts[self._row]

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self._hits()[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits())

    def __eq__(self, other: object) -> bool:
        return self._hits() == other._hits() if isinstance(other, Hits) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as any sequence that compares by value

    @property
    def label(self) -> str | None:
        """The most common label of the hits, the best-ranked one on a tie; None without labels."""
        votes = Counter(hit.label for hit in self._hits() if hit.label is not None)
        return max(votes, key=votes.__getitem__, default=None)

    @property
    def threshold(self) -> float | None:
        """Minimum score of a hit, as requested or derived from a precision; None without one."""
        return self._batch.threshold

    @property
    def best_score(self) -> float | None:
        """The best score found, even below the threshold; None if there was no item."""
        best = float(self._batch.best[self._row])
        return best if best > -math.inf else None

    @property
    def is_calibrated(self) -> bool:
        """Whether the hits have a probability."""
        return self._batch.calibrated

    @property
    def max_pixels(self) -> int:
        """Pixel limit with which a page reads the images again."""
        return self._batch.max_pixels

    @property
    def no_match(self) -> str:
        """Message that says why there are no hits; empty if there are some."""
        if len(self):
            return ""
        if self.best_score is None or self.threshold is None:
            return "no match"
        return f"no match: the best score is {self.best_score:.3f}, below {self.threshold:.3f}"

    def to_dict(self) -> Json:
        """Return the hits, the best score and the threshold as JSON values."""
        best = {"best_score": self.best_score, "threshold": self.threshold}
        name = _title(self.query)
        words = {"text": list(self.text)} if self.text else {}
        return {"query": name or None, **words, "hits": self.to_dicts(), **best}

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dictionary of JSON values per hit."""
        return [
            {
                "key": hit.key,
                "rank": hit.rank,
                "score": hit.score,
                "label": hit.label,
                "path": hit.path,
                "box": None if hit.box is None else list(hit.box),
                "metadata": dict(hit.metadata),
                **({} if hit.distance is None else {"distance": hit.distance}),
                **({} if hit.probability is None else {"probability": hit.probability}),
            }
            for hit in self._hits()
        ]

    def _frame(self) -> tuple[list[str], list[list[Any]]]:
        names = list(_COLUMNS)
        names += ["probability"] if self._batch.calibrated else []
        return names, [[hit[name] for name in names] for hit in self.to_dicts()]

    def to_html(self, *, title: str | None = None) -> str:
        """Return an HTML page that shows the query and the hits, with inlined images."""
        from imgret.pages import hits as hit_pages  # noqa: PLC0415  # images are read only when drawn

        name = _title(self.query) or ", ".join(self.text)
        return hit_pages.page(
            [self.to_row()],
            title=title or (f"Images like {name}" if name else "Search results"),
            note=self.no_match or f"{len(self)} {'hit' if len(self) == 1 else 'hits'}",
            max_pixels=self.max_pixels,
        )

    def to_row(self) -> Row:
        """Return the row that ``imgret.pages.hits`` draws."""
        from imgret.pages.hits import Row, Shown  # noqa: PLC0415  # the same

        many = self.query if isinstance(self.query, tuple) else (self.query,)
        shown = [Shown("query", _title(image), image, self.box) for image in many]
        shown += [Shown("query", text, None, is_text=True) for text in self.text]
        shown += [Shown("unlike", _title(image), image) for image in self.negatives]
        shown += [Shown("unlike", text, None, is_text=True) for text in self.negative_text]
        return Row(self.no_match, shown, self._hits(), self.query_label)

    def show(self) -> Path | None:
        """Show the hits in the notebook, or as a page in the browser.

        Returns
        -------
        Path or None
            The page that was opened; None in a notebook.
        """
        if (ipython := sys.modules.get("IPython")) is not None and ipython.get_ipython():
            ipython.display.display(self)
            return None
        descriptor, name = tempfile.mkstemp(prefix="imgret-hits-", suffix=".html")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self.to_html())
        webbrowser.open(Path(name).as_uri())
        return Path(name)

    def _body(self) -> str:
        from imgret.pages import hits as hit_pages  # noqa: PLC0415  # the same

        return hit_pages.cell([self.to_row()], max_pixels=self.max_pixels)

    def __repr__(self) -> str:
        if not len(self):
            return f"<Hits: {self.no_match}>"
        shown = ", ".join(f"{hit.key!r} {hit.score:.3f}" for hit in self._hits()[:3])
        more = ", ..." if len(self) > 3 else ""
        return f"<Hits: {len(self)} [{shown}{more}]>"


@final
class HitsList(ResultList[Hits]):
    """Hits of several queries: a list that a notebook shows as one row per query."""

    __slots__ = ()

    def to_dict(self) -> Json:
        """Return the hits of every query as JSON values."""
        return {"queries": [hits.to_dict() for hits in self]}

    def _frame(self) -> tuple[list[str], list[list[Any]]]:
        names, rows = [*_COLUMNS, "probability"], []
        for number, hits in enumerate(self):
            path = os.fspath(hits.query) if isinstance(hits.query, (str, os.PathLike)) else None
            rows += [[number, path, *map(hit.get, names)] for hit in hits.to_dicts()]
        if not any(hits.is_calibrated for hits in self):
            names, rows = names[:-1], [row[:-1] for row in rows]
        return ["query", "query_path", *names], rows

    def to_html(self, *, title: str | None = None) -> str:
        """Return an HTML page with one row per query, with inlined images."""
        from imgret.pages import hits as hit_pages  # noqa: PLC0415  # images are read only when drawn

        return hit_pages.page(
            [hits.to_row() for hits in self],
            title=title or f"Hits of {len(self)} queries",
            max_pixels=self._max_pixels(),
        )

    def _body(self) -> str:
        from imgret.pages import hits as hit_pages  # noqa: PLC0415  # the same

        return hit_pages.cell([hits.to_row() for hits in self], max_pixels=self._max_pixels())

    def _like(self, entries: list[Hits]) -> HitsList:
        return HitsList(entries)

    def _max_pixels(self) -> int:
        return min((hits.max_pixels for hits in self), default=MAX_PIXELS)


def _title(query: Any) -> str:
    first = query[0] if isinstance(query, tuple) else query
    return Path(first).name if isinstance(first, (str, os.PathLike)) else ""
