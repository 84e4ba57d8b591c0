"""Small images of the items, made once and kept beside the gallery."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import final

from imgret import images
from imgret.errors import ImageError, ImageNotFoundError
from imgret.files import ItemFile, State, is_url, state_of
from imgret.files.roots import is_limited
from imgret.galleries.local.files import thumbnails_of
from imgret.support.locks import RLock

__all__ = ["Thumbnails", "thumbnails_of"]

_log = logging.getLogger(__name__)
_IN_MEMORY = 64 * 2**20  # bytes
_QUALITY = 82


@final
class Thumbnails:
    """JPEGs of at most so many pixels a side, from files that may change.

    They are kept by path, digest, size and time of change of the file. Without a folder, or where
    it cannot be written (a disk that is full or read-only), the latest are kept in memory.

    Parameters
    ----------
    folder : Path or None
    max_pixels : int
        Images with more pixels are refused.
    """

    def __init__(self, folder: Path | None, *, max_pixels: int) -> None:
        self._folder = folder
        self._max_pixels = max_pixels
        self._lock = RLock()
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        # Of addresses, which are asked once: a service may take long, or not answer at all.
        self._states: dict[str, State] = {}

    def get(self, file: ItemFile, side: int) -> bytes:
        """Return the JPEG of an image file.

        Raises
        ------
        ImageError
            There is no such file, it is not the one that was indexed, or it cannot be read.
        """
        name = self._name(file, side)
        found = self._read(name)
        if found is None:
            found = self._make(file, side)
            self._keep(name, found)
        return found

    def _name(self, file: ItemFile, side: int) -> str:
        path = file.path
        try:
            state = self._states.get(path) or state_of(path)
        except ImageError:
            raise
        except OSError as error:
            raise ImageNotFoundError(
                f"{path}: expected the image of an item, found {error.strerror}; put the file "
                f"back, or index the folder it was moved to"
            ) from error
        if is_url(path):
            self._states[path] = state
        facts = (os.fsencode(path), file.sha256, is_limited(), *state, side)
        return hashlib.blake2b(repr(facts).encode(), digest_size=20).hexdigest()

    def _make(self, file: ItemFile, side: int) -> bytes:
        image, _ = images.decode(
            file.read(), path=file.path, max_pixels=self._max_pixels, min_side=side
        )
        return images.encode(images.thumbnail(image, side), "jpeg", quality=_QUALITY)

    def _file(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / name[:2] / f"{name[2:]}.jpg"

    def _read(self, name: str) -> bytes | None:
        with self._lock:
            if name in self._recent:
                self._recent.move_to_end(name)
                return self._recent[name]
        file = self._file(name)
        if file is None:
            return None
        with suppress(OSError):
            return file.read_bytes()
        return None

    def _keep(self, name: str, data: bytes) -> None:
        file = self._file(name)
        if file is not None:
            try:
                _write(file, data)
            except OSError as error:
                _log.warning("thumbnails are kept in memory: %s: %s", self._folder, error)
                self._folder = None
            else:
                return
        with self._lock:
            if name not in self._recent:  # another request may have made it meanwhile
                self._recent[name] = data
                self._bytes += len(data)
            while self._bytes > _IN_MEMORY:
                self._bytes -= len(self._recent.popitem(last=False)[1])


def _write(file: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(data)
        Path(partial).replace(file)
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise
