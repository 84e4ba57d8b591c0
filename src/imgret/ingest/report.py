"""What became of every image that was to be added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from imgret.pages.result import Result
from imgret.pipeline.embed import Status
from imgret.support.spelling import normal
from imgret.types import Json

__all__ = ["IngestInterrupted", "IngestReport", "Line", "Status"]

_SHOWN = 20
_KINDS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one image.

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
class IngestReport(Result):
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
        Files of a folder that are no images by their name.
    ignored_suffixes : dict of str to int
        What those names end in, in lower case, with how many of each; empty for no ending.
    excluded : dict of str to int
        Files and folders of a folder that were excluded, by their path relative to it, with
        how many items of the gallery lie there: these are left as they are.
    repeated_links : list of str
        Links to folders that were passed over, as what they lead to was taken by another path, or
        they lead to a folder above.
    unpruned : int
        Vanished items that were to be removed and were kept, as a missing disk may be why: the
        reasons of the lines in ``vanished`` say more.
    warnings : list of str
        What needs a look, in sentences.
    uncropped : int
        Images in which the cropper found no subject; the whole image was embedded.
    seconds : float
        From start to end.
    unmatched : list of str
        Rows of a metadata file, or keys of a mapping, that no image answers to.
    undescribed : list of str
        Images that such a file or mapping says nothing of.
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
    ignored_suffixes: dict[str, int] = field(default_factory=dict)
    excluded: dict[str, int] = field(default_factory=dict)
    repeated_links: list[str] = field(default_factory=list)
    unpruned: int = 0
    warnings: list[str] = field(default_factory=list)
    uncropped: int = 0
    seconds: float = 0.0
    unmatched: list[str] = field(default_factory=list)
    undescribed: list[str] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Images looked at."""
        seen = (self.ok, self.skipped, self.renamed, self.duplicate, self.failed)
        return sum(len(entries) for entries in seen)

    @property
    def images_per_second(self) -> float:
        """Images looked at a second."""
        return self.total / self.seconds if self.seconds else 0.0

    def record(self, lines: Iterable[Line]) -> None:
        """Enter what became of some images."""
        for line in lines:
            if line.status == "ok":
                self.ok.append(line.key)
            else:
                getattr(self, line.status).append(line)

    def add_stage(self, stage: str, seconds: float) -> None:
        """Enter time spent."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    def to_dict(self) -> Json:
        """Return everything as JSON values; ``total`` and ``images_per_second`` as well."""
        speed = {"total": self.total, "images_per_second": self.images_per_second}
        return {**asdict(self), **speed}

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
        if self.unpruned:
            parts.append(f"{self.unpruned} not pruned")
        if self.excluded:
            parts.append(f"{len(self.excluded)} excluded")
        if self.repeated_links:
            links = "link" if len(self.repeated_links) == 1 else "links"
            parts.append(f"{len(self.repeated_links)} {links} passed over")
        if self.ignored:
            kinds = [f"{count} {_kind(suffix)}" for suffix, count in self.ignored_suffixes.items()]
            if len(kinds) > _KINDS:
                kinds = [*kinds[:_KINDS], f"and {len(kinds) - _KINDS} other kinds"]
            kinds_text = f": {', '.join(kinds)}" if kinds else ""
            files = "file" if self.ignored == 1 else "files"
            parts.append(f"{self.ignored} other {files} ignored{kinds_text}")
        if self.uncropped:
            parts.append(f"{self.uncropped} without a subject, taken whole")
        if self.unmatched:
            parts.append(f"{len(self.unmatched)} rows of metadata without an image")
        if self.undescribed:
            parts.append(f"{len(self.undescribed)} images without a row of metadata")
        return f"{', '.join(parts)}; {self.seconds:.1f} s, {self.images_per_second:.0f} images/s"

    def __str__(self) -> str:
        lines = [self.summary(), *(f"warning: {warning}" for warning in self.warnings)]
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
            ("metadata without an image", self.unmatched),
            ("image without metadata", self.undescribed),
            ("excluded", [_excluded(*place) for place in self.excluded.items()]),
            ("link passed over", self.repeated_links),
        ):
            lines += [f"{what}: {_name(key)}" for key in keys[:_SHOWN]]
            if len(keys) > _SHOWN:
                lines.append(f"{what}: and {len(keys) - _SHOWN} more")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<IngestReport {self.summary()}>"


def _kind(suffix: str) -> str:
    return (suffix if suffix.isprintable() else ascii(suffix)) or "without an ending"


def _name(key: str) -> str:
    """Return a key as it is, or with escapes where another may look the same."""
    return key if key == normal(key) else ascii(key)


def _excluded(place: str, items: int) -> str:
    if not items:
        return place
    return f"{place}: {items} items of the gallery lie there and stay as they are"


class IngestInterrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of an ingest; what the report calls done is in the gallery.

    Attributes
    ----------
    report : IngestReport
    """

    def __init__(self, report: IngestReport) -> None:
        self.report = report
        super().__init__(f"interrupted: {report.summary()}")
