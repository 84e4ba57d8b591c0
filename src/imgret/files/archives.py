"""Archives of images: tar, also compressed, and zip. Members are read in place.

Nothing is unpacked to where an archive says: a member is read into memory, and a compressed tar,
which has no directory, is decompressed once into an anonymous temporary file.

Formats: PKWARE APPNOTE 6.3 (zip), POSIX.1-2001 (pax) and GNU tar.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple, final

from imgret.errors import (
    ImageCorruptError,
    ImageError,
    ImageNotFoundError,
    ImageTooLargeError,
    ImageUnsupportedError,
)
from imgret.support.locks import RLock, renew_in_child

__all__ = ["Archive", "is_archive", "opened", "read", "split", "state"]

_ZIP = re.compile(r"\.zip$", re.IGNORECASE)
_TAR = re.compile(r"\.(tar(\.(gz|bz2|xz))?|tgz|tbz2?|txz)$", re.IGNORECASE)
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")
# Images hardly shrink when they are compressed; what unpacks to more than 100 times its size is
# made to fill memory or disks. Small ones may: a mask of one colour is no attack.
_MOST_RATIO = 100
_MOST_BYTES = 1 << 30  # of one member
_SMALL_MEMBER, _SMALL_ARCHIVE = 1 << 26, 1 << 30
_CHUNK = 1 << 20
_OPEN = 4  # archives that are kept open
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


class Entry(NamedTuple):
    """A member of an archive: where it is, its size, and why it cannot be read or ''."""

    at: Any
    size: int
    trouble: str = ""


@dataclass(slots=True)
class Archive(ABC):
    """The directory of an archive.

    Attributes
    ----------
    path : Path
    mtime_ns : int
        Time of the last change of the archive.
    entries : dict of str to Entry
        Members by name, with forward slashes; folders are left out.
    trouble : str
        What is wrong with the archive as a whole, where some members can be read in spite of it.
    """

    path: Path
    mtime_ns: int
    entries: dict[str, Entry] = field(default_factory=dict)
    trouble: str = ""

    @abstractmethod
    def _read(self, entry: Entry) -> bytes: ...

    @abstractmethod
    def close(self) -> None:
        """Close the files."""

    def __del__(self) -> None:
        with suppress(OSError):  # of a descriptor that something else has closed
            self.close()

    @final
    def read(self, name: str) -> bytes:
        """Return the contents of a member.

        Raises
        ------
        ImageError
            There is no such member, or it cannot be read.
        """
        where = self.path / name
        entry = self.entries.get(name)
        if entry is None:
            raise ImageNotFoundError("the archive has no such member", where)
        if entry.trouble:
            kind = ImageTooLargeError if "unpacks" in entry.trouble else ImageUnsupportedError
            raise kind(entry.trouble, where)
        try:
            data = self._read(entry)
        except (NotImplementedError, RuntimeError) as error:
            raise ImageUnsupportedError(
                f"it is compressed in a way that cannot be read here ({error}); extract the "
                f"archive and index the folder",
                where,
            ) from error
        except (*_DAMAGE, OSError, ValueError) as error:
            raise ImageCorruptError(f"damaged in the archive: {error}", where) from error
        if len(data) != entry.size:
            raise ImageCorruptError(
                f"damaged in the archive: expected {entry.size:,} bytes, found {len(data):,}", where
            )
        return data

    def _take(self, name: str, entry: Entry) -> None:
        """Record a member under its name, if the name is one that can be used."""
        name = name.replace("\\", "/").removeprefix("./")
        parts = name.split("/")
        if _ABSOLUTE.match(name) or ".." in parts or "\0" in name:
            entry = entry._replace(trouble="its name leads out of the archive, and is not used")
        elif name in self.entries:
            entry = entry._replace(trouble="the archive has several members of this name")
        elif not entry.trouble and entry.size > _MOST_BYTES:
            entry = entry._replace(trouble=_too_large(entry.size))
        self.entries[name] = entry


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a path has the suffix of an archive that can be read."""
    name = os.fspath(path)
    return _ZIP.search(name) is not None or _TAR.search(name) is not None


def split(path: str) -> tuple[Path, str] | None:
    """Return the archive that a path leads into, and the name of the member; None otherwise."""
    parts = Path(path).parts
    for end in range(1, len(parts)):
        if is_archive(parts[end - 1]):
            archive = Path(*parts[:end])
            if archive.is_file():
                return archive, "/".join(parts[end:])
    return None


def read(path: Path, name: str) -> bytes:
    """Return the contents of a member; as `Archive.read`."""
    return opened(path).read(name)


def state(path: Path, name: str) -> tuple[int, int]:
    """Return the size of a member, and the time of the archive.

    Raises
    ------
    ImageError
        There is no such member, or the archive cannot be read.
    """
    archive = opened(path)
    if name not in archive.entries:
        raise ImageNotFoundError("the archive has no such member", path / name)
    return archive.entries[name].size, archive.mtime_ns


class _Kept:
    """The archives read last, which stay open: finding a member again takes no time."""

    lock = RLock()
    archives: ClassVar[OrderedDict[tuple[str, int, int], Archive]] = OrderedDict()

    @classmethod
    def renew(cls) -> None:
        cls.archives.clear()  # a child shares the position in a file with its parent


renew_in_child(_Kept)


def opened(path: Path) -> Archive:
    """Open an archive, or return it as it is open already.

    Raises
    ------
    ImageNotFoundError
        There is no such file, or it cannot be read.
    ImageCorruptError
        The file is not an archive of the kind that its name says, or is damaged.
    ImageTooLargeError
        The archive unpacks to far more than images would.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageNotFoundError(
            f"expected an archive, found none: {error.strerror}", path
        ) from error
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    with _Kept.lock:
        if key in _Kept.archives:
            _Kept.archives.move_to_end(key)
            return _Kept.archives[key]
        kind = _Zip if _ZIP.search(path.name) else _Tar
        try:
            found = kind.open(path, status)
        except ImageError:
            raise
        except PermissionError as error:
            raise ImageNotFoundError(
                f"the archive cannot be read: {error.strerror}", path
            ) from error
        except (*_DAMAGE, OSError, ValueError, NotImplementedError) as error:
            word = "zip" if kind is _Zip else "tar"
            raise ImageCorruptError(
                f"expected a {word} archive, found one that is damaged, cut short, or of another "
                f"kind: {error}",
                path,
            ) from error
        _Kept.archives[key] = found
        while len(_Kept.archives) > _OPEN:
            _Kept.archives.popitem(last=False)
        return found


@final
@dataclass(slots=True)
class _Zip(Archive):
    file: Any = None

    @classmethod
    def open(cls, path: Path, status: os.stat_result) -> _Zip:
        self = cls(path, status.st_mtime_ns)
        self.file = zipfile.ZipFile(path)
        total = 0
        for info in self.file.infolist():
            if info.is_dir():
                continue
            trouble = ""
            if info.flag_bits & 1:
                trouble = (
                    "it is encrypted; extract the archive with its password and index the folder"
                )
            elif info.file_size > max(_SMALL_MEMBER, _MOST_RATIO * info.compress_size):
                trouble = _too_large(info.file_size)
            elif (info.external_attr >> 16) & 0o170000 == 0o120000:
                trouble = "it is a link, which is not followed in an archive"
            self._take(info.filename, Entry(info, info.file_size, trouble))
            total += info.file_size
        _check_total(path, total, status.st_size)
        return self

    def _read(self, entry: Entry) -> bytes:
        with self.file.open(entry.at) as member:  # zipfile locks what members share
            # At most what the directory declares, whatever the data would unpack to.
            data: bytes = member.read(entry.size)
            member.read(1)  # the end, where the checksum is compared
            return data

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


@final
@dataclass(slots=True)
class _Tar(Archive):
    file: IO[bytes] | None = None
    lock: Any = field(default_factory=RLock)

    @classmethod
    def open(cls, path: Path, status: os.stat_result) -> _Tar:
        self = cls(path, status.st_mtime_ns)
        self.file = path.open("rb")
        begin = self.file.read(6)
        self.file.seek(0)
        for magic, unpack in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (_XZ, lzma.open)):
            if begin.startswith(magic):
                with self.file as packed:
                    self.file = self._unpacked(packed, unpack, status.st_size)
        self._list()
        return self

    def _unpacked(self, packed: IO[bytes], unpack: Any, size: int) -> IO[bytes]:
        """Decompress into a temporary file, which has no name and goes when it is closed."""
        plain = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the archive
        try:
            with unpack(packed) as stream:
                total = 0
                while chunk := stream.read1(_CHUNK):  # what there is, if it is cut short
                    total += len(chunk)
                    _check_total(self.path, total, size)
                    plain.write(chunk)
        except (EOFError, zlib.error, lzma.LZMAError, OSError, ImageError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                free = shutil.disk_usage(tempfile.gettempdir()).free
                plain.close()
                raise ImageNotFoundError(
                    f"the archive cannot be decompressed into {tempfile.gettempdir()} "
                    f"({error.strerror}, {free / 1e9:.1f} GB free); set TMPDIR to a larger disk, "
                    f"or extract the archive and index the folder",
                    self.path,
                ) from error
            if isinstance(error, ImageError) or not plain.tell():
                plain.close()
                raise
            self.trouble = f"the archive is damaged or cut short: {error}"
        plain.seek(0)
        return plain

    def _list(self) -> None:
        try:
            tar = tarfile.open(fileobj=self.file, mode="r:")  # noqa: SIM115  # the file stays open
        except tarfile.TarError as error:
            raise ImageCorruptError(
                f"expected a tar archive, found one that is damaged or of another kind: {error}",
                self.path,
            ) from error
        plain: IO[bytes] = self.file  # type: ignore[assignment]  # open
        end = plain.seek(0, os.SEEK_END)
        plain.seek(0)
        try:
            for info in tar:
                if info.isdir():
                    continue
                trouble = ""
                if info.islnk() and info.linkname in self.entries:  # stored once in this archive
                    self._take(info.name, self.entries[info.linkname])
                    continue
                if info.issym() or info.islnk():
                    trouble = "it is a link, which is not followed in an archive"
                elif info.issparse() or not info.isfile():
                    trouble = "it is no ordinary file"
                elif info.offset_data + info.size > end:
                    trouble = "the archive ends before it does"
                self._take(info.name, Entry(info.offset_data, info.size, trouble))
        except tarfile.TarError as error:
            self.trouble = self.trouble or f"the archive is damaged or cut short: {error}"

    def _read(self, entry: Entry) -> bytes:
        with self.lock:
            self.file.seek(entry.at)  # type: ignore[union-attr]  # open
            return self.file.read(entry.size)  # type: ignore[union-attr]

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


_XZ = b"\xfd7zXZ\0"


def _too_large(size: int) -> str:
    return (
        f"it unpacks to {size:,} bytes, far more than an image would; if it is one, extract it "
        f"and index the folder"
    )


def _check_total(path: Path, total: int, size: int) -> None:
    if total > max(_SMALL_ARCHIVE, _MOST_RATIO * size):
        raise ImageTooLargeError(
            f"expected an archive of images, found one of {size:,} bytes that unpacks to {total:,} "
            f"bytes or more; if that is right, extract it and index the folder",
            path,
        )
