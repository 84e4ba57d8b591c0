"""The images of an archive, an address, a table or a list, before the gallery is asked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from imgret.errors import ImageError
from imgret.files import Place, State, Url, is_archive, is_url, place_of, state_of
from imgret.files.archives import Archive
from imgret.files.remote import RemoteFolder
from imgret.images import reads_raw
from imgret.ingest.exclude import Exclusion
from imgret.ingest.folder import RAW_SUFFIXES, SUFFIXES
from imgret.ingest.report import Line
from imgret.ingest.sources import readable
from imgret.ingest.table import TableRow
from imgret.support.given import is_frame

__all__ = [
    "Candidate",
    "Contents",
    "exists",
    "is_image",
    "of_archive",
    "of_files",
    "of_remote",
    "of_table",
]


class Candidate(NamedTuple):
    """An image of a source.

    Attributes
    ----------
    key : str
        Key it gets, unless the gallery has an item of the same path.
    image : path or bytes
    path : Path, Url or None
    folder : str
        Name of the folder that contains it; empty for none.
    label : str or None
    metadata : mapping
    state : State or None
        Size and time, where a listing has them.
    """

    key: str
    image: Any
    path: Place | None
    folder: str = ""
    label: str | None = None
    metadata: Mapping[str, Any] = MappingProxyType({})
    state: State | None = None


@dataclass(slots=True)
class Contents:
    """Images of a source, and what was passed over.

    Attributes
    ----------
    candidates : list of Candidate
    failed : list of Line
    ignored : Counter of str
        Number of other files by suffix.
    excluded : list of str
        Excluded paths, relative to the source.
    warnings : list of str
    root : str or None
        Path or address of an archive or a folder whose items may be gone; None for a source that
        does not say that it is complete.
    present : frozenset of str
        Names below the root that exist, images or not.
    """

    candidates: list[Candidate] = field(default_factory=list)
    failed: list[Line] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    excluded: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    root: str | None = None
    present: frozenset[str] = frozenset()


def is_image(name: str) -> bool:
    """Whether a name has the suffix of an image, RAW included where it can be read."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  # names of many files
    return suffix in SUFFIXES or (suffix in RAW_SUFFIXES and reads_raw())


def exists(place: Any) -> bool:
    """Whether there is a file, or a member of an archive."""
    try:
        state_of(place)
    except (ImageError, OSError, ValueError):
        return False
    return True


def of_archive(archive: Archive, prefix: str, exclusion: Exclusion) -> Contents:
    """Return the images of an archive."""
    root = os.path.realpath(archive.path)
    found = Contents(root=root)
    nested = 0
    for name, entry in archive.entries.items():
        if _is_passed_over(name, exclusion, found):
            continue
        if not is_image(name):
            nested += is_archive(name)
            found.ignored[_suffix(name)] += 1
            continue
        path = Path(f"{root}/{name}")
        if entry.trouble:
            found.failed.append(Line("failed", prefix + name, str(path), entry.trouble))
            continue
        folder = name.rpartition("/")[0].rpartition("/")[2]
        state = State(entry.size, archive.mtime_ns)
        found.candidates.append(Candidate(prefix + name, str(path), path, folder, state=state))
    found.candidates.sort(key=lambda one: one.key.split("/"))
    if nested:
        archives = "archive" if nested == 1 else "archives"
        found.warnings.append(
            f"{archive.path}: {nested} {archives} inside it not read; extract it and index the "
            f"folder and the {archives}"
        )
    if archive.trouble:  # what is not in the directory may exist
        found.failed.append(Line("failed", prefix, str(archive.path), archive.trouble))
        found.root = None
    found.present = frozenset(archive.entries)
    return found


def of_remote(remote: RemoteFolder, prefix: str | None, exclusion: Exclusion) -> Contents:
    """Return the images at an address."""
    found = Contents()
    for file in remote.files:
        name = file.name
        if not remote.single and _is_passed_over(name, exclusion, found):
            continue
        if not remote.single and not is_image(name):
            found.ignored[_suffix(name)] += 1
            continue
        state = None if file.size is None else State(file.size, file.mtime_ns)
        folder = name.rpartition("/")[0].rpartition("/")[2]
        key = file.url if prefix is None else prefix + name
        found.candidates.append(Candidate(key, file.url, Url(file.url), folder, state=state))
    if not remote.single:
        found.root = remote.root
        found.present = frozenset(file.url.removeprefix(f"{remote.root}/") for file in remote.files)
    return found


def of_files(files: Sequence[str], prefix: str, exclusion: Exclusion) -> Contents:
    """Return the images of a list of paths."""
    found = Contents()
    for given in files:
        name = given.replace(os.sep, "/").removeprefix("./")
        if readable(name) != name:
            reason = "its name is not UTF-8; rename it"
            found.failed.append(Line("failed", readable(name), readable(given), reason))
            continue
        if exclusion.place(name.lstrip("/")) is not None:
            found.excluded.append(name)
            continue
        path = Path(given).absolute()
        found.candidates.append(Candidate(prefix + name, path, path, path.parent.name))
    return found


def of_table(table: Any, rows: Sequence[TableRow], prefix: str, exclusion: Exclusion) -> Contents:
    """Return the images of a table."""
    name = "table" if is_frame(table) else Path(table).name
    base = Path() if is_frame(table) else Path(table).parent
    found = Contents()
    lines: dict[str, int] = {}
    for row in rows:
        where = f"{name}, line {row.line}"
        key = row.key or prefix + (row.name or f"{name}/{row.line:06d}").removeprefix("./")
        if not row.image:
            found.failed.append(Line("failed", key, where, "the line names no image"))
            continue
        if key in lines:
            reason = f"line {lines[key]} has the same image; a column 'key' would tell them apart"
            found.failed.append(Line("failed", key, where, reason))
            continue
        lines[key] = row.line
        if isinstance(row.image, bytes):
            one = Candidate(key, row.image, None, "", row.label, row.metadata)
        elif is_url(row.image):
            place = place_of(row.image)
            folder = place.parent.name if place is not None else ""
            one = Candidate(key, row.image, place, folder, row.label, row.metadata)
        else:
            if exclusion.place(row.image.replace(os.sep, "/").lstrip("/")) is not None:
                found.excluded.append(row.image)
                continue
            path = (base / row.image).absolute()
            if not exists(path) and exists(Path(row.image).absolute()):
                path = Path(row.image).absolute()
            one = Candidate(key, path, path, path.parent.name, row.label, row.metadata)
        found.candidates.append(one)
    return found


def _is_passed_over(name: str, exclusion: Exclusion, found: Contents) -> bool:
    """Whether a name is hidden or excluded; the latter is recorded."""
    if any(part.startswith(".") and part.strip(".") for part in name.split("/")):
        return True
    place = exclusion.place(name)
    if place is not None and place not in found.excluded:
        found.excluded.append(place)
    return place is not None


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # the same
