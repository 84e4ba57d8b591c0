"""Parts given as an object or a name, and the name and options to recreate them from."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeAlias

from imgret import registry
from imgret.abc import Cropper, Embedder, VectorIndex
from imgret.errors import InvalidInputError
from imgret.indexes import Choice, choose
from imgret.types import Json, Metric, Part

__all__ = [
    "EmbedderLike",
    "IndexMaker",
    "auto_choice",
    "find_cropper",
    "find_embedder",
    "index_maker",
    "index_part",
    "make_cropper",
    "make_embedder",
    "make_index",
    "part_of",
]

# A name, a path, the folders of the two towers of a model, or the object.
EmbedderLike: TypeAlias = (
    str | os.PathLike[str] | tuple[str | os.PathLike[str], str | os.PathLike[str]] | Embedder
)
# Takes the dimension and the expected number of items, returns an empty index.
IndexMaker: TypeAlias = Callable[[int, int], VectorIndex]


def find_embedder(given: EmbedderLike) -> Embedder:
    """Return the embedder for a name, for a model's file, folder or two folders, or the object."""
    if isinstance(given, tuple) and len(given) == 2 and all(map(is_path_like, given)):
        images, texts = os.fspath(given[0]), os.fspath(given[1])
        given = {"name": "onnx", "config": {"model": images, "text_model": texts}}  # type: ignore[assignment]  # `made` takes it
    return registry.made("embedders", given, Embedder)  # type: ignore[type-abstract]  # it is only compared with


def find_cropper(given: str | os.PathLike[str] | Cropper) -> Cropper:
    """Return the cropper for a registered name or a model file, or the object itself."""
    return registry.made("croppers", given, Cropper)  # type: ignore[type-abstract]  # it is only compared with


def is_path_like(given: object) -> bool:
    """Whether it is a path as text or as an object."""
    return isinstance(given, (str, os.PathLike))


def make_embedder(part: Part) -> Embedder:
    """Recreate an embedder from its name and options."""
    return registry.made("embedders", asdict(part), Embedder)  # type: ignore[type-abstract]  # it is only compared with


def make_cropper(part: Part) -> Cropper:
    """Recreate a cropper from its name and options."""
    return registry.made("croppers", asdict(part), Cropper)  # type: ignore[type-abstract]  # it is only compared with


def part_of(made: Embedder | Cropper | VectorIndex) -> Part:
    """Return the name and options of a part; for an unregistered class, its qualified name."""
    config = dict(made.config())
    if isinstance(made, VectorIndex):  # the gallery stores these two itself
        del config["dim"], config["metric"]
    kind = type(made)
    return Part(made.name or f"{kind.__module__}.{kind.__qualname__}", config)


def index_part(
    given: str | VectorIndex, options: Json, dim: int, metric: Metric
) -> tuple[Part, VectorIndex | None]:
    """Return the name and options of an index, and the object if one was given.

    Raises
    ------
    UnknownNameError, InvalidInputError
        There is no such index or option; or the object is not empty, or has a different
        dimension or metric.
    """
    if isinstance(given, str):
        part = Part(given, options)
        make_index(part, dim, metric)  # reports invalid options now rather than at the first use
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
    """Return a function that makes an empty index for a dimension and a number of items."""
    if prepared is None:
        return lambda dim, n: make_index(part, dim, metric, n)
    unused = [prepared]

    def make(dim: int, n: int) -> VectorIndex:  # noqa: ARG001  # the size matters to 'auto' alone
        if unused and unused[0].dim == dim:
            return unused.pop()
        return type(prepared).from_config({**prepared.config(), "dim": dim})

    return make


def auto_choice(part: Part, n: int, dim: int) -> Choice:
    """Return what ``"auto"`` chooses for some items, with the options it was given."""
    try:
        return choose(max(n, 1), dim, **part.config)
    except TypeError as error:
        raise InvalidInputError(f"indexes: 'auto' cannot be made: {error}") from error


def make_index(part: Part, dim: int, metric: Metric, n: int = 0) -> VectorIndex:
    """Make an empty index for ``n`` expected items."""
    if fixed := {"dim", "metric"} & set(part.config):
        raise InvalidInputError(
            f"indexes: {part.name!r} cannot be made: expected no option {min(fixed)!r}, which is "
            f"the gallery's"
        )
    if part.name == "auto":
        choice = auto_choice(part, n, dim)
        part = Part(choice.name, choice.options)
    index = registry.create("indexes", part.name, dim=dim, metric=metric, **part.config)
    if not isinstance(index, VectorIndex):
        raise InvalidInputError(
            f"index {part.name!r}: expected an imgret.abc.VectorIndex, found {type(index)}"
        )
    return index
