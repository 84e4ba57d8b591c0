"""``imgret check``: damage to the files of a gallery."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command

if TYPE_CHECKING:
    from imgret.galleries.report import CheckReport

__all__ = ["check"]


@click.command(cls=Command)
@options.gallery
@click.option("--repair", is_flag=True, help="Repair the damage; every sound item is kept.")
@options.json
def check(*, gallery: GalleryPlace, repair: bool, json_: bool) -> None:
    """Check the files of a gallery for damage.

    imgret check photos.imgret
    imgret check photos.imgret --repair

    Exits with 3 if something is damaged, or if a repair had to remove items.
    """
    report = _checked(gallery, repair=repair)
    click.echo(report.to_json() if json_ else str(report))
    if report.lost or not (report.ok or report.repaired):
        raise click.exceptions.Exit(3)


def _checked(gallery: GalleryPlace, *, repair: bool) -> CheckReport:
    if gallery.directory is not None:
        from imgret.galleries.local.check import check_directory  # noqa: PLC0415  # so that --help is quick

        return check_directory(gallery.directory, repair=repair)
    from imgret import registry  # noqa: PLC0415  # the same

    uri = os.fspath(gallery)
    with closing(registry.gallery(uri).open(uri, writable=repair)) as opened:
        return opened.check(repair=repair)
