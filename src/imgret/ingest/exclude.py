"""Rules that exclude files and folders by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from imgret.errors import InvalidInputError
from imgret.support.spelling import normal

__all__ = ["ALWAYS_EXCLUDED", "Exclusion"]

# What systems put beside images: thumbnails, deleted files, halves of Mac files. Names that begin
# with a dot (.thumbnails, .Trash-1000, ._photo.jpg) are hidden, and passed over for that reason.
ALWAYS_EXCLUDED = (
    *("@eaDir", "#recycle", "#snapshot"),  # Synology
    *("@Recycle", "@Recently-Snapshot", ".@__thumb"),  # QNAP
    *(".thumbnails", ".Trash*", "lost+found"),  # Linux
    *("__MACOSX", ".Trashes"),  # macOS
    *("$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "System Volume Information"),  # Windows
)


class Exclusion:
    """Rules that exclude paths below a folder.

    Parameters
    ----------
    patterns : str or iterable of str
        Patterns in addition to `ALWAYS_EXCLUDED`. ``*``, ``?`` and ``[...]`` match within one
        name; case matters. A pattern without a slash is compared with the names of the file and
        of every folder above it. A pattern with a slash is compared with the path relative to
        the folder; there ``**`` matches any number of folders. A pattern that ends in a slash
        matches folders only.

    Raises
    ------
    InvalidInputError
        A pattern is not text, or is empty.
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
        """Whether a path itself is excluded, regardless of the folders above it.

        Parameters
        ----------
        path : str
            Path relative to the folder, with forward slashes.
        folder : bool
            Whether the path is a folder.
        """
        parts = normal(path).split("/")
        return (
            any(fnmatchcase(parts[-1], pattern) for pattern in self._names)
            or any(_fits(parts, pattern) for pattern in self._paths)
            or (folder and any(fnmatchcase(parts[-1], pattern) for pattern in self._folder_names))
            or (folder and any(_fits(parts, pattern) for pattern in self._folder_paths))
        )

    def place(self, path: str) -> str | None:
        """Return the excluded part of a file's path: the file, a folder above it, or None."""
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
