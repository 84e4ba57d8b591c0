"""The stored index of a gallery, and what it covers."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret.galleries.local.own import discard_tree
from imgret.support.json_text import loads
from imgret.types import Part

__all__ = [
    "Checkpoint",
    "drop_index",
    "has_index",
    "read_checkpoint",
    "read_checksums",
    "write_index",
]

_INDEX = "index"
_STATE = "state"
_FILE = "checkpoint.json"
_CHECKSUMS = "checksums.u32"


@dataclass(frozen=True)
class Checkpoint:
    """What a stored index covers.

    Attributes
    ----------
    rows : int
        Bound of the ids: the index holds the items with ids below this that were live at the time.
    changes : int
        Number of the last change in the index; later removals are still to be applied.
    part : Part
        Name and configuration of the index.
    projection : str or None
        Fingerprint of the projection applied to its vectors.
    trained_on : int
        Number of items when the index was trained.
    """

    rows: int
    changes: int
    part: Part
    projection: str | None
    trained_on: int


def write_index(
    directory: Path,
    checkpoint: Checkpoint,
    write: Callable[[Path], None],
    checksums: NDArray[np.uint32] | None = None,
) -> None:
    """Write the index of a gallery; ``write`` fills the directory it is given.

    The checksums of its rows go with it, if they are known: see `read_checksums`.

    Nothing is synced: checksums detect what a power loss has damaged. The old index stays until
    the new one is complete; only between two renames does a reader find none.
    """
    temporary, old = directory / f"{_INDEX}.tmp", directory / f"{_INDEX}.old"
    for left in (temporary, old):
        discard_tree(left)
    try:
        (temporary / _STATE).mkdir(parents=True)
        write(temporary / _STATE)
        if checksums is not None:
            (temporary / _CHECKSUMS).write_bytes(checksums.astype("<u4").tobytes())
        content = json.dumps({"crc32": _crc(checkpoint), **asdict(checkpoint)}, indent=2)
        (temporary / _FILE).write_text(content + "\n", encoding="utf-8")
        if (directory / _INDEX).exists():
            (directory / _INDEX).rename(old)
        temporary.rename(directory / _INDEX)
    finally:
        for left in (temporary, old):
            discard_tree(left)


def drop_index(directory: Path) -> None:
    """Delete the index of a gallery."""
    discard_tree(directory / _INDEX)


def has_index(directory: Path) -> bool:
    """Whether an index is stored, usable or not."""
    return (directory / _INDEX).exists()


def read_checkpoint(directory: Path) -> tuple[Checkpoint, Path] | None:
    """Return what the stored index covers and where its state is; None without a valid one."""
    try:
        content = loads((directory / _INDEX / _FILE).read_text(encoding="utf-8"))
        crc = content.pop("crc32")
        checkpoint = Checkpoint(**{**content, "part": Part(**content["part"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # the index is rebuilt from the vectors
    if crc != _crc(checkpoint):
        return None
    return checkpoint, directory / _INDEX / _STATE


def read_checksums(directory: Path, rows: int) -> NDArray[np.uint32] | None:
    """Return the CRC-32 of the vectors of the first rows; None without these.

    They are copies of those in the catalog, where looking up a few takes as long as a search does.
    Those in the catalog count where they differ.
    """
    path = directory / _INDEX / _CHECKSUMS
    try:
        if path.is_file() and path.stat().st_size == 4 * rows:
            return np.fromfile(path, dtype="<u4")
    except OSError:
        pass
    return None


def _crc(checkpoint: Checkpoint) -> int:
    return zlib.crc32(json.dumps(asdict(checkpoint), sort_keys=True).encode())
