"""What a search found for one query."""

from __future__ import annotations

import os
import sys
import tempfile
import webbrowser
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

from imgret.errors import MissingExtraError
from imgret.types import Hit, ImageLike, Metric, Neighbors

if TYPE_CHECKING:
    import pandas as pd

    from imgret.storage import Item

__all__ = ["Batch", "Hits"]


class _Catalog(Protocol):
    def items(self, ids: Any, /) -> dict[int, Item]: ...


class Batch:
    """The answers to some queries, whose items are looked up when first asked for.

    Looking up keys, labels and metadata costs more than a search does, and many callers
    want only some of them. Whoever holds the catalog calls `resolve` before it changes or
    closes, so that a result always shows what was there when it was searched.
    """

    def __init__(
        self,
        neighbors: Neighbors,
        metric: Metric,
        catalog: _Catalog,
        threshold: float | None,
    ) -> None:
        self._ids, self._scores = neighbors
        found = self._ids >= 0
        if threshold is not None:
            found &= self._scores >= threshold
        self.counts: list[int] = found.sum(axis=1).tolist()
        self._metric = metric
        self._catalog: _Catalog | None = catalog
        self._rows: list[tuple[Hit, ...]] = []

    def resolve(self) -> list[tuple[Hit, ...]]:
        """Return the hits of every query."""
        catalog = self._catalog
        if catalog is not None:
            ids = self._ids.tolist()
            scores = self._scores.tolist()
            kept = [row[:count] for row, count in zip(ids, self.counts, strict=True)]
            items = catalog.items({id_ for row in kept for id_ in row})
            squared = self._metric == "l2"
            self._rows = [
                tuple(
                    _hit(items[id_], score, rank, squared=squared)
                    for rank, (id_, score) in enumerate(zip(row, row_scores, strict=False), 1)
                )
                for row, row_scores in zip(kept, scores, strict=True)
            ]
            self._catalog = None
        return self._rows


def _hit(item: Item, score: float, rank: int, *, squared: bool) -> Hit:
    return Hit(
        item.key,
        score,
        rank,
        item.label,
        item.metadata,
        item.path,
        item.box,
        0.0 - score if squared else None,
    )


class Hits(Sequence[Hit]):
    """Hits of one query, best first: a sequence that draws itself in a notebook.

    Attributes
    ----------
    query : ImageLike or None
        The picture that was searched with; None for a vector.
    """

    __slots__ = ("_batch", "_row", "query")

    def __init__(self, batch: Batch, row: int, query: ImageLike | None = None) -> None:
        self._batch = batch
        self._row = row
        self.query = query

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
        """The label most hits carry, the best-ranked one of equals; None where none has one."""
        votes = Counter(hit.label for hit in self._hits() if hit.label is not None)
        return votes.most_common(1)[0][0] if votes else None

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dictionary of JSON values a hit."""
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
            }
            for hit in self._hits()
        ]

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame, one row a hit.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415  # optional
        except ImportError:
            raise MissingExtraError("Hits.to_pandas needs pandas: pip install pandas") from None
        names = ["key", "rank", "score", "label", "path", "box", "metadata"]
        return pd.DataFrame(self.to_dicts(), columns=names)

    def to_html(self, *, title: str | None = None) -> str:
        """Return a page that shows the query and the hits, pictures inlined."""
        from imgret import display  # noqa: PLC0415  # pictures are read only when drawn

        name = _title(self.query)
        return display.page(
            [(name, self.query, self._hits())],
            title=title or (f"Pictures like {name}" if name else "Search results"),
            note=f"{len(self)} hits",
        )

    def show(self) -> Path | None:
        """Draw the hits: in the notebook, or as a page in the browser.

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

    def _repr_html_(self) -> str:
        from imgret import display  # noqa: PLC0415  # the same

        return display.styled(display.grid([(_title(self.query), self.query, self._hits())]))

    def __repr__(self) -> str:
        shown = ", ".join(f"{hit.key!r} {hit.score:.3f}" for hit in self._hits()[:3])
        more = ", ..." if len(self) > 3 else ""
        return f"<Hits: {len(self)} [{shown}{more}]>"


def _title(query: ImageLike | None) -> str:
    return Path(query).name if isinstance(query, (str, os.PathLike)) else ""


def make_hits(
    neighbors: Neighbors,
    metric: Metric,
    catalog: _Catalog,
    *,
    queries: Sequence[ImageLike | None],
    threshold: float | None,
) -> tuple[Batch, list[Hits]]:
    """Return the hits of each query, and the batch behind them."""
    batch = Batch(neighbors, metric, catalog, threshold)
    return batch, [Hits(batch, row, query) for row, query in enumerate(queries)]
