"""Views of a gallery in Milvus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np

from imgret.abc import GallerySpec
from imgret.filters import Filter, passes
from imgret.galleries.milvus.rows import FIELDS, from_row, vectors_of
from imgret.galleries.server import ServerView
from imgret.search import Origin
from imgret.support.exact import exact_search
from imgret.types import Embeddings, Ids, Item, Neighbors

if TYPE_CHECKING:
    from imgret.galleries.milvus.gallery import MilvusGallery
    from imgret.galleries.milvus.schema import MilvusLayout

__all__ = ["MilvusView"]

# Bytes of embeddings read at once.
_BLOCK = 2**24
# What the queries of one request may cost together, so that it ends long before its timeout: see
# `MilvusLayout.cost`. With a filter that few items pass, each costs thousands.
_COST = 2**18
# Number of items that pass a filter up to which those of a server may be compared here, which reads
# them.
_FEW = 1024
# The most neighbours that Milvus finds, and hits of all queries of a request.
_NEAREST, _HITS = 16_384, 2**16
# Hits whose items come with the answer of a search. The key is asked for, too: servers before 2.4
# do not send it by itself.
_WITH_ITEMS = 2048
# Ids that an expression leaves out; if there are more, vectors are compared here.
_LEFT_OUT = 8192
# Candidates of a search whose filter lets more through than it should.
_SPARE = 32


@final
class MilvusView(ServerView):
    """The items of a gallery that pass a filter, except for some.

    Parameters
    ----------
    gallery : MilvusGallery
    spec : GallerySpec
    layout : MilvusLayout
    where : Filter or None
    without : sequence of int
        Ids of items that are left out, increasing.
    """

    def __init__(
        self,
        gallery: MilvusGallery,
        spec: GallerySpec,
        layout: MilvusLayout,
        where: Filter | None,
        without: Sequence[int] = (),
    ) -> None:
        super().__init__(gallery, spec, layout, where, without)
        self._gallery, self._layout = gallery, layout
        self._gone_ids = set(self._removed)
        self._expression = gallery.compiled(where)

    # -- what is in it -----------------------------------------------------------------------

    def __len__(self) -> int:
        if self._expression.exact and not self._removed:
            return self._gallery.count(self._expression.text)
        return len(self.ids)

    def _ids(self) -> Ids:
        rows = self._rows(["id"])
        return np.sort(np.fromiter((row["id"] for row in rows), dtype=np.int64))

    def _keys(self) -> Iterable[str]:
        rows = sorted((row["id"], row["key"]) for row in self._rows(["id", "key"]))
        return [key for _, key in rows]

    def _ids_of(self, keys: Sequence[str]) -> dict[str, int]:
        found = self._gallery.listed("key", keys, FIELDS)
        return {row["key"]: row["id"] for row in found if self._has(row)}

    def _look_up(self, ids: Sequence[int]) -> dict[int, Item]:
        rows = self._gallery.listed("id", ids, FIELDS)
        return {row["id"]: from_row(row) for row in rows}

    def _origins(self) -> Iterator[Origin]:
        fields = ["id", "path", "has_path", "sha256", "label", "labelled"]
        for row in self._gallery.by_id(self.ids, fields):
            yield Origin(
                row["id"],
                row["path"] if row["has_path"] else None,
                bytes.fromhex(row["sha256"]) if row["sha256"] else None,
                row["label"] if row["labelled"] else None,
            )

    def _label_of(self) -> Iterable[tuple[int, str]]:
        return sorted((row["id"], row["label"]) for row in self._rows(["id", "label"]))

    def _like(self, where: Filter | None, without: Sequence[int]) -> Self:
        view = type(self)(self._gallery, self._spec, self._layout, where, without)
        view.value = self.value
        return view

    def _vectors(self, ids: Ids) -> tuple[list[int], Embeddings]:
        rows = list(self._gallery.listed("id", ids.tolist(), ["id", "embedding"]))
        return [row["id"] for row in rows], vectors_of(rows, self.dim)

    # -- searching ---------------------------------------------------------------------------

    def _answer(self, vectors: Embeddings, k: int, *, exact: bool) -> Neighbors:
        here = k > _NEAREST or len(self._removed) > _LEFT_OUT or (exact and not self.is_exact)
        if here or (width := self._width()) is None:
            return self._compared(vectors, k)
        ids: Ids = np.full((len(vectors), k), -1, dtype=np.int64)
        scores: Embeddings = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        with_items = not self._expression.exact or k * len(vectors) <= _WITH_ITEMS
        short = []
        step = (_WITH_ITEMS if with_items else _HITS) // k
        if self._filter is not None and not self.is_exact:
            step = min(step, _COST // self._layout.cost(width, self._gallery.passing("")))
        step = max(1, min(step, _BLOCK // (4 * self.dim), _NEAREST))
        for start in range(0, len(vectors), step):
            some = vectors[start : start + step]
            answers, all_there = self._answers(some, k, width, with_items=with_items)
            for n, found in enumerate(answers, start):
                for m, (id_, score) in enumerate(found[:k]):
                    ids[n, m], scores[n, m] = id_, score
                if len(found) < k and not all_there:
                    short.append(n)
        if short and (few := self._missing(ids, short)):
            ids[few], scores[few] = self._compared(vectors[few], k)
        return Neighbors(ids, scores)

    def _width(self) -> int | None:
        """Return the value of the option that trades recall for speed; None to compare here.

        An index meets items that do not pass on its way to those that do. If it would meet most
        items, the few that pass are compared here: Milvus Lite never does that by itself, and a
        server only where it has built the index. Milvus Lite goes through the metadata of all items
        at each request, so that more are few: as many as one request reads.
        """
        if self._filter is None or self.is_exact:
            return self.value
        passing = self._gallery.passing(self._expression.text)
        width = self._layout.wide(self.value, passing, self._gallery.passing(""))
        few = _FEW
        if self._gallery.connection.is_lite:
            few = self._gallery.page(["id", "embedding"]) - 1
        return None if passing <= few and self._layout.sees_all(width, passing) else width

    def _compared(self, vectors: Embeddings, k: int) -> Neighbors:
        """Search by comparing all items here."""
        return exact_search(self.scorable(vectors), self.scan(), k, self.metric)

    def _scan(self) -> Iterator[tuple[Ids, Embeddings]]:
        """Yield what is there now: an item that is removed meanwhile is no error."""
        step = max(1, _BLOCK // (4 * self.dim))
        rows = self._rows(["id", "embedding"], level=self._gallery.connection.level)
        while block := list(islice(rows, step)):
            ids = np.fromiter((row["id"] for row in block), np.int64, len(block))
            order = np.argsort(ids)
            yield ids[order], self.scorable(vectors_of(block, self.dim)[order])

    def _answers(
        self, vectors: Embeddings, k: int, width: int, *, with_items: bool
    ) -> tuple[list[list[tuple[int, float]]], bool]:
        """Return ids and scores of the nearest items, and whether short answers are complete."""
        asked = k if self._expression.exact else min(k + _SPARE, _NEAREST)
        while True:
            hits = self._hits(vectors, asked, width, with_items=with_items)
            answers = [self._passing(each) for each in hits]
            # Where the expression lets too much through, more candidates are asked for.
            cut = [
                len(found) < k and len(each) >= asked
                for found, each in zip(answers, hits, strict=True)
            ]
            if not any(cut):
                return answers, self.is_exact
            if asked == _NEAREST:
                return answers, False
            asked, width = min(4 * asked, _NEAREST), 4 * width

    def _hits(self, vectors: Embeddings, k: int, width: int, *, with_items: bool) -> list[Any]:
        expression = self._expression.text
        if self._removed:
            left_out = f"id not in [{', '.join(map(str, self._removed))}]"
            expression = f"({expression}) and {left_out}" if expression else left_out
        found: list[Any] = self._gallery.connection.ask(
            "search",
            self._gallery.connection.address.collection,
            data=self._layout.wire(self.scorable(vectors)),
            anns_field="embedding",
            limit=k,
            filter=expression,
            output_fields=FIELDS if with_items else ["id"],
            search_params=self._layout.parameters(width, k),
            consistency_level=self._gallery.connection.level,
        )
        return found

    def _passing(self, hits: Any) -> list[tuple[int, float]]:
        """Return ids and scores of the hits that pass the filter, best first."""
        found: list[tuple[int, float]] = []
        for hit in hits:
            row = hit["entity"]
            if "metadata" in row:
                item = from_row({**row, "key": hit["key"]})
                if self._filter is not None and not passes(item, self._filter):
                    continue
                self._fetched[row["id"]] = item
            found.append((row["id"], self._score(hit["distance"])))
        return sorted(found, key=lambda each: (-each[1], each[0]))

    def _score(self, distance: float) -> float:
        return distance if self.metric.by_product else -distance

    def _missing(self, ids: Ids, short: list[int]) -> list[int]:
        """Return the queries with fewer hits than there are items that pass."""
        there = len(self)
        return [n for n in short if (ids[n] >= 0).sum() < min(ids.shape[1], there)]

    # -- rows --------------------------------------------------------------------------------

    def _rows(self, fields: Sequence[str], *, level: str = "Strong") -> Iterator[dict[str, Any]]:
        rows = self._gallery.matching(self._filter, fields, level=level)
        return (row for row in rows if row["id"] not in self._gone_ids)

    def _has(self, row: dict[str, Any]) -> bool:
        held = self._filter is None or passes(from_row(row), self._filter)
        return held and row["id"] not in self._gone_ids
