"""``imgret list``: the keys of a gallery."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command
from imgret.cli.where import filter_of, where_option
from imgret.support.terminal import shown

__all__ = ["list_keys"]


@click.command("list", cls=Command)
@options.gallery
@where_option
@click.option("--limit", type=options.COUNT, help="List no more than so many. [all]")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object per image.")
@click.option(
    "-0", "--null", is_flag=True, help="End each key with NUL, without labels, for xargs -0."
)
def list_keys(
    *, gallery: GalleryPlace, where: str | None, limit: int | None, json_: bool, null: bool
) -> None:
    """List the keys of a gallery, with their labels.

    imgret list photos.imgret --limit 20
    imgret list photos.imgret --where '{"label": "rose"}' -0 | xargs -0 imgret remove photos.imgret

    They are listed in the order they were added, each with its label after a tab.
    """
    from imgret import registry  # noqa: PLC0415  # so that --help is quick
    from imgret.transfer import all_items  # noqa: PLC0415  # the same

    if json_ and null:
        raise click.BadParameter("expected --json or -0, found both", param_hint="-0")
    condition, uri = filter_of(where), os.fspath(gallery)
    with closing(registry.gallery(uri).open(uri, writable=False)) as opened:
        view = all_items(opened, condition)
        out = sys.stdout
        for item in view.items(view.ids if limit is None else view.ids[:limit]):
            if null:
                out.write(f"{item.key}\0")
            elif json_:
                facts = {
                    "key": item.key,
                    "label": item.label,
                    "path": item.path,
                    "box": None if item.box is None else list(item.box),
                    "metadata": dict(item.metadata),
                }
                out.write(json.dumps(facts, ensure_ascii=False) + "\n")
            else:
                label = "" if item.label is None else f"\t{shown(item.label)}"
                out.write(f"{shown(item.key)}{label}\n")
        out.flush()
