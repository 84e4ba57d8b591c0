"""Where downloaded models are kept: a folder of folders, each named like its model."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["downloaded", "models_home"]

_VARIABLE = "IMGRET_MODELS"


def models_home() -> Path:
    """Return the folder: ``IMGRET_MODELS``, or ``imgret/models`` in the user's cache."""
    if given := os.environ.get(_VARIABLE):
        return Path(given)
    if sys.platform == "win32":
        cache = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        cache = str(Path.home() / "Library" / "Caches")
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "imgret" / "models"


def downloaded(name: str) -> Path | None:
    """Return the folder of a model that was downloaded under a name; None without one."""
    if not name or Path(name).name != name:
        return None
    try:
        folder = models_home() / name
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # a user without a home
        return None
