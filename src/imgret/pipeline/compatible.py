"""Checks that what is asked of a gallery matches what it is made of."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterator, Mapping
from itertools import islice, product
from pathlib import Path
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from imgret import registry
from imgret.abc import Cropper, Embedder, GallerySpec, VectorIndex
from imgret.errors import (
    ImgretError,
    InvalidInputError,
    ModelError,
    StoreMismatchError,
    UnknownNameError,
)
from imgret.indexes.make import (
    EmbedderLike,
    find_cropper,
    find_embedder,
    index_part,
    make_cropper,
    make_embedder,
    part_of,
)
from imgret.models.builtin import builtin_file
from imgret.models.bundle import digest_of
from imgret.support.metric import check_metric
from imgret.support.places import candidates, paths_in, replaced, taken_over
from imgret.types import Dtype, Metric, Part

__all__ = [
    "LocatedPart",
    "check_files",
    "check_given",
    "new_spec",
    "same_cropper",
    "same_embedder",
]

_Part = TypeVar("_Part", Embedder, Cropper)

# Largest model file, in bytes, that is hashed when a gallery is opened.
_AT_ONCE = 256 * 2**20
# Combinations of places that are tried for parts with several files.
_MOST_PLACES = 64


def new_spec(
    embedder: Embedder,
    cropper: Cropper,
    index: str | VectorIndex,
    metric: Metric,
    dtype: Dtype,
) -> tuple[GallerySpec, VectorIndex | None]:
    """Return the spec of a new gallery, and the index object if one was given."""
    metric = check_metric(metric)
    if dtype not in {"float16", "float32"}:
        raise InvalidInputError(f"dtype: expected 'float16' or 'float32', found {dtype!r}")
    part, prepared = index_part(index, {}, embedder.dim, metric)
    spec = GallerySpec(
        dim=embedder.dim,
        metric=metric,
        dtype=dtype,
        embedder=part_of(embedder),
        fingerprint=embedder.fingerprint,
        cropper=part_of(cropper),
        cropper_fingerprint=cropper.fingerprint,
        index=part,
    )
    return spec, prepared


class LocatedPart(NamedTuple, Generic[_Part]):
    """An embedder or cropper, and its part with the present paths of its files."""

    made: _Part
    part: Part


def same_embedder(
    spec: GallerySpec, home: str, given: EmbedderLike | None
) -> LocatedPart[Embedder]:
    """Return the embedder a gallery was made with.

    Parameters
    ----------
    spec : GallerySpec
    home : str
        Absolute directory or URI of the gallery.
    given : str, path, Embedder or None
        Embedder, or the path of its file. By default the embedder of the spec, whose files are
        looked for at their stored places and relative to the gallery.

    Raises
    ------
    StoreMismatchError
        The embedder that was found or given has a different fingerprint.
    ModelError
        The file of the embedder was not found.
    """

    def agrees(made: Embedder) -> bool:
        known = {made.fingerprint, getattr(made, "former_fingerprint", None)}
        return spec.fingerprint in known and made.dim == spec.dim

    def refuse(made: Embedder) -> NoReturn:
        raise StoreMismatchError(
            f"{home}: expected the embedder it was made with, {spec.embedder.name!r} "
            f"({spec.dim}-d, fingerprint {spec.fingerprint[:19]}), found "
            f"{made.name or type(made).__name__!r} ({made.dim}-d, fingerprint "
            f"{made.fingerprint[:19]}); open it with the original (embedder= or --embedder), or "
            f"re-embed it with Retriever.reembed({home!r}, embedder=...)"
        )

    return _same(
        _AskedPart("embedder", spec.embedder, spec, home, spec.fingerprint),
        given,
        make=make_embedder,
        find=find_embedder,
        agrees=agrees,
        refuse=refuse,
    )


def same_cropper(
    spec: GallerySpec, home: str, given: str | os.PathLike[str] | Cropper | None
) -> LocatedPart[Cropper]:
    """Return the cropper a gallery was made with; works like `same_embedder`.

    Galleries of older versions store no fingerprint of the cropper. For them the cropper of the
    spec is accepted, and a given one must have the same name and options, except for the places
    of files.
    """
    kept = spec.cropper_fingerprint

    def agrees(made: Cropper) -> bool:
        if kept is not None:
            return made.fingerprint == kept
        part = part_of(made)
        expected = Part(part.name, taken_over(spec.cropper.config, part.config))
        return part.name == spec.cropper.name and part == expected

    def refuse(made: Cropper) -> NoReturn:
        part = part_of(made)
        found = _told(part)
        if part == spec.cropper:
            found = f"another fingerprint ({made.fingerprint[:19]}...): its file has changed"
        raise StoreMismatchError(
            f"{home}: expected the cropper it was made with, {_told(spec.cropper)}, found "
            f"{found}; open it with the original (cropper= or --cropper), or re-embed it "
            f"with Retriever.reembed({home!r}, cropper=...)"
        )

    return _same(
        _AskedPart("cropper", spec.cropper, spec, home, kept),
        given,
        make=make_cropper,
        find=find_cropper,
        agrees=agrees,
        refuse=refuse,
    )


def check_files(spec: GallerySpec, home: str, *, without: Container[str] = ()) -> None:
    """Raise if a name is unknown, or if a quick check shows that a model file was replaced.

    The file's sha256 is compared with the fingerprint. That takes a few milliseconds, and no model
    is loaded. Models that are missing, very large or made of several parts are checked when they
    are first needed.

    Parameters
    ----------
    spec : GallerySpec
    home : str
        Absolute directory or URI of the gallery.
    without : container of str
        Parts to leave out, as they were given and checked: ``"embedder"``, ``"cropper"``.

    Raises
    ------
    StoreMismatchError
        The file of a model was replaced.
    UnknownNameError
        The embedder or cropper is not registered here and was not given.
    """
    looked_at: tuple[tuple[registry.Kind, str, Part, str | None, Callable[..., object]], ...] = (
        ("embedders", "embedder", spec.embedder, spec.fingerprint, same_embedder),
        ("croppers", "cropper", spec.cropper, spec.cropper_fingerprint, same_cropper),
    )
    for kind, argument, part, fingerprint, same in looked_at:
        if argument in without:
            continue
        if not registry.is_registered(kind, part.name):
            try:
                registry.factory(kind, part.name)  # raises
            except UnknownNameError as error:
                raise UnknownNameError(f"{home}: {error}") from error
        places = _model_files(part, home, spec)
        if fingerprint is None or not places:
            continue
        try:
            if any(
                digest_of(place, at_most=_AT_ONCE) in {None, *_digests(fingerprint)}
                for place in places
            ):
                continue
        except ModelError:  # such as a missing second file
            continue
        same(spec, home, None)


def _model_files(part: Part, home: str, spec: GallerySpec) -> list[Path]:
    """Return the possible paths of a part that is one model file; empty for other parts."""
    stored = part.config.get("model")
    if part.name == "onnx" and isinstance(stored, str):
        return [Path(place) for place in candidates(stored, Path(home), spec.files)]
    builtin = builtin_file(part.name)
    return [] if builtin is None else [builtin]


def _digests(fingerprint: str) -> list[str]:
    return re.findall(r"sha256:([0-9a-f]{64})", fingerprint)


class _AskedPart(NamedTuple):
    """The part asked for, and its gallery."""

    kind: str
    part: Part
    spec: GallerySpec
    home: str
    fingerprint: str | None


def _same(
    asked: _AskedPart,
    given: Any,
    *,
    make: Callable[[Part], _Part],
    find: Callable[[Any], _Part],
    agrees: Callable[[_Part], bool],
    refuse: Callable[[_Part], NoReturn],
) -> LocatedPart[_Part]:
    place = _place(given)
    if given is not None and place is None:
        made = find(given)
        if not agrees(made):
            refuse(made)
        return LocatedPart(made, _mended(asked.part, made))
    others: list[_Part] = []
    errors: list[ImgretError] = []
    for part in _parts_at(asked, place):
        try:
            made = make(part)
        except ImgretError as error:
            errors.append(error)
            continue
        if agrees(made):
            return LocatedPart(made, part)
        others.append(made)
    if given is not None and not others:
        made = find(given)
        if not agrees(made):
            refuse(made)
        return LocatedPart(made, _mended(asked.part, made))
    if others:
        refuse(others[0])
    raise _lost(asked, errors[0]) from errors[0]


def _place(given: Any) -> str | None:
    """Return the absolute path of a model given by its path; None for anything else."""
    if isinstance(given, os.PathLike):
        return str(Path(given).absolute())
    kinds: tuple[registry.Kind, ...] = ("embedders", "croppers")
    known = isinstance(given, str) and any(registry.is_registered(kind, given) for kind in kinds)
    if isinstance(given, str) and not known and registry.is_model_path(given):
        return str(Path(given).absolute())
    return None


def _parts_at(asked: _AskedPart, place: str | None) -> Iterator[Part]:
    """Yield a part with possible places of its files, the likeliest first.

    If a place is given, one of its files is there.
    """
    stored = paths_in(asked.part.config)
    found = [candidates(one, Path(asked.home), asked.spec.files) or [one] for one in stored]
    if place is not None:
        found = [[place, *places] for places in found]
    for places in islice(product(*found), _MOST_PLACES):
        if place is None or place in places:
            at = dict(zip(stored, places, strict=True))
            yield Part(asked.part.name, replaced(asked.part.config, at.__getitem__))


def _mended(part: Part, made: Embedder | Cropper) -> Part:
    """Return the part with the file paths of the embedder or cropper that was given."""
    now = part_of(made)
    if now.name == part.name:
        return Part(part.name, taken_over(part.config, now.config))
    # For example a built-in model, if the gallery was made with a copy of its file.
    return now if made.name and paths_in(part.config) else part


def _lost(asked: _AskedPart, error: ImgretError) -> ImgretError:
    """Return an error that names the missing file, or the given error if none is missing."""
    at = {
        one: candidates(one, Path(asked.home), asked.spec.files)
        for one in paths_in(asked.part.config)
    }
    missing = [one for one, places in at.items() if not places]
    if not missing:
        if type(error) in {InvalidInputError, UnknownNameError}:
            return type(error)(f"{asked.home}: its {asked.kind} cannot be made: {error}")
        return error
    tried = [
        *missing,
        *(asked.spec.files[one] for one in missing if asked.spec.files.get(one, one) != one),
    ]
    return ModelError(
        f"{asked.home}: expected the {asked.kind} it was made with, {_told(asked.part)}, "
        f"fingerprint {(asked.fingerprint or 'unknown')[:19]}, found no file at "
        f"{' or '.join(tried)}; give its path as {asked.kind}=, or as --{asked.kind} on the "
        f"command line (`imgret relocate` stores it)"
    )


def check_given(spec: GallerySpec, home: str, given: Mapping[str, Any]) -> None:
    """Raise if an existing gallery does not have the properties asked of it."""
    for name, value in given.items():
        found: Any
        if isinstance(value, VectorIndex):
            value, found = part_of(value), spec.index  # noqa: PLW2901  # compare like with like
        else:
            found = spec.index.name if name == "index" else getattr(spec, name)
        if value is not None and value != found:
            remedy = (
                "reindex() or `imgret reindex` changes it"
                if name == "index"
                else "create a new gallery for that"
            )
            raise StoreMismatchError(
                f"{home}: expected {name} {found!r}, as it was made, found {value!r}; {remedy}"
            )


def _told(part: Part) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in part.config.items())
    return f"{part.name!r} ({options})" if options else repr(part.name)
