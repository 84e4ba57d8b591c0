"""Images out of an archive, and nothing else."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import zlib
from pathlib import Path

from imgret.errors import DatasetError

__all__ = ["unpack"]

_MEMBER = re.compile(r"(?:\./)?jpg/(image_\d{5}\.jpg)")
_LARGEST = 32 * 2**20  # bytes of one image


def unpack(archive: Path, folder: Path, wanted: set[str]) -> None:
    """Unpack the wanted images; each has its name only once it is whole.

    Only names such as ``jpg/image_00001.jpg`` are looked at, so that nothing is written elsewhere.

    Raises
    ------
    DatasetError
        The archive is damaged, or the folder cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        with tarfile.open(archive) as opened:
            for member in opened:
                found = _MEMBER.fullmatch(member.name)
                if found and found[1] in wanted and member.isfile() and member.size <= _LARGEST:
                    _write(opened, member, folder / found[1])
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{archive}: the archive is damaged ({error}); delete it") from error
    except OSError as error:
        raise DatasetError(
            f"{folder}: the images cannot be unpacked ({error.strerror or error}); call again "
            f"when there is room and permission, which goes on from here"
        ) from error


def _write(opened: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = opened.extractfile(member)
    if source is None:  # as for a folder
        return
    part = path.with_name(f"{path.name}.part")
    with source, part.open("wb") as target:
        shutil.copyfileobj(source, target)
    part.replace(path)
