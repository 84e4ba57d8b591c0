"""Whether what is asked of a gallery agrees with what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgret.abc import Cropper, Embedder, VectorIndex
from imgret.errors import InvalidInputError, StoreMismatchError
from imgret.parts import (
    find_cropper,
    find_embedder,
    index_part,
    make_cropper,
    make_embedder,
    part_of,
)
from imgret.storage import Manifest, Part
from imgret.storage.vectors import Dtype
from imgret.types import Metric, check_metric

__all__ = ["check_given", "new_manifest", "same_cropper", "same_embedder"]


def new_manifest(
    embedder: Embedder,
    cropper: Cropper,
    index: str | VectorIndex,
    metric: Metric,
    dtype: Dtype,
) -> tuple[Manifest, VectorIndex | None]:
    """Return what a new gallery is made of, and the index object where one was given."""
    metric = check_metric(metric)
    if dtype not in {"float16", "float32"}:
        raise InvalidInputError(f"dtype: expected 'float16' or 'float32', found {dtype!r}")
    part, prepared = index_part(index, {}, embedder.dim, metric)
    manifest = Manifest(
        dim=embedder.dim,
        metric=metric,
        dtype=dtype,
        embedder=part_of(embedder),
        fingerprint=embedder.fingerprint,
        cropper=part_of(cropper),
        index=part,
    )
    return manifest, prepared


def same_embedder(manifest: Manifest, path: Path, given: str | Embedder | None) -> Embedder:
    """Return the embedder a gallery was made with, or raise if it is another now."""
    made = make_embedder(manifest.embedder) if given is None else find_embedder(given)
    if made.fingerprint != manifest.fingerprint or made.dim != manifest.dim:
        raise StoreMismatchError(
            f"{path}: expected the embedder it was made with, {manifest.embedder.name!r} "
            f"({manifest.dim}-d, fingerprint {manifest.fingerprint[:19]}), found "
            f"{made.name or type(made).__name__!r} ({made.dim}-d, fingerprint "
            f"{made.fingerprint[:19]}); open it with the former, or make it anew with "
            f"Retriever.reembed({str(path)!r}, embedder=...)"
        )
    return made


def same_cropper(manifest: Manifest, path: Path, given: str | Cropper | None) -> Cropper:
    """Return the cropper a gallery was made with, or raise if another is given."""
    if given is None:
        return make_cropper(manifest.cropper)
    made = find_cropper(given)
    if part_of(made) != manifest.cropper:
        raise StoreMismatchError(
            f"{path}: expected the cropper it was made with, {_told(manifest.cropper)}, found "
            f"{_told(part_of(made))}; leave it out, or make the gallery anew with "
            f"Retriever.reembed({str(path)!r}, cropper=...)"
        )
    return made


def check_given(manifest: Manifest, path: Path, given: Mapping[str, Any]) -> None:
    """Raise if what is asked of an existing gallery is not what it is."""
    for name, value in given.items():
        found: Any
        if isinstance(value, VectorIndex):
            value, found = part_of(value), manifest.index  # noqa: PLW2901  # compare like with like
        else:
            found = manifest.index.name if name == "index" else getattr(manifest, name)
        if value is not None and value != found:
            remedy = (
                "reindex() or `imgret reindex` changes it"
                if name == "index"
                else "make a new gallery for that"
            )
            raise StoreMismatchError(
                f"{path}: expected {name} {found!r}, as it was made, found {value!r}; {remedy}"
            )


def _told(part: Part) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in part.config.items())
    return f"{part.name!r} ({options})" if options else repr(part.name)
