"""Parts given by object or by name, and the names and options that make them again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeAlias

from imgret import registry
from imgret.abc import Cropper, Embedder, VectorIndex
from imgret.errors import InvalidInputError
from imgret.indexes import choose
from imgret.types import Json, Metric, Part

__all__ = [
    "IndexMaker",
    "find_cropper",
    "find_embedder",
    "index_maker",
    "index_part",
    "make_cropper",
    "make_embedder",
    "make_index",
    "part_of",
]

# Dimension, and how many items it is for -> an empty index.
IndexMaker: TypeAlias = Callable[[int, int], VectorIndex]


def find_embedder(given: str | os.PathLike[str] | Embedder) -> Embedder:
    """Return the embedder of a registered name, of a model file, or the object itself."""
    return registry.made("embedders", given, Embedder)  # type: ignore[type-abstract]  # it is only compared with


def find_cropper(given: str | os.PathLike[str] | Cropper) -> Cropper:
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


def index_part(
    given: str | VectorIndex, options: Json, dim: int, metric: Metric
) -> tuple[Part, VectorIndex | None]:
    """Return name and options of an index, and the object where one was given.

    Raises
    ------
    UnknownNameError, InvalidInputError
        There is no such index or option; or the object is not empty, or of another
        dimension or metric.
    """
    if isinstance(given, str):
        part = Part(given, options)
        make_index(part, dim, metric)  # raises here and now what it will raise
        return part, None
    if not isinstance(given, VectorIndex):
        raise InvalidInputError(
            f"index: expected a registered name or an imgret.abc.VectorIndex, found {given!r}"
        )
    if options:
        raise InvalidInputError(
            f"index: expected options only with a name, found {', '.join(options)} with an object"
        )
    if len(given) or given.dim != dim or given.metric != metric:
        raise InvalidInputError(
            f"index: expected an empty index of dimension {dim} and metric {metric!r}, found "
            f"{given!r}"
        )
    return part_of(given), given


def index_maker(part: Part, metric: Metric, prepared: VectorIndex | None) -> IndexMaker:
    """Return what makes an empty index, given its dimension and how many items it is for."""
    if prepared is None:
        return lambda dim, n: make_index(part, dim, metric, n)
    unused = [prepared]

    def make(dim: int, n: int) -> VectorIndex:  # noqa: ARG001  # the size matters to 'auto' alone
        if unused and unused[0].dim == dim:
            return unused.pop()
        return type(prepared).from_config({**prepared.config(), "dim": dim})

    return make


def make_index(part: Part, dim: int, metric: Metric, n: int = 0) -> VectorIndex:
    """Make an empty index for ``n`` items."""
    if part.name == "auto":
        choice = choose(max(n, 1), dim, **part.config)
        part = Part(choice.name, choice.options)
    index = registry.create("indexes", part.name, dim=dim, metric=metric, **part.config)
    if not isinstance(index, VectorIndex):
        raise InvalidInputError(
            f"index {part.name!r}: expected an imgret.abc.VectorIndex, found {type(index)}"
        )
    return index
