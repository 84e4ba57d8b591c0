"""Outcomes into the store, a few hundred to a commit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from imgret.ingest.pipeline import Outcome
from imgret.ingest.report import IngestReport, Line
from imgret.storage import Item, Store

__all__ = ["Writer"]

# Enough to make a commit cheap, few enough to lose little.
_COMMIT_ITEMS = 512


class Writer:
    """Takes outcomes in order and commits them.

    Parameters
    ----------
    store : Store
    report : IngestReport
        Told what became of each picture once it is committed.
    skip_duplicates : bool
        Whether files whose bytes are in the store already are left out.
    """

    def __init__(self, store: Store, report: IngestReport, *, skip_duplicates: bool) -> None:
        self._store = store
        self._report = report
        self._skip_duplicates = skip_duplicates
        self._waiting: list[Outcome] = []
        self._first: dict[bytes, str] = {}  # sha256 -> key, of what this run has embedded

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Take some outcomes, committing when enough have come together."""
        for outcome in outcomes:
            source = outcome.source
            if outcome.status in {"failed", "skipped"}:
                self._report.record([_line(outcome)])
                if outcome.status == "skipped":
                    self._touch(outcome)
                continue
            twin = self._twin(outcome)
            if twin is not None:
                outcome.status, outcome.reason = "duplicate", f"the same bytes as {twin}"
                if self._skip_duplicates:
                    self._report.record([_line(outcome)])
                    continue
            elif outcome.sha256 is not None:
                self._first[outcome.sha256] = source.key
            self._waiting.append(outcome)
        if len(self._waiting) >= _COMMIT_ITEMS:
            self.commit()

    def commit(self) -> None:
        """Commit what is waiting."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        started = time.perf_counter()
        twins = self._store.catalog.items({o.twin for o in waiting if o.twin is not None})
        rows, items = [], []
        for outcome in waiting:
            if outcome.twin is not None:
                twin = twins[outcome.twin]
                outcome.box, outcome.subject = twin.box, twin.subject
                rows.append(self._store.read(np.array([outcome.twin]))[0])
            else:
                rows.append(outcome.embedding)
            items.append(_item(outcome))
        known = [outcome.source.known for outcome in waiting]
        self._store.add(
            np.stack(rows), items, replaced=[item.id for item in known if item is not None]
        )
        self._report.record(map(_line, waiting))
        self._report.uncropped += sum(outcome.missed for outcome in waiting)
        self._report.add_stage("store", time.perf_counter() - started)

    def _twin(self, outcome: Outcome) -> str | None:
        """Return the key of another item of the same bytes."""
        if outcome.sha256 is None:
            return None
        if outcome.twin is not None:
            return repr(self._store.catalog.items([outcome.twin])[outcome.twin].key)
        first = self._first.get(outcome.sha256)
        return None if first is None else repr(first)

    def _touch(self, outcome: Outcome) -> None:
        """Note where an unchanged file is now, so that next time a look at it is enough."""
        known, source = outcome.source.known, outcome.source
        if known is None or known.item.path is None:
            return
        now = replace(
            known.item, path=str(source.path), size=outcome.size, mtime_ns=outcome.mtime_ns
        )
        if now != known.item:
            self._store.catalog.replace(known.id, now)


def _item(outcome: Outcome) -> Item:
    source, known = outcome.source, outcome.source.known
    return Item(
        key=source.key,
        path=None if source.path is None else str(source.path),
        sha256=outcome.sha256,
        size=outcome.size,
        mtime_ns=outcome.mtime_ns,
        box=outcome.box,
        subject=outcome.subject,
        label=source.label,
        metadata=source.metadata if known is None else {**known.item.metadata, **source.metadata},
    )


def _line(outcome: Outcome) -> Line:
    path = outcome.source.path
    return Line(
        outcome.status, outcome.source.key, None if path is None else str(path), outcome.reason
    )
