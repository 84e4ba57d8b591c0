"""Registry of embedders, croppers, indexes, rerankers and galleries, based on entry points.

A package registers a part with an entry point in one of five groups. imgret declares its
own parts in the same way::

    [project.entry-points."imgret.indexes"]
    annoy = "imgret_annoy:AnnoyIndex"

A part is imported when it is first requested, so a plugin that fails to import fails only
then. An entry point names a callable that returns the part. An entry point whose name ends in a
colon gets the rest of the requested name as its first argument: ``faiss:`` makes
``"faiss:IVF64,Flat"``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from imgret.errors import (
    ImgretError,
    InvalidInputError,
    MissingExtraError,
    PluginError,
    UnknownNameError,
)

if TYPE_CHECKING:
    from imgret.abc import Gallery

__all__ = [
    "Kind",
    "create",
    "factory",
    "gallery",
    "is_model_path",
    "is_registered",
    "made",
    "names",
    "refresh",
]

Kind: TypeAlias = Literal["embedders", "croppers", "indexes", "rerankers", "galleries"]

_Part = TypeVar("_Part")

_SINGULAR: dict[Kind, str] = {
    "embedders": "embedder",
    "croppers": "cropper",
    "indexes": "index",
    "rerankers": "reranker",
    "galleries": "gallery",
}


@cache
def _installed() -> Any:
    """Return the entry points of all packages, which takes milliseconds to find."""
    return entry_points()


@cache
def _found(kind: Kind) -> dict[str, list[EntryPoint]]:
    if kind not in _SINGULAR:
        expected = ", ".join(map(repr, _SINGULAR))
        raise InvalidInputError(f"kind: expected one of {expected}, found {kind!r}")
    found: dict[str, list[EntryPoint]] = {}
    for entry in _installed().select(group=f"imgret.{kind}"):
        rivals = found.setdefault(entry.name, [])
        if all(entry.value != rival.value for rival in rivals):  # the same package seen twice
            rivals.append(entry)
    return dict(sorted(found.items()))


def refresh() -> None:
    """Look for plugins again, to find those installed while the process is running."""
    _installed.cache_clear()
    _found.cache_clear()


def names(kind: Kind) -> dict[str, str]:
    """Return the registered names and their origins without importing anything.

    Parameters
    ----------
    kind : {"embedders", "croppers", "indexes", "rerankers", "galleries"}

    Returns
    -------
    dict
        Name -> "package: module:attribute". If two packages register a name, both are listed.
    """
    return {
        name: "; ".join(f"{_package(entry)}: {entry.value}" for entry in entries)
        for name, entries in _found(kind).items()
    }


def is_registered(kind: Kind, name: str) -> bool:
    """Whether a part has this name; unlike `names`, it does not ask which packages have it."""
    return name in _found(kind)


def factory(kind: Kind, name: str) -> Callable[..., Any]:
    """Return a callable that makes the part of this name.

    Raises
    ------
    UnknownNameError
        Nothing is registered under the name; the message lists the known names.
    PluginError
        Two packages claim the name, or the plugin fails to import.
    """
    made, first = _loaded(kind, name)
    return partial(made, *first)


def gallery(uri: str) -> type[Gallery]:
    """Return the class of the gallery at a URI, by the scheme before ``://``.

    Parameters
    ----------
    uri : str
        Path of a directory, or a URI such as ``postgresql://host/photos``.

    Raises
    ------
    UnknownNameError, PluginError
        As in `factory`.
    """
    from imgret.abc import Gallery  # noqa: PLC0415  # loads NumPy

    scheme, colon, _ = uri.partition("://")
    made, _ = _loaded("galleries", scheme if colon else "file")
    if not (isinstance(made, type) and issubclass(made, Gallery)):
        raise PluginError(
            f"galleries: {scheme!r}: expected a subclass of imgret.abc.Gallery, found {made!r}"
        )
    return made


def _loaded(kind: Kind, name: str) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """Return the callable registered under a name, and its arguments taken from the name."""
    found = _found(kind)
    prefix, colon, rest = name.partition(":")
    first: tuple[str, ...] = ()
    if name in found:
        entries = found[name]
    elif colon and f"{prefix}:" in found:
        entries, first = found[f"{prefix}:"], (rest,)
    else:
        raise UnknownNameError(_unknown(kind, name))
    if len(entries) > 1:
        packages = " and ".join(f"{_package(entry)} ({entry.value})" for entry in entries)
        raise PluginError(
            f"{kind}: the name {name!r} is claimed by {packages}; uninstall all but one of them"
        )
    entry = entries[0]
    try:
        made = entry.load()
    except MissingExtraError:
        raise
    except Exception as error:
        raise PluginError(
            f"{kind}: {name!r} of package {_package(entry)} cannot be imported from "
            f"{entry.value}: {type(error).__name__}: {error}"
        ) from error
    if not callable(made):
        raise PluginError(
            f"{kind}: {name!r} of package {_package(entry)}: expected a class or function at "
            f"{entry.value}, found {type(made).__name__}"
        )
    return made, first


def create(kind: Kind, name: str, /, **options: Any) -> Any:
    """Make the part of this name.

    Parameters
    ----------
    kind : {"embedders", "croppers", "indexes", "rerankers", "galleries"}
    name : str
        A registered name; see `names`.
    **options
        Options of the part.

    Raises
    ------
    UnknownNameError, PluginError
        As in `factory`.
    InvalidInputError
        The part does not take an option.
    """
    make = factory(kind, name)
    try:
        return make(**options)
    except ImgretError:
        raise
    except TypeError as error:
        raise InvalidInputError(f"{kind}: {name!r} cannot be made: {error}") from error


def made(kind: Kind, given: Any, contract: type[_Part]) -> _Part:
    """Return a part given as an object, as a name, or as a name with options.

    Parameters
    ----------
    kind : {"embedders", "croppers", "indexes", "rerankers", "galleries"}
    given : str, path, mapping or object
        Registered name, path of a model file, mapping ``{"name": ..., "config": {...}}``, or the
        part itself.
    contract : type
        Class that the part must be an instance of.

    Raises
    ------
    InvalidInputError
        ``given`` is none of these.
    UnknownNameError, PluginError
        As in `factory`.
    """
    part, what = given, _SINGULAR[kind]
    if isinstance(given, str | os.PathLike):
        given = {"name": os.fspath(given)}
    if isinstance(given, Mapping):
        name = given.get("name")
        if not isinstance(name, str) or not set(given) <= {"name", "config"}:
            raise InvalidInputError(
                f"{kind}: expected the keys 'name' and 'config', found {sorted(given)}"
            )
        part, what = _named(kind, name, given.get("config", {})), f"{kind} {name!r}"
    if not isinstance(part, contract):
        raise InvalidInputError(
            f"{what}: expected a registered name or an imgret.abc.{contract.__name__}, found "
            f"{part if isinstance(part, type) else type(part)}"
        )
    return part


def _named(kind: Kind, name: str, config: Mapping[str, Any]) -> Any:
    """Make the part of a registered name or of a model file."""
    if not is_registered(kind, name) and is_model_path(name):
        return create(kind, "onnx", **{"model": name, **config})
    return create(kind, name, **config)


def is_model_path(name: str) -> bool:
    """Whether an unregistered name is the path of a model, existing or not."""
    from imgret.models.home import downloaded  # noqa: PLC0415  # only for unknown names

    path = Path(name)
    if name.casefold().endswith(".onnx") or path.name != name or path.exists():
        return True
    return downloaded(name) is not None


@cache  # parsing the metadata of a package takes a millisecond
def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"


def _unknown(kind: Kind, name: str) -> str:
    known = list(_found(kind))
    message = f"{kind}: no {name!r}; known: {', '.join(known) or 'none'}"
    if near := difflib.get_close_matches(name, known, n=1):
        message += f". Did you mean {near[0]!r}?"
    return message
