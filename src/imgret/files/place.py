"""The place of an image, given by a string, and its contents."""

from __future__ import annotations

import os
import re
import stat
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, final
from urllib.parse import unquote, urlsplit

from imgret.errors import (
    ImageCorruptError,
    ImageNotFoundError,
    ImageTooLargeError,
    InvalidInputError,
)
from imgret.files import archives, remote
from imgret.files.roots import check_below

__all__ = ["Place", "State", "Url", "is_url", "place_of", "read_bytes", "state_of"]

# One letter would be a drive of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# Limit for one file, as for a member of an archive: raw pixels of 100 megapixels in 16 bits, with
# alpha, take 800 MB.
_MOST_BYTES = 1 << 30
# For a path below an archive; Windows has only the first.
_GONE = (FileNotFoundError, NotADirectoryError)


@final
class Url(str):
    """The address of a file that is not on this machine, such as ``s3://bucket/a.jpg``."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Last part of the path, percent-encoding undone."""
        return self._parts[-1] if self._parts else ""

    @property
    def parent(self) -> Url:
        """The address without the last part of its path."""
        bare = self.partition("?")[0].partition("#")[0] if self.startswith("http") else str(self)
        return Url(bare.rstrip("/").rpartition("/")[0])

    @property
    def _parts(self) -> list[str]:
        if not self.startswith("http"):
            return [part for part in self.partition("://")[2].split("/") if part]
        parts = urlsplit(self)
        return [unquote(part) for part in (parts.netloc, *parts.path.split("/")) if part]


Place: TypeAlias = Path | Url
"""A file, which may be the member of an archive, or an address."""


class State(NamedTuple):
    """Size in bytes, and time of the last change in nanoseconds; None where unknown.

    The time of a member of an archive is that of the archive.
    """

    size: int | None
    mtime_ns: int | None


def is_url(given: object) -> bool:
    """Whether a string is an address such as ``s3://bucket/a.jpg``."""
    return isinstance(given, str) and _URL.match(given) is not None


def place_of(image: Any) -> Place | None:
    """Return the place of an image given by its path or address; None for other images.

    Paths are made absolute, and ``file://`` addresses are paths.

    Raises
    ------
    InvalidInputError
        The address contains a password.
    """
    if not isinstance(image, (str, os.PathLike)):
        return None
    if not isinstance(image, str) or not is_url(image):
        return Path(image).absolute()
    scheme, _, rest = image.partition("://")
    if scheme.lower() in {"file", "local"}:
        return Path(unquote(rest)).absolute()
    if "@" in (host := rest.partition("/")[0]) and ":" in host.rpartition("@")[0]:
        raise InvalidInputError(
            f"{scheme}://...@{host.rpartition('@')[2]}: expected an address without a password, as "
            f"a gallery stores addresses and pages show them; put the password into fsspec's "
            f"configuration (~/.config/fsspec), or into the variables that the service reads"
        )
    return Url(image)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the contents of an image file, of a member of an archive, or of an address.

    Raises
    ------
    ImageNotFoundError
        It does not exist, is a directory or cannot be read, or is outside of the folders of
        `imgret.images.only_below`.
    ImageCorruptError
        It is empty, or damaged in its archive.
    ImageTooLargeError
        It has more than 1 GiB, or is a member of an archive that unpacks to far more than a
        photograph.
    ImageUnsupportedError
        It is a member of an archive that is encrypted, or compressed in an unusual way.
    MissingExtraError
        It is an address, and the extra ``imgret[remote]`` is not installed.
    """
    place = place_of(path) if is_url(path) else Path(path)
    check_below(place or path)
    data = remote.read(place) if isinstance(place, Url) else _read_file(place or Path(path))
    if not data:
        raise ImageCorruptError("the file is empty (0 bytes)", place)
    return data


def state_of(path: str | os.PathLike[str]) -> State:
    """Return size and time of a file, a member of an archive or an address.

    Raises
    ------
    ImageError, OSError, ValueError
        It does not exist or cannot be examined.
    MissingExtraError
        As for `read_bytes`.
    """
    place = place_of(path) if is_url(path) else path
    check_below(place or path)
    if isinstance(place, Url):
        return State(*remote.state(place))
    path = place or path
    try:
        status = os.stat(path)  # noqa: PTH116  # text of any bytes
    except _GONE:
        if (inside := archives.split(os.fspath(path))) is None:
            raise
        return State(*archives.state(*inside))
    return State(status.st_size, status.st_mtime_ns)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_BYTES:
                return file.readall()
            return _read_stream(file, path, status.st_size)
    except ImageTooLargeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        inside = archives.split(str(path)) if isinstance(error, _GONE) else None
        if inside is not None:
            return archives.read(*inside)
        if isinstance(error, FileNotFoundError):
            raise ImageNotFoundError("there is no such file", path) from None
        if os.path.isdir(path):  # noqa: PTH112  # which raises nothing where it may not look
            raise ImageNotFoundError("expected an image file, found a directory", path) from None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageNotFoundError(f"the file cannot be read: {reason}", path) from error


def _read_stream(file: FileIO, path: Path, size: int) -> bytes:
    """Read a pipe or a device, which may never end; refuse a file that is too large."""
    data = bytearray()
    while len(data) + size <= _MOST_BYTES:
        part = file.read(1 << 20)
        if not part:
            return bytes(data)
        data += part
    raise ImageTooLargeError(
        f"expected an image file of at most {_MOST_BYTES >> 20:,} MB, found "
        f"{f'one of {size >> 20:,} MB' if size else 'one that goes on after that'}; make the image "
        f"smaller",
        path,
    )
