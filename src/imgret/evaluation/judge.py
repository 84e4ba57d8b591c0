"""Scoring of queries: searches with each query and records how good its ranking is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret.evaluation import metrics
from imgret.evaluation.ground_truth import GroundTruth
from imgret.evaluation.queries import Query
from imgret.evaluation.report import Confusion, Curves, Failure, Kind, Match, Report, Worst
from imgret.search import View
from imgret.types import Embeddings, Hit, Ids, Item, Json, Neighbors

__all__ = ["Judge"]


# Maximum number of neighbours held at once, over all queries of a search.
_BLOCK_RANKS = 2**21
# While a ranking holds no relevant item, each further search goes this many times deeper.
_DEEPER = 8
_WORST, _CONFUSIONS = 24, 50
# Curves look at five times the largest class if that is at most 500 ranks. Deeper rankings take
# longer, and find little: what is missed has a precision of at most 0.2.
_CURVE_TIMES, _CURVE_RANKS = 5, 500
_SHOWN_HITS = 5
# A copy's distance is at most this share of the distance of the last of this many hits.
_STANDS_OUT, _CROWD = 0.25, 10


@dataclass(frozen=True, slots=True)
class _Queries:
    """Queries that could be embedded, as arrays."""

    rows: NDArray[np.int64]  # where their values go
    vectors: Embeddings
    searched: Embeddings  # the same, projected for the search
    classes: NDArray[np.int64]  # -2 for a class the gallery lacks
    n_relevant: NDArray[np.int64]
    itself: list[list[int]]

    def part(self, which: Any) -> _Queries:
        return _Queries(
            self.rows[which],
            self.vectors[which],
            self.searched[which],
            self.classes[which],
            self.n_relevant[which],
            [self.itself[n] for n in np.arange(len(self.rows))[which]],
        )


class Judge:
    """Searches with blocks of queries and keeps the metrics of each query.

    Parameters
    ----------
    view : View
    truth : GroundTruth
    ks : tuple of int
        Ranks to evaluate at, increasing.
    total : int
        Total number of queries.
    near_identical : float
        Cosine from which a query and its best hit are near-identical, if the hit stands out.
    stored : bool
        Whether the queries are items of the gallery, each with its own id first in ``itself``.
    """

    def __init__(
        self,
        view: View,
        truth: GroundTruth,
        ks: tuple[int, ...],
        total: int,
        *,
        near_identical: float,
        stored: bool,
    ) -> None:
        self._view, self._truth = view, truth
        self._ks, self._near = ks, near_identical
        self._stored = stored
        # Depth of the rankings; no ranking is longer than the gallery.
        self._deepest = min(ks[-1], truth.size)
        nothing = _measured(np.zeros((0, self._deepest), dtype=bool), np.zeros(0, dtype=int), ks)
        self._values = {name: np.zeros(total) for name in nothing}
        wanted = max(truth.largest, min(_CURVE_TIMES * truth.largest, _CURVE_RANKS))
        self._curve_depth = min(max(wanted, ks[-1]), truth.size)
        self._curve_ks = _steps(self._curve_depth)
        self._precision = np.zeros(len(metrics.RECALL_LEVELS))
        self._found = np.zeros((2, len(self._curve_ks)))  # recall and top-k accuracy
        self._best_ids = np.full((total, _SHOWN_HITS), -1, dtype=np.int64)
        self._best_scores = np.full((total, _SHOWN_HITS), -np.inf, dtype=np.float32)
        self._names: list[str] = []
        self._labels: list[str] = []
        self._images: list[tuple[Any, bytes | None]] = []
        self._failed: list[Failure] = []
        self._matches: list[Match] = []
        self._without: list[str] = []
        self._pairs: set[frozenset[str]] = set()

    def take(self, block: Sequence[Query]) -> None:
        """Search with a block of queries and record the results."""
        first = len(self._names)
        n_relevant = [self._truth.relevant(query.label, query.itself) for query in block]
        for query, r in zip(block, n_relevant, strict=True):
            self._names.append(query.name)
            self._labels.append(query.label)
            self._images.append((query.image, query.sha256))
            if query.vector is None:
                self._failed.append(Failure(query.name, query.reason))
            if not r:
                self._without.append(query.name)
        read = [n for n, query in enumerate(block) if query.vector is not None]
        if not read:
            return
        vectors = np.stack([block[n].vector for n in read])  # type: ignore[misc]  # none is missing
        asked = _Queries(
            np.array(read) + first,
            vectors,
            self._view.project(vectors, "queries"),
            np.array([self._truth.classes.get(block[n].label, -2) for n in read]),
            np.array([n_relevant[n] for n in read]),
            [block[n].itself for n in read],
        )
        # A large class needs deep rankings; fewer queries at a time limit the memory they take.
        step = max(1, _BLOCK_RANKS // max(self._curve_depth, int(asked.n_relevant.max())))
        for start in range(0, len(read), step):
            self._judge(asked.part(slice(start, start + step)))

    def _judge(self, asked: _Queries) -> None:
        at_k = self._deepest
        depth = max(self._curve_depth, int(asked.n_relevant.max()))
        ids, scores = self._rank(asked, depth)
        relevant = self._relevant(asked, ids)
        self._add_to_curves(relevant[:, : self._curve_depth], asked.n_relevant)
        values = _measured(relevant, asked.n_relevant, self._ks)
        if not self._view.is_exact and depth > at_k:
            # Such an index searches harder when more hits are requested. Its users get the
            # results of the usual depth.
            ids, scores = self._rank(asked, at_k)
            near = np.zeros_like(relevant)
            near[:, :at_k] = self._relevant(asked, ids)
            deep = {name: values[name] for name in ("map_r", "mrr")}
            values = _measured(near, asked.n_relevant, self._ks) | deep
        for name, block in values.items():
            self._values[name][asked.rows] = block
        shown = min(_SHOWN_HITS, ids.shape[1])
        self._best_ids[asked.rows, :shown] = ids[:, :shown]
        self._best_scores[asked.rows, :shown] = scores[:, :shown]
        self._note_matches(asked, ids)
        self._look_deeper(asked.part((values["mrr"] == 0) & (asked.n_relevant > 0)), depth)

    def _add_to_curves(self, relevant: NDArray[np.bool_], n_relevant: NDArray[np.int64]) -> None:
        self._precision += metrics.interpolated_precision(relevant, n_relevant).sum(axis=0)
        for place, k in enumerate(self._curve_ks):
            self._found[0, place] += metrics.recall_at_k(relevant, n_relevant, k).sum()
            self._found[1, place] += metrics.top_k_accuracy(relevant, k).sum()

    def _rank(self, asked: _Queries, depth: int) -> Neighbors:
        """Search, and remove the query itself from the rankings."""
        extra = max(map(len, asked.itself))
        ids, scores = self._view.search(asked.searched, depth + extra)
        itself = np.zeros(ids.shape, dtype=np.bool_)
        for row, same in enumerate(asked.itself):
            for id_ in same:
                itself[row] |= ids[row] == id_
        if itself.any():
            order = np.argsort(itself, axis=1, kind="stable")
            ids = np.take_along_axis(np.where(itself, -1, ids), order, axis=1)
            scores = np.take_along_axis(np.where(itself, -np.inf, scores), order, axis=1)
        return Neighbors(ids[:, :depth], scores[:, :depth])

    def _relevant(self, asked: _Queries, ids: Ids) -> NDArray[np.bool_]:
        relevant: NDArray[np.bool_] = self._truth.class_of(ids) == asked.classes[:, None]
        return relevant & (ids >= 0)

    def _look_deeper(self, asked: _Queries, depth: int) -> None:
        """Find the rank of the first relevant item if it lies beyond the ranking."""
        while len(asked.rows) and depth < self._truth.size:
            depth = min(depth * _DEEPER, self._truth.size)
            step = max(1, _BLOCK_RANKS // depth)
            for start in range(0, len(asked.rows), step):
                part = asked.part(slice(start, start + step))
                relevant = self._relevant(part, self._rank(part, depth).ids)
                self._values["mrr"][part.rows] = metrics.reciprocal_rank(relevant)
            asked = asked.part(self._values["mrr"][asked.rows] == 0)

    def _note_matches(self, asked: _Queries, ids: Ids) -> None:
        """Record which queries are identical or near-identical to an item."""
        best = ids[:, 0]
        found = best >= 0
        cosines = np.zeros(len(best))
        if found.any():
            cosines[found] = _cosines(asked.vectors[found], self._view.embeddings(best[found]))
        close = np.flatnonzero(cosines >= self._near)
        close = close[self._stands_out(asked.vectors[close], ids[close], cosines[close])]
        near = {int(n): int(best[n]) for n in close}
        # A stored query always matches itself, which is not worth reporting.
        same = [ids[1:] if self._stored else ids for ids in asked.itself]
        items = self._items({id_ for ids in same for id_ in ids} | {*near.values()})
        for n, row in enumerate(asked.rows):
            for id_ in same[n]:
                self._note(row, items[id_].key, "identical", 1.0)
            if n in near:
                self._note(row, items[near[n]].key, "near-identical", float(cosines[n]))

    def _stands_out(
        self, vectors: Embeddings, ids: Ids, cosines: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Return whether the best hit is far closer than the last of the first ten.

        If the embedder was trained to bring classes together, whole classes lie close together,
        and a high cosine alone does not indicate a copy.
        """
        if not len(ids):
            return np.zeros(0, dtype=np.bool_)
        first = ids[:, :_CROWD]
        last = first[np.arange(len(ids)), np.maximum((first >= 0).sum(axis=1) - 1, 0)]
        crowd = 1 - _cosines(vectors, self._view.embeddings(last))
        alone = last == first[:, 0]  # there is no second hit to compare with
        stands: NDArray[np.bool_] = alone | (1 - cosines <= _STANDS_OUT * crowd)
        return stands

    def _items(self, ids: Iterable[int]) -> dict[int, Item]:
        wanted = sorted(ids)
        return dict(zip(wanted, self._view.items(np.array(wanted, dtype=np.int64)), strict=True))

    def _note(self, row: int, key: str, kind: Kind, cosine: float) -> None:
        name = self._names[row]
        if self._stored:  # each pair is found from both sides
            pair = frozenset((name, key))
            if pair in self._pairs:
                return
            self._pairs.add(pair)
        self._matches.append(Match(name, key, kind, cosine))

    def report(
        self, config: Json, *, seconds: float, stages: dict[str, float], max_pixels: int
    ) -> Report:
        """Return the report on all queries."""
        return Report(
            queries=tuple(self._names),
            labels=tuple(self._labels),
            values=self._values,
            failed=tuple(self._failed),
            without_relevant=tuple(self._without),
            matches=tuple(self._matches),
            worst=self._worst(),
            confusions=self._confusions(),
            curves=self._curves(),
            seconds=seconds,
            stages=stages,
            config=config,
            max_pixels=max_pixels,
        )

    def _worst(self) -> tuple[Worst, ...]:
        """Return the queries of lowest average precision; ties start with the highest score."""
        precision = self._values[f"map{self._ks[-1]}_min_k_r"]
        order = np.lexsort((-self._best_scores[:, 0], precision))
        left_out = {*(failure.query for failure in self._failed), *self._without}
        rows = [
            int(row) for row in order if precision[row] < 1 and self._names[row] not in left_out
        ][:_WORST]
        ids = {int(id_) for id_ in self._best_ids[rows].ravel() if id_ >= 0} if rows else set()
        items = self._items(ids)
        return tuple(
            Worst(
                self._names[row],
                self._labels[row],
                self._images[row][0],
                float(precision[row]),
                tuple(
                    self._hit(row, rank, items)
                    for rank, id_ in enumerate(self._best_ids[row])
                    if id_ >= 0
                ),
                self._images[row][1],
            )
            for row in rows
        )

    def _hit(self, row: int, place: int, items: dict[int, Item]) -> Hit:
        item = items[int(self._best_ids[row, place])]
        score = float(self._best_scores[row, place])
        return Hit(
            item.key,
            score,
            place + 1,
            item.label,
            item.metadata,
            item.path,
            item.box,
            sha256=item.sha256,
        )

    def _confusions(self) -> tuple[Confusion, ...]:
        """Return the most frequent pairs of a class and the different class of its first hits."""
        first = self._best_ids[:, 0]
        taken = np.where(first >= 0, self._truth.class_of(first), -1)
        pairs: dict[tuple[str, str], list[int]] = {}
        for row, code in enumerate(taken.tolist()):
            if code >= 0 and (name := self._truth.name_of(code)) != self._labels[row]:
                pairs.setdefault((self._labels[row], name), []).append(row)
        most = sorted(pairs.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:_CONFUSIONS]
        counts = Counter(self._labels)
        examples = [max(rows, key=lambda row: self._best_scores[row, 0]) for _, rows in most]
        items = self._items({int(first[row]) for row in examples})
        return tuple(
            Confusion(
                label,
                taken_for,
                len(rows),
                counts[label],
                self._names[example],
                self._images[example][0],
                self._hit(example, 0, items),
                self._images[example][1],
            )
            for ((label, taken_for), rows), example in zip(most, examples, strict=True)
        )

    def _curves(self) -> Curves:
        total = max(1, len(self._names))
        recall, top = (self._found / total).tolist()
        return Curves(
            depth=self._curve_depth,
            precision=tuple((self._precision / total).tolist()),
            ks=self._curve_ks,
            recall=tuple(recall),
            top=tuple(top),
        )


def _steps(depth: int) -> tuple[int, ...]:
    """Return the ranks 1, 2, 5, 10, 20, ... up to the depth, which is the last."""
    ranks = (step * 10**power for power in range(len(str(depth))) for step in (1, 2, 5))
    return (*(rank for rank in ranks if rank < depth), depth)


def _measured(
    relevant: NDArray[np.bool_], n_relevant: NDArray[np.int64], ks: tuple[int, ...]
) -> dict[str, NDArray[np.float64]]:
    """Return `imgret.evaluation.metrics.per_query`, also for ``k`` beyond the rankings.

    Nothing is relevant there, so such a ``k`` only changes the denominator of precision.
    """
    depth = relevant.shape[1]
    within = {k: min(k, depth) for k in ks}
    found = metrics.per_query(relevant, n_relevant, sorted({*within.values()}))
    overall = {name: found.pop(name) for name in ("map_r", "mrr")}
    values = {}
    for k, number in within.items():
        for name, block in found.items():
            before, digits, after = re.split(r"(\d+)", name)
            if int(digits) == number:
                beyond = before == "precision" and number < k
                values[f"{before}{k}{after}"] = np.rint(block * number) / k if beyond else block
    return values | overall


def _cosines(a: Embeddings, b: Embeddings) -> NDArray[np.float64]:
    """Return the cosine of each row of ``a`` with the same row of ``b``."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1).astype(np.float64)
    cosines: NDArray[np.float64] = np.einsum("ij,ij->i", a, b) / np.maximum(lengths, 1e-30)
    return np.minimum(cosines, 1.0)
