"""``imgret check``: damage to the files of a gallery."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from imgret.cli.options import GalleryAt, Json

if TYPE_CHECKING:
    from imgret.galleries.report import CheckReport

__all__ = ["check"]


def check(
    gallery: GalleryAt,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair the damage; every sound item is kept.")
    ] = False,
    json_: Json = False,
) -> None:
    """Check the files of a gallery for damage.

    imgret check photos.imgret
    imgret check photos.imgret --repair

    Exits with 3 if something is damaged, or if a repair had to remove items.
    """
    report = _checked(gallery, repair=repair)
    typer.echo(report.to_json() if json_ else str(report))
    if report.lost or not (report.ok or report.repaired):
        raise typer.Exit(3)


def _checked(gallery: GalleryAt, *, repair: bool) -> CheckReport:
    if gallery.directory is not None:
        from imgret.galleries.local.check import check_directory  # noqa: PLC0415  # so that --help is quick

        return check_directory(gallery.directory, repair=repair)
    from imgret import registry  # noqa: PLC0415  # the same

    uri = os.fspath(gallery)
    with closing(registry.gallery(uri).open(uri, writable=repair)) as opened:
        return opened.check(repair=repair)
