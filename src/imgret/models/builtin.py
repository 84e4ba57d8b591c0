"""The models that come with imgret."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from imgret.errors import ModelError, UnknownNameError
from imgret.models import bundle as bundles
from imgret.models.bundle import Bundle
from imgret.models.folder import is_model_folder
from imgret.models.home import downloaded

__all__ = ["available", "builtin_file", "builtin_name", "resolve"]

_FOLDER = Path(__file__).parent


def available() -> dict[str, Bundle]:
    """Return the built-in models by name, in alphabetical order."""
    read = {path.stem: bundles.read(path) for path in sorted(_FOLDER.glob("*.onnx"))}
    return {name: bundle for name, bundle in read.items() if bundle is not None}


def resolve(model: str | os.PathLike[str]) -> Path:
    """Return the file of a built-in model, or at a path.

    Text that ends in ``.onnx``, in any case, or contains a path separator is a path. Other text is
    the name of a built-in model, or else the path of an existing file.

    Raises
    ------
    UnknownNameError
        No built-in model has the name; the message lists the known names.
    ModelError
        There is no file at the path.
    """
    text = os.fspath(model)
    is_name = (
        isinstance(model, str) and not text.casefold().endswith(".onnx") and Path(text).name == text
    )
    builtin, path = _FOLDER / f"{text}.onnx", Path(text)
    if is_name and builtin.is_file():
        return builtin
    if path.is_file() or is_model_folder(path):
        return path
    if is_name and (folder := downloaded(text)) is not None:
        return folder
    if path.is_dir():
        files = sorted(str(file.relative_to(path)) for file in path.glob("**/*.onnx"))
        found = f"other ONNX files ({', '.join(files[:5])})" if files else "no ONNX file"
        raise ModelError(
            f"{path}: expected a model, found a folder with {found}; give an .onnx file, or a "
            f"folder with model.onnx, onnx/vision_model.onnx or visual.onnx"
        )
    if not is_name:
        raise ModelError(f"{path}: expected an ONNX file, found none there")
    known = [path.stem for path in sorted(_FOLDER.glob("*.onnx"))]
    message = (
        f"models: no {text!r}; known: {', '.join(known)}, or the path of an .onnx file or of a "
        f"model's folder; `imgret models get` downloads others"
    )
    if near := difflib.get_close_matches(text, known, n=1):
        message += f". Did you mean {near[0]!r}?"
    raise UnknownNameError(message)


def builtin_file(name: str) -> Path | None:
    """Return the file of a built-in model; None if no built-in model has the name."""
    path = _FOLDER / f"{name}.onnx"
    return path if path.name == f"{name}.onnx" and path.is_file() else None


def builtin_name(path: Path) -> str | None:
    """Return the name of the built-in model in a file; None for any other file."""
    return path.stem if path.parent == _FOLDER else None
