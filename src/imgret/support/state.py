"""Files of a part on disk, and their checksums."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from imgret.errors import StoreCorruptError
from imgret.support.json_text import loads
from imgret.types import Json

__all__ = ["read_state", "write_state"]

_NAME = "state.json"


def write_state(directory: Path, facts: Json) -> None:
    """Write facts, and the sha256 of every other file, into ``state.json``."""
    state = {**facts, "sha256": _checksums(directory)}
    (directory / _NAME).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def read_state(directory: Path) -> Json:
    """Return the facts, after a check that every file has the checksum it was written with.

    Raises
    ------
    StoreCorruptError
        ``state.json`` cannot be read, or a file is missing, unknown or changed.
    """
    path = directory / _NAME
    try:
        state = loads(path.read_text(encoding="utf-8"))
        expected = dict(state["sha256"])
        found = _checksums(directory)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreCorruptError(
            f"{path}: expected facts and checksums as JSON, found {type(error).__name__}: {error}; "
            f"rebuild the index"
        ) from error
    if expected != found:
        names = sorted(
            name for name in {*expected, *found} if expected.get(name) != found.get(name)
        )
        raise StoreCorruptError(
            f"{directory}: expected the files with the checksums in {_NAME}, found different ones "
            f"for {', '.join(names)}; rebuild the index"
        )
    return state  # type: ignore[no-any-return]  # a dict, or indexing it would have failed


def _checksums(directory: Path) -> dict[str, str]:
    sums = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path != directory / _NAME:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            sums[path.relative_to(directory).as_posix()] = digest.hexdigest()
    return sums
