"""Parts given by object or by name, and the names and options that make them again."""

from __future__ import annotations

from dataclasses import asdict

from imgret import registry
from imgret.abc import Cropper, Embedder, VectorIndex
from imgret.storage import Part

__all__ = ["find_cropper", "find_embedder", "make_cropper", "make_embedder", "part_of"]


def find_embedder(given: str | Embedder) -> Embedder:
    """Return the embedder of a registered name, of a model file, or the object itself."""
    return registry.made("embedders", given, Embedder)  # type: ignore[type-abstract]  # it is only compared with


def find_cropper(given: str | Cropper) -> Cropper:
    """Return the cropper of a registered name, of a model file, or the object itself."""
    return registry.made("croppers", given, Cropper)  # type: ignore[type-abstract]  # it is only compared with


def make_embedder(part: Part) -> Embedder:
    """Make an embedder again."""
    return registry.made("embedders", asdict(part), Embedder)  # type: ignore[type-abstract]  # it is only compared with


def make_cropper(part: Part) -> Cropper:
    """Make a cropper again."""
    return registry.made("croppers", asdict(part), Cropper)  # type: ignore[type-abstract]  # it is only compared with


def part_of(made: Embedder | Cropper | VectorIndex) -> Part:
    """Return what makes a part again; of an unregistered class, what identifies it."""
    config = dict(made.config())
    if isinstance(made, VectorIndex):  # these two belong to the gallery
        del config["dim"], config["metric"]
    kind = type(made)
    return Part(made.name or f"{kind.__module__}.{kind.__qualname__}", config)
