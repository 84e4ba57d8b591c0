"""Ingest of several sources of any kind: folders, archives, images, addresses and tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from imgret.abc import Gallery
from imgret.errors import ImageError, ImageNotFoundError, InvalidInputError
from imgret.files import Place, State, Url, is_archive, is_url, place_of, state_of
from imgret.files.archives import Archive, opened
from imgret.files.remote import RemoteFolder, find
from imgret.images import reads_raw
from imgret.ingest.exclude import Exclusion
from imgret.ingest.folder import RAW_SUFFIXES, SUFFIXES, is_below
from imgret.ingest.metadata import describe, read_sidecar
from imgret.ingest.report import IngestInterrupted, IngestReport, Line
from imgret.ingest.run import ingest, ingest_folder, note_raw
from imgret.ingest.sources import Found, check_sources, labeller, readable
from imgret.ingest.table import Row, is_frame, is_table, read_table
from imgret.pipeline.embed import Known, Source, refusal
from imgret.pipeline.pipeline import Pipeline
from imgret.support.given import label_or_none
from imgret.types import Item

__all__ = ["Prepared", "ingest_from", "prepare"]

_LISTS = (".txt", ".lst", ".list")


class _Candidate(NamedTuple):
    """An image of a source, before it is compared with the gallery."""

    key: str
    image: Any
    path: Place | None
    folder: str = ""  # name of the folder that contains it
    label: str | None = None
    metadata: Mapping[str, Any] = {}
    state: State | None = None


@dataclass(slots=True)
class _Contents:
    """Images of a source, and what was passed over, as `Walk` has it for a folder."""

    candidates: list[_Candidate]
    failed: list[Line]
    ignored: Counter[str]
    excluded: list[str]
    root: str | None = None  # where items that are gone were, if that can be known
    present: frozenset[str] = frozenset()  # names below the root that exist, images or not


@dataclass(slots=True)
class _Given:
    """Sources by their kinds, in the order given."""

    folders: list[Path]
    archives: list[Path]
    remote: list[str]
    tables: list[Any]
    files: list[str]
    failed: list[Line]
    warnings: list[str]


class Prepared(NamedTuple):
    """Sources by their kinds, with what they contain."""

    given: _Given
    tables: list[tuple[Any, list[Row]]]
    remote: list[RemoteFolder]
    archives: list[Archive]


def ingest_from(
    gallery: Gallery,
    pipeline: Pipeline,
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
    pipeline : Pipeline
    given : path, data frame, iterable of them, or Prepared
    labels, metadata, prefix, prune, exclude, path_column, label_column
        As for `imgret.Retriever.add_from`.
    **options
        As for `imgret.ingest.ingest`.
    """
    if prune is not True and prune is not False and prune != "all":
        raise InvalidInputError(f"prune: expected True, False or 'all', found {prune!r}")
    if not isinstance(given, Prepared):
        given = prepare(
            given, exclude=exclude, path_column=path_column, label_column=label_column
        )
    found, tables, remote, archives = given
    exclusion = Exclusion(exclude)
    total = IngestReport(warnings=found.warnings)
    total.record(found.failed)
    sidecar = _Sidecar(metadata, labels)
    several = len(found.folders) + len(archives) > 1
    places = [*found.folders, *(archive.path for archive in archives)]
    prefixes = _prefixes(gallery, places, prefix, several=several)

    def one(
        folder: Path | None, start: str, make: Callable[[Any, Any], IngestReport]
    ) -> None:
        facts, tags = sidecar.of(folder, start)
        try:
            report = make(facts, tags)
        except IngestInterrupted as interrupt:
            _merge(total, interrupt.report)
            raise IngestInterrupted(total) from None
        sidecar.keep(report)
        _merge(total, report)

    def contents_of(contents: _Contents, facts: Any, tags: Any) -> IngestReport:
        return _ingest(gallery, pipeline, contents, tags, facts, prune=prune, **options)

    for folder in found.folders:
        start = prefixes[str(folder)]
        one(
            folder,
            start,
            lambda facts, tags, folder=folder, start=start: ingest_folder(  # type: ignore[misc]
                gallery,
                pipeline,
                folder,
                labels=tags,
                metadata=facts,
                prefix=start,
                prune=prune,
                exclude=exclude,
                **options,
            ),
        )
    for archive in archives:
        start = prefixes[str(archive.path)]
        contents = _of_archive(archive, start, exclusion, total)
        one(archive.path, start, lambda f, t, contents=contents: contents_of(contents, f, t))  # type: ignore[misc]
    for remote_folder in remote:
        start = f"{remote_folder.root}/" if prefix is None else prefix
        contents = _of_remote(remote_folder, prefix, exclusion)
        one(
            Path(),
            start,
            lambda f, t, contents=contents: contents_of(contents, f, t),  # type: ignore[misc]
        )
    for table, rows in tables:
        contents = _of_table(table, rows, prefix or "", exclusion)
        one(None, prefix or "", lambda f, t, contents=contents: contents_of(contents, f, t))  # type: ignore[misc]
    if found.files:
        contents = _of_files(found.files, prefix or "", exclusion)
        one(None, prefix or "", lambda f, t: contents_of(contents, f, t))
    sidecar.finish(total)
    return total


def prepare(
    given: Any,
    *,
    exclude: str | Sequence[str] = (),
    path_column: str | None = None,
    label_column: str | None = None,
) -> Prepared:
    """Read what sources contain, so that mistakes show before a gallery is made or changed.

    Parameters and errors are those of `imgret.Retriever.add_from`.
    """
    sources, single = _listed(given)
    found = _sorted(sources, Exclusion(exclude), single=single)
    if (path_column or label_column) and not found.tables:
        name = "path_column" if path_column else "label_column"
        raise InvalidInputError(
            f"{name} (--{name.replace('_', '-')}): expected a table, such as photos.csv, among the "
            f"sources, found none"
        )
    tables = [
        (table, read_table(table, path_column=path_column, label_column=label_column))
        for table in found.tables
    ]
    remote = [find(url, is_image=_is_image) for url in found.remote]
    archives: list[Archive] = []
    for path in found.archives:
        try:
            archives.append(opened(path))
        except ImageError as error:
            if single:
                raise
            found.failed.append(Line("failed", path.name, str(path), error.reason))
    return Prepared(found, tables, remote, archives)


def _listed(given: Any) -> tuple[list[Any], bool]:
    """Return the sources as a list, and whether there is only one."""
    if isinstance(given, (str, os.PathLike)) or is_frame(given):
        return [given], True
    if isinstance(given, (bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidInputError(
            f"sources: expected folders, archives, image files, addresses or tables, found "
            f"{type(given).__name__}; add() takes images in memory"
        )
    found = list(given)
    for one in found:
        if not isinstance(one, (str, os.PathLike)) and not is_frame(one):
            raise InvalidInputError(
                f"sources: expected paths, addresses or data frames, found {type(one).__name__}; "
                f"add() takes images in memory"
            )
    return found, len(found) == 1


def _is_image(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  # names of many files
    return suffix in SUFFIXES or (suffix in RAW_SUFFIXES and reads_raw())


def _sorted(sources: Sequence[Any], exclusion: Exclusion, *, single: bool) -> _Given:
    """Sort sources by their kinds, each once; what is missing is recorded as failed.

    Raises
    ------
    ImageNotFoundError
        The only source does not exist.
    InvalidInputError
        A file is of a kind that is none of these.
    """
    found = _Given([], [], [], [], [], [], [])
    seen: set[str] = set()
    for source in sources:
        if is_frame(source):
            found.tables.append(source)
            continue
        place = place_of(source)
        known = str(place) if isinstance(place, Url) else os.path.realpath(str(place))
        if known in seen:
            found.warnings.append(f"{source}: named more than once, and read once")
            continue
        seen.add(known)
        if isinstance(place, Url):
            _check_remote(place)
            kept: list[Any] = found.remote
        elif place is not None and place.is_dir():
            kept = found.folders
        elif is_archive(source) and _is_file(place):
            kept = found.archives
        elif is_table(source) and _is_file(place):
            kept = found.tables
        elif os.fspath(source).lower().endswith(_LISTS):
            raise InvalidInputError(
                f"{source}: expected a folder, an image, an archive or a table, found a text file; "
                f"a list of paths goes to standard input: imgret index - < {source}"
            )
        elif single and not _exists(place):
            raise ImageNotFoundError(
                "expected a folder, an image, an archive or a table, found nothing",
                place,
            )
        else:
            kept = found.files
        is_text = kept is found.remote or kept is found.files
        kept.append(str(source) if is_text else Path(source))
    _drop_nested(found, exclusion)
    return found


def _is_file(place: Place | None) -> bool:
    return isinstance(place, Path) and place.is_file()


def _exists(place: Any) -> bool:
    try:
        state_of(place)
    except (ImageError, OSError, ValueError):
        return False
    return True


def _check_remote(url: Url) -> None:
    if is_archive(url.partition("?")[0]) or is_table(url.partition("?")[0]):
        raise InvalidInputError(
            f"{url}: expected the address of an image or of a folder, found that of an archive or "
            f"a table; download it and index it here"
        )


def _drop_nested(found: _Given, exclusion: Exclusion) -> None:
    """Leave out folders that are read as part of another one."""
    real = {str(folder): os.path.realpath(folder) for folder in found.folders}
    kept = []
    for folder in found.folders:
        inner = real[str(folder)]
        outer = next(
            (
                other
                for other in found.folders
                if real[str(other)] != inner and is_below(inner, real[str(other)])
            ),
            None,
        )
        if outer is not None:
            name = os.path.relpath(inner, real[str(outer)]).replace(os.sep, "/")
            hidden = any(part.startswith(".") for part in name.split("/"))
            if not hidden and exclusion.place(f"{name}/x") is None:
                found.warnings.append(f"{folder}: read as part of {outer}, which contains it")
                continue
        kept.append(folder)
    found.folders[:] = kept


def _prefixes(
    gallery: Gallery, places: Sequence[Path], prefix: str | None, *, several: bool
) -> dict[str, str]:
    """Return the prefix of the keys of each folder and archive.

    A folder or archive of which the gallery has items keeps the prefix that they have. Otherwise a
    single folder has none; several, and archives, have their name, preceded by the names of the
    folders above it where that is needed to tell them apart.
    """
    roots = {str(place): os.path.realpath(place) for place in places}
    held: dict[str, Counter[str]] = {root: Counter() for root in roots.values()}
    others: Counter[str] = Counter()  # first parts of keys of other places
    if prefix is None and places:
        for key, path in gallery.files():
            inside = False
            if path is not None:
                for root in held:
                    if path.startswith(root + os.sep):
                        name = path[len(root) + 1 :].replace(os.sep, "/")
                        if key.endswith(name):
                            held[root][key[: len(key) - len(name)]] += 1
                            inside = True
            if not inside:
                for end, letter in enumerate(key, 1):
                    if letter == "/":
                        others[key[:end]] += 1
    chosen: dict[str, str] = {}
    used = set(others)
    for place, root in roots.items():
        if held[root]:
            chosen[place] = held[root].most_common(1)[0][0]
            used.add(chosen[place])
    for place, root in roots.items():
        if place in chosen:
            continue
        if not several and not is_archive(place):
            chosen[place] = prefix or ""
            continue
        parts = [part for part in Path(root).parts if part.strip("/\\")] or ["root"]
        names = [f"{prefix or ''}{'/'.join(parts[-n:])}/" for n in range(1, len(parts) + 1)]
        chosen[place] = next((name for name in names if name not in used), names[-1])
        used.add(chosen[place])
    return chosen


class _Sidecar:
    """The metadata of all sources together: a row that any of them has is matched."""

    def __init__(self, metadata: Any, labels: Any) -> None:
        self._metadata, self._labels = metadata, labels
        self._rows: list[str] = []
        self._names: list[str] = []
        self._unmatched: set[int] | None = None

    def of(self, folder: Path | None, prefix: str) -> tuple[Any, Any]:
        """Return metadata and labels for the images below a folder, by key."""
        given = self._metadata
        if isinstance(given, (str, os.PathLike)):
            rows = read_sidecar(Path(given), Path.cwd() if folder is None else folder, prefix)
            self._rows = list(rows.facts)
            return rows.facts, rows.labels if self._labels is None else self._labels
        self._rows = list(given) if isinstance(given, Mapping) else []
        return given, self._labels

    def keep(self, report: IngestReport) -> None:
        """Take over which rows a source did not match."""
        self._names = self._names or self._rows
        missing = set(report.unmatched)
        unmatched = {at for at, key in enumerate(self._rows) if str(key) in missing}
        self._unmatched = unmatched if self._unmatched is None else self._unmatched & unmatched
        report.unmatched = []

    def finish(self, report: IngestReport) -> None:
        """Report the rows that no source matched."""
        report.unmatched = [str(self._names[at]) for at in sorted(self._unmatched or ())]


def _of_archive(
    archive: Archive, prefix: str, exclusion: Exclusion, total: IngestReport
) -> _Contents:
    root = os.path.realpath(archive.path)
    found = _Contents([], [], Counter(), [], root)
    nested = 0
    for name, entry in archive.entries.items():
        if _is_passed_over(name, exclusion, found):
            continue
        if not _is_image(name):
            nested += is_archive(name)
            found.ignored[_suffix(name)] += 1
            continue
        path = Path(root, name)
        if entry.trouble:
            found.failed.append(Line("failed", prefix + name, str(path), entry.trouble))
            continue
        folder = name.rpartition("/")[0].rpartition("/")[2]
        state = State(entry.size, archive.mtime_ns)
        found.candidates.append(
            _Candidate(prefix + name, str(path), path, folder, state=state)
        )
    found.candidates.sort(key=lambda one: one.key.split("/"))
    if nested:
        archives = "archive" if nested == 1 else "archives"
        total.warnings.append(
            f"{archive.path}: {nested} {archives} inside it not read; extract it and index the "
            f"folder and the {archives}"
        )
    if archive.trouble:  # what is not in the directory may exist
        found.failed.append(Line("failed", prefix, str(archive.path), archive.trouble))
        found.root = None
    found.present = frozenset(archive.entries)
    return found


def _of_remote(remote: RemoteFolder, prefix: str | None, exclusion: Exclusion) -> _Contents:
    found = _Contents([], [], Counter(), [])
    for file in remote.files:
        name = file.name
        if not remote.single and _is_passed_over(name, exclusion, found):
            continue
        if not remote.single and not _is_image(name):
            found.ignored[_suffix(name)] += 1
            continue
        state = None if file.size is None else State(file.size, file.mtime_ns)
        folder = name.rpartition("/")[0].rpartition("/")[2]
        key = file.url if prefix is None else prefix + name
        found.candidates.append(_Candidate(key, file.url, Url(file.url), folder, state=state))
    if not remote.single:
        found.root = remote.root
        found.present = frozenset(file.url.removeprefix(f"{remote.root}/") for file in remote.files)
    return found


def _of_files(files: Sequence[str], prefix: str, exclusion: Exclusion) -> _Contents:
    found = _Contents([], [], Counter(), [])
    for given in files:
        name = given.replace(os.sep, "/").removeprefix("./")
        if readable(name) != name:
            line = Line("failed", readable(name), readable(given), "its name is not UTF-8; rename it")
            found.failed.append(line)
            continue
        if exclusion.place(name.lstrip("/")) is not None:
            found.excluded.append(name)
            continue
        path = Path(given).absolute()
        found.candidates.append(_Candidate(prefix + name, path, path, path.parent.name))
    return found


def _of_table(table: Any, rows: Sequence[Row], prefix: str, exclusion: Exclusion) -> _Contents:
    name = "table" if is_frame(table) else Path(table).name
    base = Path() if is_frame(table) else Path(table).parent
    found = _Contents([], [], Counter(), [])
    lines: dict[str, int] = {}
    for row in rows:
        where = f"{name}, row {row.line}"
        key = row.key or prefix + (row.name or f"{name}/{row.line:06d}").removeprefix("./")
        if not row.image:
            found.failed.append(Line("failed", key, where, "the row names no image"))
            continue
        if key in lines:
            reason = f"row {lines[key]} has the same image; a column 'key' would tell them apart"
            found.failed.append(Line("failed", key, where, reason))
            continue
        lines[key] = row.line
        if isinstance(row.image, bytes):
            one = _Candidate(key, row.image, None, "", row.label, row.metadata)
        elif is_url(row.image):
            place = place_of(row.image)
            folder = place.parent.name if place is not None else ""
            one = _Candidate(key, row.image, place, folder, row.label, row.metadata)
        else:
            if exclusion.place(row.image.replace(os.sep, "/").lstrip("/")) is not None:
                found.excluded.append(row.image)
                continue
            path = (base / row.image).absolute()
            if not _exists(path) and _exists(Path(row.image).absolute()):
                path = Path(row.image).absolute()
            one = _Candidate(key, path, path, path.parent.name, row.label, row.metadata)
        found.candidates.append(one)
    return found


def _is_passed_over(name: str, exclusion: Exclusion, found: _Contents) -> bool:
    """Whether a name is hidden or excluded; the latter is recorded."""
    if any(part.startswith(".") for part in name.split("/")):
        return True
    place = exclusion.place(name)
    if place is not None and place not in found.excluded:
        found.excluded.append(place)
    return place is not None


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # the same


def _ingest(
    gallery: Gallery,
    pipeline: Pipeline,
    contents: _Contents,
    labels: Any,
    metadata: Any,
    **options: Any,
) -> IngestReport:
    """Compare the images of a source with the gallery, and ingest them."""
    found = _compared(gallery, contents, labels)
    described = describe(found.sources, metadata)
    own = {source.key: source.metadata for source in found.sources}
    sources = [
        replace(source, metadata={**own[source.key], **source.metadata})
        for source in described.sources
    ]
    report = ingest(gallery, pipeline, sources, found=found, **options)
    report.ignored, report.ignored_suffixes = sum(found.ignored.values()), found.ignored
    report.excluded = found.excluded
    report.unmatched, report.undescribed = described.unmatched, described.undescribed
    report.record(found.failed)
    note_raw(report)
    return report


def _compared(gallery: Gallery, contents: _Contents, labels: Any) -> Found:
    wanted = {str(one.path) for one in contents.candidates if one.path is not None}
    for one in contents.candidates:  # adding a folder resolves links in its path
        if isinstance(one.path, Path):
            wanted.add(_real(one.path))
    excluded = Counter(dict.fromkeys(contents.excluded, 0))
    held: dict[str, str] = {}  # path -> key
    lost: dict[str, str] = {}
    for key, path in gallery.files():
        if path is None:
            continue
        if path in wanted:
            held[path] = key
        elif (name := _below(path, contents.root)) is not None and name not in contents.present:
            lost[key] = name
        elif name is not None:
            for place in contents.excluded:
                if name == place or name.startswith(f"{place}/"):
                    excluded[place] += 1
    keys = []
    for one in contents.candidates:
        path = str(one.path)
        own = held.get(path) or (held.get(_real(one.path)) if isinstance(one.path, Path) else None)
        keys.append(own or one.key)
    known = {key: Known(item) for key, item in gallery.match(keys).items()}
    label_of = _label_of(labels, keys)
    failed = list(contents.failed)
    sources: list[Source] = []
    seen: dict[str, str] = {}
    for key, one in zip(keys, contents.candidates, strict=True):
        if key in seen:
            if seen[key] != str(one.path):
                reason = f"the key {key!r} belongs to {seen[key]}; give them different keys"
                failed.append(Line("failed", key, str(one.path), reason))
            continue
        seen[key] = str(one.path)
        before = known.get(key)
        if before is not None:
            rival = _rival(before.item, one.path)
            if rival is not None and before.item.sha256 is None:
                failed.append(Line("failed", key, str(one.path), refusal(key, rival)))
                continue
            before = replace(before, rival=rival)
            key = before.item.key
        label = one.label if one.label is not None else label_or_none(label_of(key, one))
        sources.append(Source(key, one.image, one.path, label, one.metadata, before, one.state))
    check_sources(sources)
    return Found(
        sources,
        failed,
        gallery.find(list(lost)),
        dict(sorted(contents.ignored.items(), key=lambda kind: (-kind[1], kind))),
        lost,
        {},
        dict(excluded),
        [],
        contents.root or "",
    )


def _real(path: Path) -> str:
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118  # text, as the catalog has it


def _below(path: str, root: str | None) -> str | None:
    if root is None or not path.startswith(root) or path[len(root) : len(root) + 1] not in "/\\":
        return None
    return path[len(root) + 1 :].replace(os.sep, "/") or None


def _rival(item: Item, path: Place | None) -> str | None:
    """Return the other file a key belongs to, if that file still exists."""
    if item.path is None:
        return None if path is None else "an item that has no file"
    if path is None or item.path == str(path):
        return None if path is not None else item.path
    if is_url(item.path):
        return item.path
    try:
        if isinstance(path, Path) and path.is_file() and path.samefile(item.path):
            return None
        state_of(item.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ImageError, OSError):
        return item.path
    return item.path


def _label_of(labels: Any, keys: Sequence[str]) -> Callable[[str, _Candidate], str | None]:
    if labels == "parent":
        return lambda key, one: one.folder or None  # noqa: ARG005  # one signature for all
    by_path = labeller(labels, Path(), keys)
    return lambda key, one: by_path(key, one.path)  # type: ignore[arg-type]  # a Path or a Url


def _merge(total: IngestReport, report: IngestReport) -> None:
    """Add one report to another, field by field."""
    for each in fields(IngestReport):
        mine, other = getattr(total, each.name), getattr(report, each.name)
        if isinstance(mine, dict):
            for name, value in other.items():
                mine[name] = mine.get(name, 0) + value
        else:
            setattr(total, each.name, mine + other)
