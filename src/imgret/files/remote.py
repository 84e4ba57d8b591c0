"""Files at addresses (``s3://``, ``https://``, ``gs://``...), through fsspec: an extra.

fsspec finds credentials where each service keeps them, such as ``~/.aws`` and the variables
``AWS_...``; options of a service, such as an endpoint, stand in fsspec's configuration.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from imgret.errors import ImageNotFoundError, InvalidInputError, MissingExtraError

__all__ = ["RemoteFile", "RemoteFolder", "find", "read", "state"]

_T = TypeVar("_T")
# A service that does not answer: nobody waits for longer. A listing of millions may take a while.
_FIRST_SECONDS, _READ_SECONDS, _LIST_SECONDS = 40.0, 120.0, 3600.0
# Names under which services give the time of the last change.
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "updated", "Last-Modified")
_GLOB = frozenset("*?[")


class RemoteFile(NamedTuple):
    """A file of a remote folder.

    Attributes
    ----------
    url : str
    name : str
        Path relative to the folder, with forward slashes.
    size, mtime_ns : int or None
        Size in bytes and time of the last change, None where the service does not say.
    """

    url: str
    name: str
    size: int | None
    mtime_ns: int | None


class RemoteFolder(NamedTuple):
    """What was found at an address.

    Attributes
    ----------
    root : str
        Address of the folder, without a slash at the end; of a single file, that of its folder.
    files : list of RemoteFile
    single : bool
        Whether the address is that of one file.
    """

    root: str
    files: list[RemoteFile]
    single: bool


def read(url: str) -> bytes:
    """Return the contents of an address.

    Raises
    ------
    ImageNotFoundError
        There is nothing, or it cannot be read: the message has the reason of the service.
    MissingExtraError
        fsspec, or what it needs for this kind of address, is not installed.
    """
    system, path = _system(url)
    data: bytes = _answer(url, lambda: system.cat_file(path), _READ_SECONDS)
    return data


def state(url: str) -> tuple[int | None, int | None]:
    """Return size and time of an address; errors as for `read`."""
    system, path = _system(url)
    info = _answer(url, lambda: system.info(path), _FIRST_SECONDS)
    return info.get("size"), _time(info)


def find(url: str, *, is_image: Callable[[str], bool]) -> RemoteFolder:
    """List the files at an address: of a folder, of a pattern (``*``, ``**``), or the file itself.

    Parameters
    ----------
    url : str
    is_image : callable
        Function that tells by its name whether a file is an image. An address with such a name
        is taken as that of a file, and the service is not asked.

    Raises
    ------
    ImageNotFoundError
        There is nothing at the address, or the service cannot be reached or refuses.
    InvalidInputError
        The address chains several kinds, as in ``zip://a.jpg::s3://bucket/a.zip``.
    MissingExtraError
        As for `read`.
    """
    system, path = _system(url)
    system.invalidate_cache()  # of listings, which fsspec keeps as long as the process runs
    is_web = url.lower().startswith("http")
    # The address of a page may have a question mark for other reasons.
    pattern = _GLOB - {"?"} if is_web else _GLOB
    bare = url.rstrip("/")
    if any(letter in url for letter in pattern):
        fixed = next(i for i, letter in enumerate(url) if letter in pattern)
        root = url[:fixed].rpartition("/")[0]
        found = _answer(url, lambda: system.glob(path, detail=True), _LIST_SECONDS)
        files = _files(found, root, system, is_web=is_web)
        if not files:
            raise ImageNotFoundError("expected files that match the pattern, found none", url)
        return RemoteFolder(root, files, single=False)
    parent, _, name = bare.rpartition("/")
    if is_image(bare.partition("?")[0]) and not url.endswith("/"):
        return RemoteFolder(parent, [RemoteFile(url, name, None, None)], single=True)
    # The first answer shows soon whether there is anybody.
    file = _answer(url, lambda: _file_at(system, path, is_page=url.endswith("/")), _FIRST_SECONDS)
    if file is not None:
        only = RemoteFile(url, name, file.get("size"), _time(file))
        return RemoteFolder(parent, [only], single=True)
    found = _answer(url, lambda: system.find(path, detail=True), _LIST_SECONDS)
    return RemoteFolder(bare, _files(found, bare, system, is_web=is_web), single=False)


def _file_at(system: Any, path: str, *, is_page: bool) -> Mapping[str, Any] | None:
    """Return what is known of a file; None for a folder, also for a page that lists one."""
    if system.isfile(path) and not is_page:
        info: Mapping[str, Any] = system.info(path)
        if info.get("mimetype") != "text/html":
            return info
    system.ls(path, detail=False)  # isdir() of fsspec answers False where access is denied
    return None


def _files(
    found: Mapping[str, Mapping[str, Any]], root: str, system: Any, *, is_web: bool
) -> list[RemoteFile]:
    below = f"{system._strip_protocol(root)}/"  # noqa: SLF001  # which all file systems have
    files = []
    for path, info in found.items():
        if info.get("type") == "directory" or not path.startswith(below):
            continue
        name = path.removeprefix(below)
        if not is_web:
            files.append(RemoteFile(f"{root}/{name}", name, info.get("size"), _time(info)))
        elif "?" not in name:  # links that sort a listing
            files.append(RemoteFile(path, unquote(name), info.get("size"), _time(info)))
    return sorted(files, key=lambda file: file.name.split("/"))


def _time(info: Mapping[str, Any]) -> int | None:
    for name in _TIMES:
        value = info.get(name)
        if isinstance(value, (int, float)):
            return int(value * 1e9)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                from email.utils import parsedate_to_datetime  # noqa: PLC0415  # rare, and 3 ms

                try:
                    value = parsedate_to_datetime(str(value))
                except ValueError:
                    continue
        if isinstance(value, datetime):
            value = value if value.tzinfo else value.replace(tzinfo=UTC)
            return int(value.timestamp() * 1e6) * 1000
    return None


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    if "::" in url:
        raise InvalidInputError(
            f"{url}: expected the address of a file or a folder, found several in a chain; "
            f"download the archive and index it here"
        )
    try:
        import fsspec  # noqa: PLC0415  # an extra
    except ImportError:
        raise MissingExtraError.of(f"{url}: reading from an address", extra="remote") from None
    scheme = url.partition("://")[0].lower()
    try:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    except ImportError as error:
        if scheme in {"http", "https", "s3"}:
            raise MissingExtraError.of(
                f"{url}: reading from {scheme}://", extra="remote"
            ) from error
        raise MissingExtraError(f"{url}: {error}") from error
    except ValueError as error:
        raise InvalidInputError(
            f"{url}: expected an address of a kind that fsspec knows, such as s3://, https:// or "
            f"gs://: {error}"
        ) from error


def _answer(url: str, call: Callable[[], _T], seconds: float) -> _T:
    """Return what a service answers, in bounded time."""
    answers: list[_T] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(call())
        except BaseException as error:  # noqa: BLE001  # raised in the calling thread
            errors.append(error)

    # A thread that hangs does not keep the process from ending.
    thread = threading.Thread(target=ask, name="imgret-remote", daemon=True)
    thread.start()
    thread.join(seconds)
    if answers:
        return answers[0]
    if not errors:
        raise ImageNotFoundError(
            f"there was no answer for {seconds:.0f} seconds; is the network up, and the address "
            f"right?",
            url,
        )
    error = errors[0]
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None:
        # fsspec calls whatever goes wrong in asking a web server a missing file.
        error = error if getattr(cause, "status", 404) == 404 and not _is_down(cause) else cause
    if isinstance(error, FileNotFoundError):
        raise ImageNotFoundError("there is no such file or folder", url) from error
    name = type(error).__name__
    text = " ".join(str(error).split()) or name
    if isinstance(error, PermissionError) or "Credentials" in name or "credentials" in text:
        raise ImageNotFoundError(
            f"the service refuses access ({text}); give fsspec credentials where the service "
            f"looks for them: environment variables, ~/.aws for s3://, or ~/.config/fsspec (with "
            f'{{"s3": {{"anon": true}}}} for a public bucket)',
            url,
        ) from error
    if isinstance(error, ImportError):
        raise MissingExtraError(f"{url}: {text}") from error
    raise ImageNotFoundError(f"it cannot be read: {name}: {text}", url) from error


def _is_down(error: BaseException) -> bool:
    """Whether an error is one of the connection, not of the file."""
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
