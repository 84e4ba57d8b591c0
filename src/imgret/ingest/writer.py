"""The writer, which commits outcomes to a gallery every few hundred or few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from imgret.abc import Gallery
from imgret.errors import DuplicateKeyError
from imgret.ingest.report import IngestReport, Line
from imgret.pipeline.embed import Outcome
from imgret.types import Item

__all__ = ["Writer"]

_log = logging.getLogger(__name__)
# Enough to make a commit cheap, few enough to lose little.
_COMMIT_ITEMS = 512
# Work that a kill may cost if embedding is slow; less at first, for short runs.
_COMMIT_SECONDS = 2.0
_FIRST_COMMIT_SECONDS = 0.25
# Attempts to add a batch beside other processes that add the same keys.
_TRIES = 5


class Writer:
    """Takes outcomes in order and commits them.

    Parameters
    ----------
    gallery : Gallery
    report : IngestReport
        Report that gets the outcome of each image once it is committed.
    skip_duplicates : bool
        Whether new files are left out if their bytes are in the gallery already. Existing items
        are updated in any case.
    vanished : mapping of str to Item
        Items whose files are gone. A new file with the same bytes is such an item, renamed.
    """

    def __init__(
        self,
        gallery: Gallery,
        report: IngestReport,
        *,
        skip_duplicates: bool,
        vanished: Mapping[str, Item] | None = None,
    ) -> None:
        self._gallery = gallery
        self._report = report
        self._skip_duplicates = skip_duplicates
        self._waiting: list[Outcome] = []
        self._committed = time.monotonic()
        self._wait = min(_FIRST_COMMIT_SECONDS, _COMMIT_SECONDS)
        self._first: dict[bytes, str] = {}  # sha256 -> key, of what this run has embedded
        self._renamed: list[Line] = []
        # Keys and former bytes of items that this run has embedded again.
        self._replaced: set[tuple[str, bytes | None]] = set()
        self._moved: dict[str, Item] = {}  # items whose file has another time, place or name
        self.vanished = dict(vanished or {})  # those not found again so far
        self._vanished_keys: dict[bytes, list[str]] = {}
        for key, item in self.vanished.items():
            if item.sha256 is not None:
                self._vanished_keys.setdefault(item.sha256, []).append(key)

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Take some outcomes, and commit when enough are waiting."""
        for outcome in outcomes:
            source = outcome.source
            if outcome.status in {"failed", "skipped"}:
                self._report.record([_line(outcome)])
                if outcome.status == "skipped":
                    self._touch(outcome)
                continue
            if source.known is None and (key := self._vanished_twin(outcome)) is not None:
                self._rename(outcome, key)
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
                self._replaced.add((source.known.item.key, source.known.item.sha256))
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
            self._gallery.change(moved)
            self._report.record(self._renamed)
            self._renamed = []
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        started = time.perf_counter()
        waiting = self._added(waiting)
        known = [outcome.source.known for outcome in waiting]
        self._report.record(map(_line, waiting))
        self._report.updated += sum(
            before is not None and outcome.status == "ok"
            for before, outcome in zip(known, waiting, strict=True)
        )
        self._report.uncropped += sum(outcome.missed for outcome in waiting)
        seconds = time.perf_counter() - started
        self._report.add_stage("store", seconds)
        _log.debug("committed %d items in %.3f s", len(waiting), seconds)

    def _added(self, waiting: list[Outcome]) -> list[Outcome]:
        """Add items, and return those that were added: others may be adding the same ones."""
        for attempt in range(_TRIES):
            known = [outcome.source.known for outcome in waiting]
            try:
                self._gallery.add(
                    [_item(outcome) for outcome in waiting],
                    np.stack([outcome.embedding for outcome in waiting]),  # type: ignore[misc]
                    replacing=[before.item.key for before in known if before is not None],
                )
                break
            except DuplicateKeyError:
                if not self._gallery.shared or attempt == _TRIES - 1:
                    raise
                waiting = self._not_added_by_others(waiting)
                if not waiting:
                    break
        return waiting

    def _not_added_by_others(self, waiting: list[Outcome]) -> list[Outcome]:
        """Report those that another process has added since this run began; return the rest."""
        new = [outcome.source.key for outcome in waiting if outcome.source.known is None]
        found, rest = self._gallery.find(new), []
        for outcome in waiting:
            item = None if outcome.source.known is not None else found.get(outcome.source.key)
            if item is None:
                rest.append(outcome)
                continue
            if item.sha256 is not None and item.sha256 == outcome.sha256:
                outcome.status, outcome.reason = "skipped", "added by another process meanwhile"
            else:
                outcome.status = "failed"
                outcome.reason = "another process has added another image under this key meanwhile"
            self._report.record([_line(outcome)])
        return rest

    def _twin(self, outcome: Outcome) -> str | None:
        """Return the key of another item of the same bytes."""
        if outcome.sha256 is None:
            return None
        if outcome.twin is not None and (outcome.twin, outcome.sha256) not in self._replaced:
            return repr(outcome.twin)
        first = self._first.get(outcome.sha256)
        return None if first is None else repr(first)

    def _vanished_twin(self, outcome: Outcome) -> str | None:
        """Return the key of an item of the same bytes whose own file is gone."""
        keys = self._vanished_keys.get(outcome.sha256 or b"", [])
        return keys.pop(0) if keys else None

    def _rename(self, outcome: Outcome, key: str) -> None:
        item, source = self.vanished.pop(key), outcome.source
        self._moved[key] = replace(
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
        """Record the new time, path, label or metadata of an unchanged file."""
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
            self._moved[known.item.key] = now


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
        phash=outcome.phash,
    )


def _line(outcome: Outcome) -> Line:
    path = outcome.source.path
    return Line(
        outcome.status, outcome.source.key, None if path is None else str(path), outcome.reason
    )
