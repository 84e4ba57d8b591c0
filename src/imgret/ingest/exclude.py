"""Files and folders that are passed over by their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from imgret.errors import InvalidInputError
from imgret.support.spelling import normal

__all__ = ["ALWAYS_EXCLUDED", "Exclusion"]

# What systems put beside images: thumbnails, deleted files, halves of Mac files. Names that begin
# with a dot (.thumbnails, .Trash-1000, ._photo.jpg) are hidden, and passed over as such.
ALWAYS_EXCLUDED = (
    *("@eaDir", "#recycle", "#snapshot"),  # Synology
    *("@Recycle", "@Recently-Snapshot", ".@__thumb"),  # QNAP
    *(".thumbnails", ".Trash*", "lost+found"),  # Linux
    *("__MACOSX", ".Trashes"),  # macOS
    *("$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "System Volume Information"),  # Windows
)


class Exclusion:
    """Whether a path below a folder is excluded.

    Parameters
    ----------
    patterns : str or iterable of str
        Beside `ALWAYS_EXCLUDED`. ``*``, ``?`` and ``[...]`` stand for letters of one name, in
        upper and lower case as written. A pattern without a slash is compared with every name
        on the way to a file, one with a slash with the path relative to the folder; there
        ``**`` stands for any number of folders. One that ends in a slash is for folders only.

    Raises
    ------
    InvalidInputError
        They are not such patterns.
    """

    def __init__(self, patterns: Any = ()) -> None:
        given = _checked(patterns)
        self._names = [p for p in (*ALWAYS_EXCLUDED, *given) if "/" not in p]
        self._folder_names = [p[:-1] for p in given if p.find("/") == len(p) - 1]
        self._paths = [p.strip("/").split("/") for p in given if "/" in p[:-1] and p[-1] != "/"]
        self._folder_paths = [
            p.strip("/").split("/") for p in given if "/" in p[:-1] and p[-1] == "/"
        ]

    def matches(self, path: str, *, folder: bool) -> bool:
        """Whether a path is excluded by itself, whatever holds for the folders it lies in.

        Parameters
        ----------
        path : str
            Relative, with forward slashes.
        folder : bool
            Whether it is a folder.
        """
        parts = normal(path).split("/")
        return (
            any(fnmatchcase(parts[-1], pattern) for pattern in self._names)
            or any(_fits(parts, pattern) for pattern in self._paths)
            or (folder and any(fnmatchcase(parts[-1], pattern) for pattern in self._folder_names))
            or (folder and any(_fits(parts, pattern) for pattern in self._folder_paths))
        )

    def place(self, path: str) -> str | None:
        """Return what is excluded of a file's path: itself, a folder above it, or None."""
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            above = "/".join(parts[:end])
            if self.matches(above, folder=end < len(parts)):
                return above
        return None


def _checked(patterns: Any) -> list[str]:
    given: Iterable[Any] = [patterns] if isinstance(patterns, str) else patterns
    try:
        found = list(given)
    except TypeError:
        found = [given]
    for pattern in found:
        if not isinstance(pattern, str) or not pattern.strip("/"):
            raise InvalidInputError(
                f"exclude: expected patterns of names such as 'raw' or '*.png', found {pattern!r}"
            )
    return [normal(pattern) for pattern in found]


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Compare a path with a pattern, name by name."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
