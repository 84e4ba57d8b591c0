"""``imgret info``: the facts of a gallery."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgret.cli import options
from imgret.cli.help import Command
from imgret.support.terminal import shown

if TYPE_CHECKING:
    from imgret.abc import GallerySpec
    from imgret.cli.gallery_at import GalleryPlace
    from imgret.types import Json as Json_

__all__ = ["facts_of", "info"]


@click.command(cls=Command)
@options.gallery
@options.json
def info(*, gallery: GalleryPlace, json_: bool) -> None:
    """Show what a gallery is made of.

    imgret info photos.imgret

    No model is loaded. What is removed takes room until more than half of the items are, or until
    `imgret compact`; what is left over goes when the gallery is next opened for writing.
    """
    facts = facts_of(gallery)
    if json_:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            options = ", ".join(f"{k}={v!r}" for k, v in value.items() if k != "name")
            value = f"{value['name']} {options}".strip()  # noqa: PLW2901
        click.echo(f"{name:<15} {_shown(value)}")


def facts_of(gallery: GalleryPlace) -> Json_:
    """Return the facts of a gallery by name, as JSON values."""
    path = gallery.directory
    return _of_server(os.fspath(gallery)) if path is None else _of_directory(path)


def _of_directory(path: Path) -> Json_:
    from imgret.galleries.local.store import Store  # noqa: PLC0415  # so that --help is quick

    with closing(Store.open(path, writable=False)) as store:
        manifest, catalog, waste = store.manifest, store.catalog, store.waste()
        return {
            "path": str(path),
            "items": len(catalog),
            "labels": catalog.label_count(),
            "images_below": catalog.common_folder(),
            "removed": waste.rows,
            "removed_bytes": waste.bytes,
            "left_over": [str(left) for left in waste.left_over],
            "left_over_bytes": waste.left_over_bytes,
            **_parts(manifest),
            "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
            "created": manifest.created,
            "created_with": manifest.created_with,
        }


def _of_server(uri: str) -> Json_:
    from imgret import registry  # noqa: PLC0415  # so that --help is quick

    with closing(registry.gallery(uri).open(uri, writable=False)) as gallery:
        return {
            "path": gallery.name,
            "items": len(gallery),
            "labels": len(gallery.view().labels.names),
            **_parts(gallery.spec),
        }


def _parts(spec: GallerySpec) -> Json_:
    return {
        "dim": spec.dim,
        "metric": spec.metric,
        "dtype": spec.dtype,
        "embedder": {"name": spec.embedder.name, **spec.embedder.config},
        "fingerprint": spec.fingerprint,
        "cropper": {"name": spec.cropper.name, **spec.cropper.config},
        "index": {"name": spec.index.name, **spec.index.config},
        "tuned": _tuned(spec.tuned),
        "projection": spec.projection,
        "calibrated": spec.calibration is not None,
        "text_calibrated": spec.text_calibration is not None,
    }


def _shown(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list():
            return shown(", ".join(value)) if value else "-"
        case _:
            return shown(str(value))


def _tuned(tuned: Any) -> str | None:
    if tuned is None:
        return None
    settings = ", ".join(f"{name}={value}" for name, value in tuned["settings"].items())
    return f"{tuned['index']} {settings}"
