"""Downloads that go on where they were broken off, and are checked when they are complete."""

from __future__ import annotations

import errno
import hashlib
import http
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from imgret.errors import DatasetError
from imgret.ingest.progress import Progress, progress_bar
from imgret.version import __version__

__all__ = ["check_md5", "fetch"]

_TRIES = 5
_PAUSE = 1.0  # seconds before the second try, doubled before each further one
_TIMEOUT = 30.0
_BLOCK = 2**20
_BROKEN = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


def fetch(url: str, path: Path, *, md5: str, progress: Progress = None) -> None:
    """Download a file.

    What has arrived is in a file with the suffix ``.part`` beside it, and a later call goes on from
    there. The file has its name only once its checksum is right.

    Parameters
    ----------
    url : str
    path : Path
        Where the file goes.
    md5 : str
        MD5 of the file, in hexadecimal digits, as its publisher gives it.
    progress : bool, callable or None
        As for `imgret.Retriever.add_folder`, in megabytes.

    Raises
    ------
    DatasetError
        The server cannot be reached or has no such file, the connection broke several times, the
        checksum is wrong, or the file cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists() and part.stat().st_size > 0
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    while True:
        _fetch_part(url, part, progress)
        try:
            found, size = _md5(part), part.stat().st_size
            if found == md5:
                part.replace(path)
                return
            part.unlink()
        except OSError as error:
            raise _unwritable(path, error) from error
        if not resumed:
            raise DatasetError(
                f"{url}: expected a file of MD5 {md5}, found {found} ({size:,} bytes), which was "
                f"deleted; try again, and if that does not help, check whether a proxy answers "
                f"in place of the server, or download {path.name} elsewhere"
            )
        resumed = False  # what an earlier call left was of a different file: once from the start


def check_md5(path: Path, md5: str) -> None:
    """Check a file that is there already.

    Raises
    ------
    DatasetError
        The file cannot be read, or is not the published one.
    """
    try:
        found = _md5(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    if found != md5:
        raise DatasetError(
            f"{path}: expected the published file, of MD5 {md5}, found {found}; delete it and "
            f"call again with download=True"
        )


def _fetch_part(url: str, part: Path, progress: Progress) -> None:
    """Go on with a download until it is complete; several tries."""
    for left in reversed(range(_TRIES)):
        try:
            _go_on(url, part, progress)
        except DatasetError:
            raise
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code != http.HTTPStatus.TOO_MANY_REQUESTS:
                raise DatasetError(
                    f"{url}: expected the file, found HTTP status {error.code} ({error.reason}); "
                    f"download {part.stem} elsewhere and put it into {part.parent}"
                ) from error
            reason: Exception = error
        except _BROKEN as error:
            reason = error
        else:
            return
        if not left:
            have = part.stat().st_size if part.exists() else 0
            raise DatasetError(
                f"{url}: cannot be downloaded ({_text(reason)}; {_TRIES} tries); the same call "
                f"goes on after the {have:,} bytes that have arrived"
            ) from reason
        time.sleep(_PAUSE * 2 ** (_TRIES - 1 - left))


def _go_on(url: str, part: Path, progress: Progress) -> None:
    """Ask for what is missing of a file, and append it."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"imgret/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # a constant of ours
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310  # the same
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing; the checksum tells whether that is so
        raise
    with answer:
        range_ = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT or not range_ or int(range_[1]) != have:
            have = 0  # a server that sends the whole file
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        if length is not None:
            _check_space(part, int(length))
        try:
            with (
                part.open("ab" if have else "wb") as file,
                progress_bar(
                    progress,
                    total=(total or 0) // _BLOCK,
                    unit="MB",
                    desc=part.stem,
                    initial=have // _BLOCK,
                ) as shown,
            ):
                _copy(answer, file, have, total, shown)
        except _BROKEN:
            raise
        except OSError as error:
            raise _unwritable(part, error) from error


def _copy(answer: Any, file: BinaryIO, have: int, total: int | None, shown: Any) -> None:
    """Copy what comes; an end before the end is a broken connection."""
    while block := _read(answer):
        file.write(block)
        before, have = have // _BLOCK, have + len(block)
        shown.update(have // _BLOCK - before)
    file.flush()
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def _read(answer: Any) -> bytes:
    """Read a block; no error of the network is to look like one of the disk."""
    try:
        return bytes(answer.read(_BLOCK))
    except OSError as error:
        raise ConnectionError(str(error)) from error


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise DatasetError(
            f"{part.parent}: expected room for {needed:,} bytes of {part.stem}, found {free:,}; "
            f"make room, or give a different folder"
        )


def _unwritable(path: Path, error: OSError) -> DatasetError:
    if error.errno == errno.ENOSPC:
        return DatasetError(
            f"{path}: the disk is full; make room and call again, which goes on from here"
        )
    return DatasetError(
        f"{path}: cannot be written ({error.strerror or error}); give a folder that can be"
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _text(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return " ".join(str(reason or error).split()) or type(error).__name__
