"""The report of an ingest: the outcome of every image."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

from imgret.pages.document import file_link
from imgret.pages.result import Tabular
from imgret.pipeline.embed import Status
from imgret.support.spelling import normal
from imgret.support.terminal import plain
from imgret.types import Json

__all__ = ["IngestInterrupted", "IngestReport", "Line", "Status"]

_SHOWN = 20  # failures in a text, and lines of every kind on a page
_FEW = 5  # other lines in a text
_KINDS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """Outcome of one image.

    Attributes
    ----------
    status : {"ok", "skipped", "renamed", "duplicate", "vanished", "failed"}
    key : str
        Key it has, or would have had, in the gallery.
    path : str or None
        File it was read from.
    reason : str
        Reason it was skipped or failed, item it is a duplicate of, or its former key; empty for
        ok.
    """

    status: Status
    key: str
    path: str | None = None
    reason: str = ""


@dataclass
class IngestReport(Tabular):
    """Outcome of an ingest.

    Attributes
    ----------
    ok : list of str
        Keys that were added or embedded again.
    updated : int
        Number of keys in ``ok`` that were in the gallery before and whose file has changed.
    skipped : list of Line
        Images unchanged since they were added.
    renamed : list of Line
        Images whose file has a new name. They were renamed in the gallery, not embedded again.
    duplicate : list of Line
        Images with the same bytes as another item. They were added too, unless duplicates were
        to be skipped.
    vanished : list of Line
        Items whose file is gone from the folder. They were removed if asked for, else kept.
    removed : int
        Number of vanished items that were removed.
    failed : list of Line
        Images that could not be read or added, and folders that could not be listed.
    ignored : int
        Number of files in a folder that do not have the suffix of an image.
    ignored_suffixes : dict of str to int
        Number of those files by suffix in lower case; empty for files without one.
    excluded : dict of str to int
        Excluded files and folders, by their path relative to the folder, with the number of
        items of the gallery there. These items are left unchanged.
    repeated_links : list of str
        Links to folders that were passed over, because their target was visited by another path
        or is a folder above them.
    unpruned : int
        Number of vanished items that were to be removed but were kept, as a disk may be missing;
        the lines in ``vanished`` give the reasons.
    warnings : list of str
        Problems that need attention, as sentences.
    uncropped : int
        Number of images without a subject for the cropper; they were embedded whole.
    seconds : float
        Duration of the ingest.
    unmatched : list of str
        Rows of a metadata file, or keys of a mapping, that match no image.
    undescribed : list of str
        Images that such a file or mapping does not contain.
    stages : dict of str to float
        Seconds in "read", "decode", "crop", "embed" and "store", summed over threads.
    """

    ok: list[str] = field(default_factory=list)
    skipped: list[Line] = field(default_factory=list)
    renamed: list[Line] = field(default_factory=list)
    duplicate: list[Line] = field(default_factory=list)
    vanished: list[Line] = field(default_factory=list)
    failed: list[Line] = field(default_factory=list)
    ignored: int = 0
    ignored_suffixes: dict[str, int] = field(default_factory=dict)
    excluded: dict[str, int] = field(default_factory=dict)
    repeated_links: list[str] = field(default_factory=list)
    updated: int = 0
    removed: int = 0
    unpruned: int = 0
    warnings: list[str] = field(default_factory=list)
    uncropped: int = 0
    seconds: float = 0.0
    unmatched: list[str] = field(default_factory=list)
    undescribed: list[str] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of images processed."""
        seen = (self.ok, self.skipped, self.renamed, self.duplicate, self.failed)
        return sum(len(entries) for entries in seen)

    @property
    def images_per_second(self) -> float:
        """Images processed per second."""
        return self.total / self.seconds if self.seconds else 0.0

    def record(self, lines: Iterable[Line]) -> None:
        """Add the outcomes of some images."""
        for line in lines:
            if line.status == "ok":
                self.ok.append(line.key)
            else:
                getattr(self, line.status).append(line)

    def add_stage(self, stage: str, seconds: float) -> None:
        """Add time spent in a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def to_dict(self) -> Json:
        """Return everything as JSON values, with ``total`` and ``images_per_second``."""
        speed = {"total": self.total, "images_per_second": self.images_per_second}
        return {**asdict(self), **speed}

    def _frame(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        others = (self.skipped, self.renamed, self.duplicate, self.vanished, self.failed)
        lines = [Line("ok", key) for key in self.ok] + [line for some in others for line in some]
        names = ("status", "key", "path", "reason")
        return names, [tuple(getattr(line, name) for name in names) for line in lines]

    def summary(self) -> str:
        """Return the report in one line: all counts that are not zero, and the time."""
        counts = {
            "added": len(self.ok) - self.updated,
            "updated": self.updated,
            "unchanged": len(self.skipped),
            "renamed": len(self.renamed),
            "identical to another image": len(self.duplicate),
            "missing": len(self.vanished) - self.removed,
            "not pruned": self.unpruned,
            "removed": self.removed,
            "failed": len(self.failed),
        }
        parts = [f"{count:,} {name}" for name, count in counts.items() if count]
        parts = parts or ["no images indexed"]
        if self.excluded:
            parts.append(f"{len(self.excluded):,} excluded")
        if self.repeated_links:
            parts.append(f"{_count(len(self.repeated_links), 'link')} passed over")
        if self.ignored:
            kinds = [
                f"{count:,} {_kind(suffix)}" for suffix, count in self.ignored_suffixes.items()
            ]
            if len(kinds) > _KINDS:
                kinds = [*kinds[:_KINDS], f"and {len(kinds) - _KINDS} other kinds"]
            kinds_text = f": {', '.join(kinds)}" if kinds else ""
            parts.append(f"{_count(self.ignored, 'other file')} ignored{kinds_text}")
        if self.uncropped:
            parts.append(f"{self.uncropped:,} without a subject, embedded whole")
        if self.unmatched:
            parts.append(f"{_count(len(self.unmatched), 'row')} of metadata without an image")
        if self.undescribed:
            parts.append(f"{_count(len(self.undescribed), 'image')} without a row of metadata")
        speed = f", {self.images_per_second:,.0f} images/s" if self.total else ""
        return f"{', '.join(parts)}; {self.seconds:.1f} s{speed}"

    def timings(self) -> str:
        """Return the seconds of each stage in one line; empty if nothing was measured."""
        stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.stages.items())
        return f"seconds over all threads: {stages}" if stages else ""

    def __str__(self) -> str:
        lines = [self.summary(), *(f"warning: {warning}" for warning in self.warnings)]
        for name, entries in self._entries():
            shown = _SHOWN if entries is self.failed else _FEW
            lines += [
                f"{name}: {plain(line.path or line.key)}: {plain(line.reason)}"
                for line in entries[:shown]
            ]
            if len(entries) > shown:
                lines.append(f"{name}: and {len(entries) - shown:,} more")
        for what, keys in self._names():
            lines += [f"{what}: {plain(_name(key))}" for key in keys[:_FEW]]
            if len(keys) > _FEW:
                lines.append(f"{what}: and {len(keys) - _FEW:,} more")
        return "\n".join(lines)

    def _body(self) -> str:
        body = f"<p>{html.escape(self.summary())}</p>"
        body += "".join(f'<p class="warning">{html.escape(text)}</p>' for text in self.warnings)
        if rows := "".join(self._rows()):
            body += (
                '<table class="listing"><thead><tr><th scope="col">outcome</th>'
                '<th scope="col">image</th><th scope="col">reason</th></tr></thead>'
                f"<tbody>{rows}</tbody></table>"
            )
        if self.stages:
            body += f'<p class="faint">{html.escape(self.timings())}</p>'
        return body

    def _rows(self) -> Iterator[str]:
        """Yield rows of a table about everything that needs a look."""
        for name, entries in self._entries():
            for line in entries[:_SHOWN]:
                image = file_link(line.path, line.path or _name(line.key))
                yield f"<tr><td>{name}</td><td>{image}</td><td>{html.escape(line.reason)}</td></tr>"
            if len(entries) > _SHOWN:
                yield f"<tr><td>{name}</td><td>and {len(entries) - _SHOWN} more</td><td></td></tr>"
        for what, keys in self._names():
            for key in keys[:_SHOWN]:
                yield f"<tr><td>{what}</td><td>{html.escape(_name(key))}</td><td></td></tr>"
            if len(keys) > _SHOWN:
                yield f"<tr><td>{what}</td><td>and {len(keys) - _SHOWN} more</td><td></td></tr>"

    def _entries(self) -> tuple[tuple[str, list[Line]], ...]:
        return (
            ("failed", self.failed),
            ("duplicate", self.duplicate),
            ("renamed", self.renamed),
            ("missing", self.vanished),
        )

    def _names(self) -> tuple[tuple[str, list[str]], ...]:
        return (
            ("metadata without an image", self.unmatched),
            ("image without metadata", self.undescribed),
            ("excluded", [_excluded(*place) for place in self.excluded.items()]),
            ("link passed over", self.repeated_links),
        )

    def __repr__(self) -> str:
        return f"<IngestReport {self.summary()}>"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _kind(suffix: str) -> str:
    return (suffix if suffix.isprintable() else ascii(suffix)) or "without a suffix"


def _name(key: str) -> str:
    """Return a key, escaped if a different one may look the same."""
    return key if key == normal(key) else ascii(key)


def _excluded(place: str, items: int) -> str:
    if not items:
        return place
    return f"{place}: {items} items of the gallery are there and stay unchanged"


class IngestInterrupted(KeyboardInterrupt):
    """Ctrl-C during an ingest; everything the report lists as done is in the gallery.

    Attributes
    ----------
    report : IngestReport
    """

    def __init__(self, report: IngestReport) -> None:
        self.report = report
        super().__init__(f"interrupted: {report.summary()}")
