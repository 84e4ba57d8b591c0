"""Moving files of duplicates away so that nothing is lost."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from imgret.abc import Gallery
from imgret.curation.duplicates import DuplicateGroup
from imgret.curation.files import FileState, best_of, problem_of, sized
from imgret.errors import InvalidInputError
from imgret.pages.result import Result
from imgret.pages.review import FORMAT
from imgret.support.json_text import loads
from imgret.support.terminal import plain
from imgret.types import Json

__all__ = ["Moved", "MovedFile", "RefusedFile", "move_extra", "move_listed"]

_TRIES = 10_000  # numbers that are tried for a name that is taken


@dataclass(frozen=True, slots=True)
class MovedFile:
    """A file that was moved.

    Attributes
    ----------
    key : str
        Key that its item had.
    path, now : str
        Where the file was, and where it is now.
    """

    key: str
    path: str
    now: str


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that stayed where it is.

    Attributes
    ----------
    key : str
    reason : str
    """

    key: str
    reason: str


@final
@dataclass(frozen=True, slots=True)
class Moved(Result):
    """What was moved, and what was not.

    Attributes
    ----------
    folder : str
    moved : tuple of MovedFile
    refused : tuple of RefusedFile
    note : str
        Advice about the folder; may be empty.
    """

    folder: str
    moved: tuple[MovedFile, ...]
    refused: tuple[RefusedFile, ...]
    note: str = ""

    def to_dict(self) -> Json:
        """Return everything as JSON values."""
        return {
            "folder": self.folder,
            "moved": [asdict(each) for each in self.moved],
            "refused": [asdict(each) for each in self.refused],
            "note": self.note,
        }

    def __str__(self) -> str:
        lines = [f"{each.path} -> {each.now}" for each in self.moved]
        lines += [f"not moved: {plain(each.key)}: {plain(each.reason)}" for each in self.refused]
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """Return how many files were moved and refused, and the advice."""
        n = len(self.moved)
        text = f"moved {n} {'file' if n == 1 else 'files'} to {self.folder}"
        if n:
            text += f" and removed {'it' if n == 1 else 'them'} from the gallery"
        if self.refused:
            text += f"; {len(self.refused)} not moved"
        return f"{text}\n{self.note}" if self.note else text


class _Plan(NamedTuple):
    """Files of one group to keep and to move."""

    keep: Sequence[FileState]
    move: Sequence[FileState]


def move_extra(gallery: Gallery, groups: Iterable[DuplicateGroup], folder: Path) -> Moved:
    """Move all files but the best of each group: see `Retriever.move_duplicates`."""
    plans = []
    for group in groups:
        items = gallery.get(list(group.keys))
        best = best_of([sized(item) for item in items])
        plans.append(
            _Plan(
                [FileState.of(items[best])],
                [FileState.of(item) for n, item in enumerate(items) if n != best],
            )
        )
    return _move(gallery, plans, folder)


def move_listed(gallery: Gallery, review: Path, folder: Path) -> Moved:
    """Move the files of a list that a review page has saved.

    Raises
    ------
    InvalidInputError
        The file is not such a list; nothing is moved.
    """
    return _move(gallery, _read_plans(review, gallery), folder)


# -- moving --------------------------------------------------------------------------------------


def _move(gallery: Gallery, plans: Sequence[_Plan], folder: Path) -> Moved:
    folder = folder.absolute()
    if any(plan.move for plan in plans):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(
                f"{folder}: expected a folder to move files to, found that it cannot be made: "
                f"{error.strerror}"
            ) from error
    moved: list[MovedFile] = []
    refused: list[RefusedFile] = []
    try:
        for plan in plans:
            lost = _lost(plan.keep)
            for file in plan.move:
                try:
                    reason = lost or _refusal(gallery, file, plan.keep, folder)
                    if not reason:
                        now = _move_file(Path(str(file.path)), folder)
                        moved.append(MovedFile(file.key, str(file.path), str(now)))
                except OSError as error:
                    reason = f"it cannot be moved: {error.strerror or error}"
                if reason:
                    refused.append(RefusedFile(file.key, reason))
    finally:  # an interrupt, too, leaves the gallery without what was moved
        gallery.remove([each.key for each in moved if each.key in gallery])
    return Moved(str(folder), tuple(moved), tuple(refused), _advice(moved, folder))


def _lost(keep: Sequence[FileState]) -> str:
    """Return why no file of a group may be moved: none of those to keep is as it was."""
    problems = [(file.key, problem_of(file)) for file in keep]
    if not problems or not all(problem for _, problem in problems):
        return ""
    key, problem = problems[0]
    return f"{key}, which was to be kept instead, may not be there: {problem}"


def _refusal(gallery: Gallery, file: FileState, keep: Sequence[FileState], folder: Path) -> str:
    """Return why a file may not be moved; empty if it may."""
    item = gallery.find([file.key]).get(file.key)
    if item is None:
        return "it is no longer in the gallery"
    if item.path != file.path:
        return f"the gallery has it at {item.path}, the review at {file.path}"
    indexed = FileState.of(item)
    problem = problem_of(file) if file == indexed else problem_of(file, "the review")
    if not problem and file != indexed:
        problem = "it was indexed again since the review"
    return problem or _bad_place(Path(str(file.path)), keep, folder)


def _bad_place(path: Path, keep: Sequence[FileState], folder: Path) -> str:
    """Return why a file may not be moved away from its place; empty if it may."""
    if path.is_symlink():
        return "it is a link to another file"
    real = path.resolve()
    if any(each.path is not None and Path(each.path).resolve() == real for each in keep):
        return "it is the same file as the one to keep"
    return "it is in that folder already" if real.parent == folder.resolve() else ""


def _move_file(path: Path, folder: Path) -> Path:
    """Move a file into a folder under a free name, and return its new path."""
    target = _reserved(path, folder)
    try:
        try:
            path.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copy2(path, target)  # to another disk
            path.unlink()
    except BaseException:
        if path.exists():  # what was reserved is empty, or half a copy
            target.unlink(missing_ok=True)
        raise
    return target


def _reserved(path: Path, folder: Path) -> Path:
    """Make an empty file under the name of another, or that name with a number, and return it."""
    for number in range(1, _TRIES):
        name = path.name if number == 1 else f"{path.stem}-{number}{path.suffix}"
        with suppress(FileExistsError):
            (folder / name).touch(exist_ok=False)
            return folder / name
    raise FileExistsError(errno.EEXIST, f"{_TRIES:,} files of that name are there already")


def _advice(moved: Sequence[MovedFile], folder: Path) -> str:
    """Return advice if the folder lies in one that was indexed: its files would be found there."""
    for file in moved:
        path = Path(file.path).as_posix()
        root = Path(path.removesuffix(file.key)) if path.endswith(f"/{file.key}") else None
        if root is not None and folder.is_relative_to(root):
            inside = folder.relative_to(root).as_posix()
            return (
                f"{folder} lies in {root}, which was indexed: index that with "
                f"--exclude '{inside}/**', or the files come back"
            )
    return ""


# -- the list of a review ------------------------------------------------------------------------


def _read_plans(review: Path, gallery: Gallery) -> list[_Plan]:
    try:
        content = loads(review.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{review}: expected a list that a review page has saved, found {error}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidInputError(
            f"{review}: expected a list that a review page has saved, found other JSON; save it "
            f"with the button of the page of `imgret duplicates --html`"
        )
    try:
        return [
            _Plan(*([_file(each, gallery) for each in group[part]] for part in ("keep", "move")))
            for group in content["groups"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{review}: expected groups of files to keep and to move, with key, path, size and "
            f"mtime_ns, found {type(error).__name__}: {error}; save the list again"
        ) from error


def _file(facts: Any, gallery: Gallery) -> FileState:
    key, path = facts["key"], facts["path"]
    if not isinstance(key, str) or not isinstance(path, str | None):
        raise TypeError(f"key {key!r} and path {path!r}")
    if path is None and (item := gallery.find([key]).get(key)) is not None:
        path = item.path  # a server does not send paths
    # As text, as JavaScript has no whole numbers of that length.
    size, time = (None if facts[n] is None else int(facts[n]) for n in ("size", "mtime_ns"))
    return FileState(key, path, size, time)
