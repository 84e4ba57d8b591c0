"""Files of the parts of a gallery: paths in their options, and where the files may be.

The options of a part may name files, such as ``{"model": "/models/mine.onnx"}``. The manifest keeps
each path as it was, absolute, and in ``files`` also relative to the gallery, so that a directory
tree can be moved as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from imgret.support.given import is_path

__all__ = ["candidates", "paths_in", "relative_to", "replaced", "taken_over"]


def paths_in(config: Any) -> list[str]:
    """Return the paths among the options of a part, each once, in their order."""
    return list(dict.fromkeys(_paths(config)))


def _paths(config: Any) -> Iterator[str]:
    if isinstance(config, Mapping):
        for value in config.values():
            yield from _paths(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _paths(value)
    elif is_path(config):
        yield config


def replaced(config: Any, new: Callable[[str], str]) -> Any:
    """Return options with each path replaced by what ``new`` returns for it."""
    if isinstance(config, Mapping):
        return {name: replaced(value, new) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [replaced(value, new) for value in config]
    return new(config) if is_path(config) else config


def taken_over(config: Any, other: Any) -> Any:
    """Return options with the paths of ``other``, where both have a path in the same place."""
    if isinstance(config, Mapping) and isinstance(other, Mapping):
        return {name: taken_over(value, other.get(name)) for name, value in config.items()}
    if isinstance(config, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(config) == len(other):
            return [taken_over(a, b) for a, b in zip(config, other, strict=True)]
        return config
    return other if is_path(config) and is_path(other) else config


def candidates(stored: str, gallery: Path, files: Mapping[str, str]) -> list[str]:
    """Return the absolute paths at which the file of a stored path exists.

    Tried are the path itself, and the path relative to the gallery if the manifest has one. A
    relative path, as in older galleries, is also tried below the current directory, beside the
    gallery, and in it.

    Parameters
    ----------
    stored : str
        Path in the manifest.
    gallery : Path
        Directory of the gallery.
    files : mapping of str to str
        Absolute paths by stored path: see `Manifest.files`.
    """
    places = [Path(stored)] if Path(stored).is_absolute() else []
    places += [Path(files[stored])] if stored in files else []
    if not Path(stored).is_absolute():
        places += [Path(stored).absolute(), gallery.parent / stored, gallery / stored]
    return [str(place.absolute()) for place in dict.fromkeys(places) if place.exists()]


def relative_to(place: str, directory: Path) -> str | None:
    """Return an absolute path relative to a directory, with forward slashes; None if impossible.

    Links on the way to both are followed, as ``..`` refers to the target of a link.
    """
    folder, name = os.path.split(place)
    try:
        real = os.path.relpath(os.path.realpath(folder), os.path.realpath(directory))
    except ValueError:  # on another drive
        return None
    return f"{real}/{name}".replace(os.sep, "/")
