"""What became of every picture that was to be added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["IngestInterrupted", "IngestReport", "Line", "Status"]

Status: TypeAlias = Literal["ok", "skipped", "renamed", "duplicate", "vanished", "failed"]

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one picture.

    Attributes
    ----------
    status : {"ok", "skipped", "renamed", "duplicate", "vanished", "failed"}
    key : str
        Name it has, or would have had, in the gallery.
    path : str or None
        File it was read from.
    reason : str
        Why it was skipped or failed, what it is a duplicate of, what it was called before;
        empty for ok.
    """

    status: Status
    key: str
    path: str | None = None
    reason: str = ""


@dataclass
class IngestReport:
    """What an ingest did.

    Attributes
    ----------
    ok : list of str
        Keys that are new in the gallery, or were embedded again.
    skipped : list of Line
        Unchanged since they were added.
    renamed : list of Line
        Known under another name whose file is gone: renamed in the gallery, embedded no more.
    duplicate : list of Line
        Of the same bytes as another item: added beside it, unless duplicates were to be
        skipped.
    vanished : list of Line
        Items whose file is gone from the folder: removed if that was asked for, else kept.
    failed : list of Line
        Not readable, and not in the gallery.
    ignored : int
        Files of a folder that are no pictures by their name.
    uncropped : int
        Pictures in which the cropper found no subject; the whole picture was embedded.
    seconds : float
        From start to end.
    unmatched : list of str
        Rows of a metadata file, or keys of a mapping, that no picture answers to.
    undescribed : list of str
        Pictures that such a file or mapping says nothing of.
    stages : dict of str to float
        Seconds in "read", "decode", "crop", "embed" and "store", added up over threads.
    """

    ok: list[str] = field(default_factory=list)
    skipped: list[Line] = field(default_factory=list)
    renamed: list[Line] = field(default_factory=list)
    duplicate: list[Line] = field(default_factory=list)
    vanished: list[Line] = field(default_factory=list)
    failed: list[Line] = field(default_factory=list)
    ignored: int = 0
    uncropped: int = 0
    seconds: float = 0.0
    unmatched: list[str] = field(default_factory=list)
    undescribed: list[str] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Pictures looked at."""
        seen = (self.ok, self.skipped, self.renamed, self.duplicate, self.failed)
        return sum(len(entries) for entries in seen)

    @property
    def images_per_second(self) -> float:
        """Pictures looked at a second."""
        return self.total / self.seconds if self.seconds else 0.0

    def record(self, lines: Iterable[Line]) -> None:
        """Enter what became of some pictures."""
        for line in lines:
            if line.status == "ok":
                self.ok.append(line.key)
            else:
                getattr(self, line.status).append(line)

    def add_stage(self, stage: str, seconds: float) -> None:
        """Enter time spent."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def summary(self) -> str:
        """Say it in a line."""
        parts = [f"{len(self.ok)} ok"]
        parts += [
            f"{len(lines)} {name}"
            for name, lines in (
                ("skipped", self.skipped),
                ("renamed", self.renamed),
                ("duplicate", self.duplicate),
                ("vanished", self.vanished),
                ("failed", self.failed),
            )
            if lines
        ]
        if self.ignored:
            parts.append(f"{self.ignored} other files ignored")
        if self.uncropped:
            parts.append(f"{self.uncropped} without a subject, taken whole")
        if self.unmatched:
            parts.append(f"{len(self.unmatched)} rows of metadata without a picture")
        if self.undescribed:
            parts.append(f"{len(self.undescribed)} pictures without a row of metadata")
        return f"{', '.join(parts)}; {self.seconds:.1f} s, {self.images_per_second:.0f} images/s"

    def __str__(self) -> str:
        lines = [self.summary()]
        if self.stages:
            stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.stages.items())
            lines.append(f"seconds over all threads: {stages}")
        for name, entries in (
            ("failed", self.failed),
            ("duplicate", self.duplicate),
            ("renamed", self.renamed),
            ("vanished", self.vanished),
        ):
            lines += [
                f"{name}: {line.path or line.key}: {line.reason}" for line in entries[:_SHOWN]
            ]
            if len(entries) > _SHOWN:
                lines.append(f"{name}: and {len(entries) - _SHOWN} more")
        for what, keys in (
            ("metadata without a picture", self.unmatched),
            ("picture without metadata", self.undescribed),
        ):
            lines += [f"{what}: {key}" for key in keys[:_SHOWN]]
            if len(keys) > _SHOWN:
                lines.append(f"{what}: and {len(keys) - _SHOWN} more")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<IngestReport {self.summary()}>"


class IngestInterrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of an ingest; what the report calls done is in the gallery.

    Attributes
    ----------
    report : IngestReport
    """

    def __init__(self, report: IngestReport) -> None:
        self.report = report
        super().__init__(f"interrupted: {report.summary()}")
