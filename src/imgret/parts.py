"""Parts given by object or by name, and the names and options that make them again."""

from __future__ import annotations

from typing import TypeVar

from imgret import registry
from imgret.abc import Cropper, Embedder, VectorIndex
from imgret.errors import InvalidInputError
from imgret.registry import Kind
from imgret.storage import Part

__all__ = ["find_cropper", "find_embedder", "make_cropper", "make_embedder", "part_of"]

_T = TypeVar("_T")


def find_embedder(given: str | Embedder) -> Embedder:
    """Return the embedder of a registered name, of a model file, or the object itself."""
    if isinstance(given, str):
        return _make("embedders", Part(given), Embedder)  # type: ignore[type-abstract]  # it is only compared with
    return _checked(given, Embedder, "embedder")  # type: ignore[type-abstract]  # it is only compared with


def find_cropper(given: str | Cropper) -> Cropper:
    """Return the cropper of a registered name, of a model file, or the object itself."""
    if isinstance(given, str):
        return _make("croppers", Part(given), Cropper)  # type: ignore[type-abstract]  # it is only compared with
    return _checked(given, Cropper, "cropper")  # type: ignore[type-abstract]  # it is only compared with


def make_embedder(part: Part) -> Embedder:
    """Make an embedder again."""
    return _make("embedders", part, Embedder)  # type: ignore[type-abstract]  # it is only compared with


def make_cropper(part: Part) -> Cropper:
    """Make a cropper again."""
    return _make("croppers", part, Cropper)  # type: ignore[type-abstract]  # it is only compared with


def part_of(made: Embedder | Cropper | VectorIndex) -> Part:
    """Return what makes a part again; of an unregistered class, what identifies it."""
    config = dict(made.config())
    if isinstance(made, VectorIndex):  # these two belong to the gallery
        del config["dim"], config["metric"]
    kind = type(made)
    return Part(made.name or f"{kind.__module__}.{kind.__qualname__}", config)


def _make(kind: Kind, part: Part, contract: type[_T]) -> _T:
    name, config = part.name, part.config
    if name.endswith(".onnx") and name not in registry.names(kind):
        name, config = "onnx", {"model": name, **config}
    return _checked(registry.create(kind, name, **config), contract, f"{kind} {part.name!r}")


def _checked(made: object, contract: type[_T], what: str) -> _T:
    if not isinstance(made, contract):
        raise InvalidInputError(
            f"{what}: expected a registered name or an imgret.abc.{contract.__name__}, found "
            f"{made if isinstance(made, type) else type(made)}"
        )
    return made
