"""Ingest of several sources of any kind: folders, archives, images, addresses and tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

from imgret.abc import Gallery
from imgret.errors import InvalidInputError
from imgret.ingest.compared import compare
from imgret.ingest.contents import Contents, of_archive, of_files, of_remote, of_table
from imgret.ingest.exclude import Exclusion
from imgret.ingest.given import Prepared, prepare
from imgret.ingest.metadata import describe, read_sidecar
from imgret.ingest.prefixes import choose_prefixes
from imgret.ingest.report import IngestInterrupted, IngestReport
from imgret.ingest.run import ingest, ingest_folder, note_raw
from imgret.pipeline.pipeline import Runs
from imgret.support.given import by_key

__all__ = ["ingest_from"]


def ingest_from(
    gallery: Gallery,
    pipeline: Runs,
    given: Any,
    *,
    labels: Any,
    metadata: Any,
    prefix: str | None,
    prune: bool | Literal["all"],
    exclude: str | Sequence[str],
    path_column: str | None,
    label_column: str | None,
    **options: Any,
) -> IngestReport:
    """Update a gallery from several sources: see `imgret.Retriever.add_from`.

    Parameters
    ----------
    gallery : Gallery
        Gallery to change; the caller holds its lock.
    pipeline : Runs
    given : path, data frame, iterable of them, or Prepared
    labels, metadata, prefix, prune, exclude, path_column, label_column
        As for `imgret.Retriever.add_from`.
    **options
        As for `imgret.ingest.ingest`.
    """
    if prune is not True and prune is not False and prune != "all":
        raise InvalidInputError(f"prune: expected True, False or 'all', found {prune!r}")
    if not isinstance(given, Prepared):
        given = prepare(given, exclude=exclude, path_column=path_column, label_column=label_column)
    run = _Ingest(
        gallery,
        pipeline,
        labels=labels,
        metadata=metadata,
        exclude=exclude,
        options={"prune": prune, **options},
    )
    found, tables, remote, archives = given
    run.total.warnings += found.warnings
    run.total.record(found.failed)
    exclusion, start = Exclusion(exclude), prefix or ""
    prefixes = choose_prefixes(gallery, [*found.folders, *(one.path for one in archives)], prefix)
    for folder in found.folders:
        run.folder(folder, prefixes[str(folder)])
    for archive in archives:
        own = prefixes[str(archive.path)]
        run.contents(of_archive(archive, own, exclusion), archive.path, own)
    for address in remote:
        own = f"{address.root}/" if prefix is None else prefix
        run.contents(of_remote(address, prefix, exclusion), Path(), own)
    # These name files that may be in a folder, too: then they add labels and metadata.
    for table, rows in tables:
        run.contents(of_table(table, rows, start, exclusion), Path(), start)
    if found.files:
        run.contents(of_files(found.files, start, exclusion), Path(), start)
    run.sidecar.finish(run.total)
    return run.total


class _Ingest:
    """The ingest of one source after the other, with one report."""

    def __init__(
        self,
        gallery: Gallery,
        pipeline: Runs,
        *,
        labels: Any,
        metadata: Any,
        exclude: str | Sequence[str],
        options: Mapping[str, Any],
    ) -> None:
        self.total = IngestReport()
        self.sidecar = _Sidecar(metadata, labels)
        self._gallery, self._pipeline = gallery, pipeline
        self._exclude, self._options = exclude, options

    def folder(self, folder: Path, prefix: str) -> None:
        """Ingest a folder."""
        facts, labels = self.sidecar.of(folder, prefix)
        with self._added() as take:
            take(
                ingest_folder(
                    self._gallery,
                    self._pipeline,
                    folder,
                    labels=labels,
                    metadata=facts,
                    prefix=prefix,
                    exclude=self._exclude,
                    **self._options,
                )
            )

    def contents(self, contents: Contents, folder: Path, prefix: str) -> None:
        """Compare the images of another source with the gallery, and ingest them."""
        facts, labels = self.sidecar.of(folder, prefix)
        found = compare(self._gallery, contents, labels)
        described = describe(found.sources, facts)
        sources = [
            replace(after, metadata={**before.metadata, **after.metadata})
            for before, after in zip(found.sources, described.sources, strict=True)
        ]
        with self._added() as take:
            report = ingest(self._gallery, self._pipeline, sources, found=found, **self._options)
            report.ignored, report.ignored_suffixes = sum(found.ignored.values()), found.ignored
            report.excluded, report.warnings = found.excluded, report.warnings + contents.warnings
            report.unmatched, report.undescribed = described.unmatched, described.undescribed
            report.record(found.failed)
            note_raw(report)
            take(report)

    @contextmanager
    def _added(self) -> Iterator[Callable[[IngestReport], None]]:
        """Add the report of a source to the others, also that of an interrupted one."""

        def take(report: IngestReport) -> None:
            self.sidecar.keep(report)
            _merge(self.total, report)

        try:
            yield take
        except IngestInterrupted as interrupt:
            _merge(self.total, interrupt.report)
            raise IngestInterrupted(self.total) from None


class _Sidecar:
    """The metadata of all sources together: a row that any of them has is matched."""

    def __init__(self, metadata: Any, labels: Any) -> None:
        self._metadata, self._labels = by_key(metadata), by_key(labels)
        self._keys: list[list[str]] = []  # those of each row, for the source at hand
        self._names: list[str] = []
        self._unmatched: set[int] | None = None

    def of(self, folder: Path, prefix: str) -> tuple[Any, Any]:
        """Return metadata and labels for the images below a folder, by key."""
        given = self._metadata
        if not isinstance(given, (str, os.PathLike)):
            self._keys = [[str(key)] for key in given] if isinstance(given, Mapping) else []
            return given, self._labels
        facts, labels = read_sidecar(Path(given), folder, prefix)
        self._keys = [[key] for key in facts]
        for keys in self._keys:
            # Paths are relative to the folder, or have its name before them, as the keys do.
            own = keys[0].removeprefix(prefix)
            if prefix and own.startswith(prefix) and own not in facts:
                keys.append(own)
                facts[own] = facts[keys[0]]
                if keys[0] in labels:
                    labels[own] = labels[keys[0]]
        return facts, labels if self._labels is None else self._labels

    def keep(self, report: IngestReport) -> None:
        """Take over which rows a source did not match."""
        self._names = self._names or [keys[-1] for keys in self._keys]
        missing = set(report.unmatched)
        unmatched = {at for at, keys in enumerate(self._keys) if missing.issuperset(keys)}
        self._unmatched = unmatched if self._unmatched is None else self._unmatched & unmatched
        report.unmatched = []

    def finish(self, report: IngestReport) -> None:
        """Report the rows that no source matched."""
        report.unmatched = [self._names[at] for at in sorted(self._unmatched or ())]


def _merge(total: IngestReport, report: IngestReport) -> None:
    """Add one report to another, field by field."""
    for each in fields(IngestReport):
        mine, other = getattr(total, each.name), getattr(report, each.name)
        if isinstance(mine, dict):
            for name, value in other.items():
                mine[name] = mine.get(name, 0) + value
        else:
            setattr(total, each.name, mine + other)
