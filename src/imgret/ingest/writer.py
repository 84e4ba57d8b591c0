"""Outcomes into the store, a few hundred or a few seconds to a commit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from imgret.galleries.local.store import Store
from imgret.ingest.report import IngestReport, Line
from imgret.pipeline.embed import Outcome
from imgret.types import Item

__all__ = ["Writer"]

# Enough to make a commit cheap, few enough to lose little.
_COMMIT_ITEMS = 512
# What a kill may cost where embedding is slow; less at first, for runs that end soon.
_COMMIT_SECONDS = 2.0
_FIRST_COMMIT_SECONDS = 0.25


class Writer:
    """Takes outcomes in order and commits them.

    Parameters
    ----------
    store : Store
    report : IngestReport
        Told what became of each image once it is committed.
    skip_duplicates : bool
        Whether files whose bytes are in the store already are left out. An item that is there
        is brought up to date in any case.
    vanished : mapping of id to Item
        Items whose files are gone: a new file of the same bytes is the same item renamed.
    """

    def __init__(
        self,
        store: Store,
        report: IngestReport,
        *,
        skip_duplicates: bool,
        vanished: Mapping[int, Item] | None = None,
    ) -> None:
        self._store = store
        self._report = report
        self._skip_duplicates = skip_duplicates
        self._waiting: list[Outcome] = []
        self._committed = time.monotonic()
        self._wait = min(_FIRST_COMMIT_SECONDS, _COMMIT_SECONDS)
        self._first: dict[bytes, str] = {}  # sha256 -> key, of what this run has embedded
        self._renamed: list[Line] = []
        self._replaced: set[int] = set()  # ids of items that this run has embedded again
        self._moved: dict[int, Item] = {}  # items whose file has another time, place or name
        self.vanished = dict(vanished or {})  # those not found again so far
        self._vanished_ids: dict[bytes, list[int]] = {}
        for id_, item in self.vanished.items():
            if item.sha256 is not None:
                self._vanished_ids.setdefault(item.sha256, []).append(id_)

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Take some outcomes, committing when enough have come together."""
        for outcome in outcomes:
            source = outcome.source
            if outcome.status in {"failed", "skipped"}:
                self._report.record([_line(outcome)])
                if outcome.status == "skipped":
                    self._touch(outcome)
                continue
            if source.known is None and (id_ := self._vanished_twin(outcome)) is not None:
                self._rename(outcome, id_)
                continue
            twin = self._twin(outcome)
            if twin is not None:
                outcome.status, outcome.reason = "duplicate", f"the same bytes as {twin}"
                if self._skip_duplicates and source.known is None:
                    self._report.record([_line(outcome)])
                    continue
            elif outcome.sha256 is not None:
                self._first[outcome.sha256] = source.key
            if source.known is not None:
                self._replaced.add(source.known.id)
            self._waiting.append(outcome)
        late = time.monotonic() - self._committed >= self._wait
        if late or len(self._waiting) + len(self._moved) >= _COMMIT_ITEMS:
            self.commit()
            self._committed = time.monotonic()
            self._wait = min(2 * self._wait, _COMMIT_SECONDS)

    def commit(self) -> None:
        """Commit what is waiting."""
        moved, self._moved = self._moved, {}
        if moved:
            self._store.catalog.replace_all(moved)
            self._report.record(self._renamed)
            self._renamed = []
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        started = time.perf_counter()
        twins = {outcome.twin for outcome in waiting if outcome.twin is not None}
        twin_items = self._store.catalog.items(twins)
        # blocks(), as it checks them: a damaged vector must not get a good checksum here.
        twin_rows = {
            int(id_): row
            for ids, rows in self._store.blocks(np.array(sorted(twins), dtype=np.int64))
            for id_, row in zip(ids, rows, strict=True)
        }
        embeddings, items = [], []
        for outcome in waiting:
            if outcome.twin is not None:
                twin = twin_items[outcome.twin]
                outcome.box, outcome.subject = twin.box, twin.subject
                outcome.embedding = twin_rows[outcome.twin]
            embeddings.append(outcome.embedding)
            items.append(_item(outcome))
        known = [outcome.source.known for outcome in waiting]
        self._store.add(
            np.stack(embeddings),  # type: ignore[arg-type]  # none is missing by now
            items,
            replaced=[item.id for item in known if item is not None],
        )
        self._report.record(map(_line, waiting))
        self._report.uncropped += sum(outcome.missed for outcome in waiting)
        self._report.add_stage("store", time.perf_counter() - started)

    def _twin(self, outcome: Outcome) -> str | None:
        """Return the key of another item of the same bytes."""
        if outcome.sha256 is None:
            return None
        if outcome.twin is not None and outcome.twin not in self._replaced:
            return repr(self._store.catalog.items([outcome.twin])[outcome.twin].key)
        first = self._first.get(outcome.sha256)
        return None if first is None else repr(first)

    def _vanished_twin(self, outcome: Outcome) -> int | None:
        """Return an item of the same bytes whose own file is gone."""
        ids = self._vanished_ids.get(outcome.sha256 or b"", [])
        return ids.pop(0) if ids else None

    def _rename(self, outcome: Outcome, id_: int) -> None:
        item, source = self.vanished.pop(id_), outcome.source
        self._moved[id_] = replace(
            item,
            key=source.key,
            path=str(source.path),
            size=outcome.size,
            mtime_ns=outcome.mtime_ns,
            label=item.label if source.label is None else source.label,
            metadata={**item.metadata, **source.metadata},
        )
        outcome.status, outcome.reason = "renamed", f"was {item.key!r}"
        self._renamed.append(_line(outcome))

    def _touch(self, outcome: Outcome) -> None:
        """Note what is new about an unchanged file: its time, its place, its label."""
        known, source = outcome.source.known, outcome.source
        if known is None or known.item.path is None:
            return
        now = replace(
            known.item,
            path=str(source.path),
            size=outcome.size,
            mtime_ns=outcome.mtime_ns,
            label=known.item.label if source.label is None else source.label,
            metadata={**known.item.metadata, **source.metadata},
        )
        if now != known.item:
            self._moved[known.id] = now


def _item(outcome: Outcome) -> Item:
    source, known = outcome.source, outcome.source.known
    label, metadata = source.label, source.metadata
    if known is not None:  # what is not given again stays
        label = known.item.label if label is None else label
        metadata = {**known.item.metadata, **metadata}
    return Item(
        key=source.key,
        path=None if source.path is None else str(source.path),
        sha256=outcome.sha256,
        size=outcome.size,
        mtime_ns=outcome.mtime_ns,
        box=outcome.box,
        subject=outcome.subject,
        label=label,
        metadata=metadata,
    )


def _line(outcome: Outcome) -> Line:
    path = outcome.source.path
    return Line(
        outcome.status, outcome.source.key, None if path is None else str(path), outcome.reason
    )
