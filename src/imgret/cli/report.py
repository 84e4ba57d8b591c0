"""``imgret report``: what a bug report has to say about the system and a gallery."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from imgret.cli import options
from imgret.cli.complete import complete_galleries
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Argument, Command
from imgret.support.terminal import shown
from imgret.version import __version__

if TYPE_CHECKING:
    from imgret.types import Json as Json_

__all__ = ["report"]

# Installed under several names, such as onnxruntime-gpu.
_MODULES = ("cv2", "faiss", "onnxruntime")
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "IMGRET_HUGE_PAGES",
)
# Facts of `imgret info` that name nothing of the user's.
_GALLERY = (
    "items",
    "labels",
    "removed",
    "removed_bytes",
    "left_over_bytes",
    "dim",
    "metric",
    "dtype",
    "embedder",
    "cropper",
    "index",
    "tuned",
    "calibrated",
    "text_calibrated",
    "bytes",
    "created",
    "created_with",
)
_HIDDEN = "..."


@click.command(cls=Command)
@click.argument(
    "gallery",
    cls=Argument,
    required=False,
    type=GalleryPlace,
    shell_complete=complete_galleries,
    help="Directory or URI of a gallery that the report is about.",
)
@options.json
def report(*, gallery: GalleryPlace | None, json_: bool) -> None:
    """Print what a bug report has to say about your system.

    imgret report
    imgret report photos.imgret

    Versions, processor, execution providers and threads; of a gallery, its sizes and settings.
    Paths, keys, labels and the names of users, computers and servers are left out.
    """
    facts = _of_system()
    if gallery is not None:
        facts["gallery"] = _of_gallery(gallery)
    if json_:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            click.echo(name)
            for key, one in value.items():
                click.echo(f"  {key:<24} {_text(one)}")
        else:
            click.echo(f"{name:<26} {_text(value)}")


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case str():
            return shown(value)
        case [*names]:
            return ", ".join(names)
        case _:
            return json.dumps(value)


def _of_system() -> Json_:
    from imgret.indexes.faiss import faiss  # noqa: PLC0415  # so that --help is quick
    from imgret.models.session import available_providers  # noqa: PLC0415  # the same

    return {
        "imgret": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": platform.platform(),
        "processor": _processor(),
        "cores": f"{_usable_cores()} of {os.cpu_count()}",
        "memory_bytes": _memory(),
        "execution_providers": available_providers(),
        "faiss": faiss.get_compile_options().strip(),
        "blas": _blas(),
        "openmp_threads": faiss.omp_get_max_threads(),
        "environment": {
            variable: value if (value := os.environ[variable]).isdigit() else _HIDDEN
            for variable in _VARIABLES
            if variable in os.environ
        },
        "packages": dict(_packages()),
    }


def _processor() -> str:
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        described = ""
    found = re.search(r"^model name\s*: (.+)$", described, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int | None:
    """Return the size of the memory in bytes; None where the system does not tell."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _blas() -> list[str]:
    """Return the BLAS libraries of NumPy and Faiss, with their numbers of threads."""
    import numpy as np  # noqa: F401, PLC0415  # which loads it
    from threadpoolctl import threadpool_info  # noqa: PLC0415  # so that --help is quick

    return [
        f"{library['internal_api']} {library['version']} ({library['num_threads']} threads)"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]


def _packages() -> Iterator[tuple[str, str | None]]:
    """Yield the packages that imgret can use, and those of plugins, with their versions.

    Packages that are not installed are left out, unless imgret cannot do without them.
    """
    from importlib import metadata  # noqa: PLC0415  # so that --help is quick

    try:
        stated = metadata.requires("imgret") or []
    except metadata.PackageNotFoundError:  # run from a copy of the source
        stated = []
    needs = [need for need in stated if not need.startswith("imgret")]
    names = {need: re.split(r"[^\w.-]", need, maxsplit=1)[0] for need in needs}
    required = {name for need, name in names.items() if "extra ==" not in need}
    providing = metadata.packages_distributions()
    there = {name for module in _MODULES for name in providing.get(module, [])}
    plugins = {each.partition(":")[0] for _, origin in _parts() for each in origin.split("; ")}
    for name in sorted({*names.values(), *there, *plugins} - {"imgret"}):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in required:
                yield name, None


def _of_gallery(gallery: GalleryPlace) -> Json_:
    from imgret.cli.info import facts_of  # noqa: PLC0415  # so that --help is quick
    from imgret.errors import StoreError, StoreNotFoundError  # noqa: PLC0415  # the same

    scheme = os.fspath(gallery).partition("://")[0]
    where = {"stored_in": "directory" if gallery.directory is not None else scheme}
    try:
        facts = facts_of(gallery)
    except StoreNotFoundError:
        raise
    except StoreError as error:  # its message names the gallery
        return where | {"error": type(error).__name__}
    left_over = {"left_over": len(facts["left_over"])} if "left_over" in facts else {}
    known = _known_words()
    settings = {
        name: _option(facts[name], known) if isinstance(facts[name], dict) else facts[name]
        for name in _GALLERY
        if name in facts
    }
    return where | settings | left_over | {"projected": facts["projection"] is not None}


def _parts() -> list[tuple[str, str]]:
    """Return the names of all installed parts, with the packages they come from."""
    from imgret import registry  # noqa: PLC0415  # so that --help is quick

    return [part for kind in get_args(registry.Kind) for part in registry.names(kind).items()]


def _known_words() -> frozenset[str]:
    """Return the texts in options that say nothing of the user: names of parts and models."""
    from imgret.models import available  # noqa: PLC0415  # so that --help is quick

    return frozenset({*available(), *(name for name, _ in _parts())})


def _option(value: Any, known: frozenset[str]) -> Any:
    """Return an option of a part; a text that is not a known word may be a path or a name."""
    match value:
        case str():
            return value if value in known or value.startswith("faiss:") else _HIDDEN
        case dict():
            return {key: _option(each, known) for key, each in value.items()}
        case list():
            return [_option(each, known) for each in value]
        case _:
            return value
