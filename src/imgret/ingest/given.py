"""Sources as they are given, sorted by their kinds and looked into before work is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from imgret.errors import ImageError, ImageNotFoundError, InvalidInputError
from imgret.files import Place, Url, is_archive, place_of
from imgret.files.archives import Archive, opened
from imgret.files.remote import RemoteFolder, find
from imgret.ingest.contents import exists, is_image
from imgret.ingest.exclude import Exclusion
from imgret.ingest.folder import is_below
from imgret.ingest.report import Line
from imgret.ingest.table import TableRow, is_table, read_table
from imgret.support.given import is_frame

__all__ = ["Prepared", "SourcesByKind", "prepare"]

_LISTS = (".txt", ".lst", ".list")


@dataclass(slots=True)
class SourcesByKind:
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

    given: SourcesByKind
    tables: list[tuple[Any, list[TableRow]]]
    remote: list[RemoteFolder]
    archives: list[Archive]


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
    remote = [find(url, is_image=is_image) for url in found.remote]
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


def _sorted(sources: Sequence[Any], exclusion: Exclusion, *, single: bool) -> SourcesByKind:
    """Sort sources by their kinds, each once; those of no kind are recorded as failed.

    Raises
    ------
    ImageNotFoundError
        The only source does not exist.
    InvalidInputError
        The only source is a text file; or an address is that of an archive or a table.
    """
    found = SourcesByKind([], [], [], [], [], [], [])
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
            found.failed.append(_refused_list(source, place, single=single))
            continue
        elif single and not exists(place):
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


def _refused_list(source: Any, place: Place | None, *, single: bool) -> Line:
    """Return the line for a text file among several sources, or raise if it is the only one."""
    reason = (
        f"expected a folder, an image, an archive or a table, found a text file; a list of paths "
        f"goes to standard input: imgret index - < {source}"
    )
    if single:
        raise InvalidInputError(f"{source}: {reason}")
    return Line("failed", str(source), str(place), reason)


def _is_file(place: Place | None) -> bool:
    return isinstance(place, Path) and place.is_file()


def _check_remote(url: Url) -> None:
    if is_archive(url.partition("?")[0]) or is_table(url.partition("?")[0]):
        raise InvalidInputError(
            f"{url}: expected the address of an image or of a folder, found that of an archive or "
            f"a table; download it and index it here"
        )


def _drop_nested(found: SourcesByKind, exclusion: Exclusion) -> None:
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
