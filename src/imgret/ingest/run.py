"""The ingest: embed sources, commit them to a gallery in batches, and report."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from imgret.abc import Cropper, Gallery
from imgret.errors import InvalidInputError
from imgret.images import reads_raw
from imgret.ingest.folder import RAW_SUFFIXES
from imgret.ingest.losses import Spared, spare
from imgret.ingest.metadata import describe, read_sidecar
from imgret.ingest.progress import Progress, progress_bar
from imgret.ingest.report import IngestInterrupted, IngestReport, Line
from imgret.ingest.sources import FolderContents, folder_sources
from imgret.ingest.writer import Writer
from imgret.pipeline.embed import Source
from imgret.pipeline.pipeline import Runs
from imgret.support.checks import check_count
from imgret.support.interrupts import held
from imgret.types import Item

__all__ = ["ingest", "ingest_folder", "note_raw"]

_log = logging.getLogger(__name__)


def ingest(
    gallery: Gallery,
    pipeline: Runs,
    sources: Sequence[Source],
    *,
    exif: bool = False,
    cropper: Cropper | None = None,
    duplicates: Literal["add", "skip"] = "add",
    threads: int | None = None,
    progress: Progress = None,
    raise_failures: bool = False,
    found: FolderContents | None = None,
    prune: bool | Literal["all"] = False,
) -> IngestReport:
    """Embed sources and commit the outcomes.

    Parameters
    ----------
    gallery : Gallery
        Gallery to change; the caller holds its lock.
    pipeline : Runs
    sources : sequence of Source
    cropper : Cropper, optional
        Cropper to use instead of the gallery's.
    raise_failures : bool
        If true, the error of a failed image is raised; for single images.
    found : FolderContents, optional
        Contents of the folder that the sources come from.
    exif, duplicates, threads, progress, prune
        As for `imgret.Retriever.add_folder`.
    """
    if duplicates not in {"add", "skip"}:
        raise InvalidInputError(f"duplicates: expected 'add' or 'skip', found {duplicates!r}")
    if threads is not None:
        check_count(threads, "threads")
    report = IngestReport()
    started = time.perf_counter()
    writer = Writer(
        gallery,
        report,
        skip_duplicates=duplicates == "skip",
        vanished=None if found is None else found.vanished,
    )

    gallery.settle()
    with progress_bar(progress, total=len(sources), unit="img", desc="indexing") as bar:
        try:
            with held():  # an interrupt waits until what is embedded is kept
                try:
                    for outcomes in pipeline.run(
                        sources,
                        cropper=cropper,
                        # An item with the same bytes lends its embedding, unless the cropper
                        # differs.
                        find_twin=gallery.copy_of if cropper is None else None,
                        refuse=gallery.refusals,
                        exif=exif,
                        threads=threads,
                        on_stage=report.add_stage,
                    ):
                        if raise_failures and outcomes[0].error is not None:
                            raise outcomes[0].error
                        writer.take(outcomes)
                        bar.update(len(outcomes))
                finally:
                    writer.commit()  # whatever happens
        except KeyboardInterrupt:
            report.seconds = time.perf_counter() - started
            raise IngestInterrupted(report) from None
    if found is not None:
        _prune(gallery, writer.vanished, found, report, prune=prune)
    gallery.catch_up()
    report.seconds = time.perf_counter() - started
    _tell(gallery, report)
    return report


def _tell(gallery: Gallery, report: IngestReport) -> None:
    """Log what was done."""
    _log.info("%s: %s", gallery.name, report.summary())
    for line in report.failed:
        _log.info("failed: %s: %s", line.path or line.key, line.reason)
    for stage, seconds in report.stages.items():
        _log.debug("%s took %.2f s, summed over threads", stage, seconds)


def ingest_folder(
    gallery: Gallery,
    pipeline: Runs,
    folder: str | os.PathLike[str],
    *,
    labels: Any,
    metadata: Any,
    prefix: str,
    prune: bool | Literal["all"],
    exclude: str | Sequence[str],
    **options: Any,
) -> IngestReport:
    """Update a gallery from a folder: see `imgret.Retriever.add_folder`.

    Parameters
    ----------
    gallery : Gallery
        Gallery to change; the caller holds its lock.
    pipeline : Runs
    folder, labels, metadata, prefix, prune, exclude
        As for `imgret.Retriever.add_folder`.
    **options
        As for `ingest`.
    """
    if prune is not True and prune is not False and prune != "all":
        raise InvalidInputError(f"prune: expected True, False or 'all', found {prune!r}")
    if isinstance(metadata, (str, os.PathLike)):
        rows = read_sidecar(Path(metadata), Path(folder), prefix)
        metadata, labels = rows.facts, rows.labels if labels is None else labels
    found = folder_sources(Path(folder), labels, prefix, gallery, exclude)
    _log.info("%s: found %d images in %s", gallery.name, len(found.sources), found.root)
    described = describe(found.sources, metadata)
    if found.moved:  # so that they are known to be of this folder from now on
        gallery.change(found.moved)
    report = ingest(gallery, pipeline, described.sources, found=found, prune=prune, **options)
    report.ignored, report.ignored_suffixes = sum(found.ignored.values()), found.ignored
    report.excluded, report.repeated_links = found.excluded, found.repeated
    report.unmatched, report.undescribed = described.unmatched, described.undescribed
    report.record(found.failed)
    note_raw(report)
    return report


def note_raw(report: IngestReport) -> None:
    """Say of RAW photographs that were ignored what would read them."""
    found = {
        suffix: count for suffix, count in report.ignored_suffixes.items() if suffix in RAW_SUFFIXES
    }
    if found and not reads_raw():
        n = sum(found.values())
        report.warnings.append(
            f"{n} RAW {'photograph' if n == 1 else 'photographs'} ({', '.join(found)}) not read; "
            f"to read them: pip install 'imgret[raw]'"
        )


def _prune(
    gallery: Gallery,
    vanished: Mapping[str, Item],
    found: FolderContents,
    report: IngestReport,
    *,
    prune: bool | Literal["all"],
) -> None:
    """Report the items gone from a folder, and remove them if that is asked for and safe."""
    spared = Spared({}, "")
    if prune is True:
        renamed = len(found.vanished) - len(vanished)
        known = sum(source.known is not None for source in found.sources)
        lost = {key: found.lost[key] for key in vanished}
        spared = spare(lost, known + renamed, found.root)
    going = [key for key in vanished if prune and key not in spared.reasons]
    if going:
        gallery.remove(going)
        report.removed = len(going)
    if spared.reasons:
        report.unpruned = len(spared.reasons)
        report.warnings.append(spared.warning)
    otherwise = "removed" if prune else "pruning removes it"
    report.record(
        Line(
            "vanished",
            item.key,
            item.path,
            f"its file is gone; {spared.reasons.get(key, otherwise)}",
        )
        for key, item in vanished.items()
    )
