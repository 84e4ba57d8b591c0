"""``imgret info``: the facts of a gallery."""

from __future__ import annotations

import json
from typing import Any

import typer

from imgret.cli.options import GalleryAt, Json

__all__ = ["info"]


def info(gallery: GalleryAt, json_: Json = False) -> None:
    """Show what a gallery is made of.

    imgret info photos.imgret

    No model is loaded.
    """
    from imgret.galleries.local.store import Store  # noqa: PLC0415

    store = Store.open(gallery, writable=False)
    try:
        manifest = store.manifest
        facts = {
            "path": str(gallery),
            "items": len(store.catalog),
            "labels": store.catalog.label_count(),
            "removed": store.catalog.rows - len(store.catalog),
            "dim": manifest.dim,
            "metric": manifest.metric,
            "dtype": manifest.dtype,
            "embedder": {"name": manifest.embedder.name, **manifest.embedder.config},
            "fingerprint": manifest.fingerprint,
            "cropper": {"name": manifest.cropper.name, **manifest.cropper.config},
            "index": {"name": manifest.index.name, **manifest.index.config},
            "tuned": _tuned(manifest.tuned),
            "projection": manifest.projection,
            "calibrated": manifest.calibration is not None,
            "text_calibrated": manifest.text_calibration is not None,
            "bytes": sum(file.stat().st_size for file in gallery.rglob("*") if file.is_file()),
            "created": manifest.created,
            "created_with": manifest.created_with,
        }
    finally:
        store.close()
    if json_:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            options = ", ".join(f"{k}={v!r}" for k, v in value.items() if k != "name")
            value = f"{value['name']} {options}".strip()  # noqa: PLW2901
        typer.echo(f"{name:<15} {_shown(value)}")


def _shown(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case _:
            return str(value)


def _tuned(tuned: Any) -> str | None:
    if tuned is None:
        return None
    settings = ", ".join(f"{name}={value}" for name, value in tuned["settings"].items())
    return f"{tuned['index']} {settings}"
