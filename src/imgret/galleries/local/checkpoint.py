"""The stored index of a gallery, and what it covers."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from imgret.types import Part

__all__ = ["Checkpoint", "drop_index", "read_checkpoint", "write_index"]

_INDEX = "index"
_STATE = "state"
_FILE = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a stored index covers.

    Attributes
    ----------
    rows : int
        It holds the items with ids below this that were live at the time.
    changes : int
        Number of the last change it has seen; removals after it are still to be made.
    part : Part
        Name and configuration of the index.
    projection : str or None
        Fingerprint of the projection its vectors went through.
    trained_on : int
        How many items there were when it was trained.
    """

    rows: int
    changes: int
    part: Part
    projection: str | None
    trained_on: int


def write_index(directory: Path, checkpoint: Checkpoint, write: Callable[[Path], None]) -> None:
    """Write the index of a gallery; ``write`` fills the directory it is given.

    Nothing is synced: what a loss of power leaves is found out by its checksums. The old one
    stays until the new one is whole, and a reader finds none only between two renames.
    """
    temporary, old = directory / f"{_INDEX}.tmp", directory / f"{_INDEX}.old"
    for left in (temporary, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        (temporary / _STATE).mkdir(parents=True)
        write(temporary / _STATE)
        content = json.dumps({"crc32": _crc(checkpoint), **asdict(checkpoint)}, indent=2)
        (temporary / _FILE).write_text(content + "\n", encoding="utf-8")
        if (directory / _INDEX).exists():
            (directory / _INDEX).rename(old)
        temporary.rename(directory / _INDEX)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def drop_index(directory: Path) -> None:
    """Delete the index of a gallery."""
    shutil.rmtree(directory / _INDEX, ignore_errors=True)


def read_checkpoint(directory: Path) -> tuple[Checkpoint, Path] | None:
    """Return what the stored index covers and where its state is; None without a whole one."""
    try:
        content = json.loads((directory / _INDEX / _FILE).read_text(encoding="utf-8"))
        crc = content.pop("crc32")
        checkpoint = Checkpoint(**{**content, "part": Part(**content["part"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # it is made again from the vectors
    if crc != _crc(checkpoint):
        return None
    return checkpoint, directory / _INDEX / _STATE


def _crc(checkpoint: Checkpoint) -> int:
    return zlib.crc32(json.dumps(asdict(checkpoint), sort_keys=True).encode())
