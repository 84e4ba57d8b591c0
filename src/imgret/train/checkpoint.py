"""Checkpoints, which are written completely or not at all and read without unpickling code."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from imgret.errors import TrainingError

__all__ = ["FORMAT", "read", "write"]

FORMAT = 1

# Errors that torch raises for a file that is not a checkpoint.
_UNREADABLE = (
    OSError,
    RuntimeError,
    KeyError,
    TypeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, replacing an existing one.

    Raises
    ------
    TrainingError
        The disk is full or not writable. An existing checkpoint is unchanged.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        part.unlink(missing_ok=True)
        kept = f"the previous one is kept: {path}" if path.exists() else "there is no earlier one"
        raise TrainingError(
            f"{path}: the checkpoint cannot be written ({error}); {kept}"
        ) from error


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises
    ------
    TrainingError
        There is no checkpoint, or it is damaged or has a different format.
    """
    if not path.is_file():
        raise TrainingError(f"{path}: expected a checkpoint, found none there")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state["format"]
    except _UNREADABLE as error:
        raise TrainingError(f"{path}: expected a checkpoint, found damage or other data") from error
    if found != FORMAT:
        raise TrainingError(f"{path}: expected format {FORMAT}, found {found!r}")
    return state
