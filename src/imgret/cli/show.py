"""``imgret show``: everything known of some images."""

from __future__ import annotations

import json
import os
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from imgret.cli import options
from imgret.cli.gallery_at import GalleryPlace
from imgret.cli.help import Command
from imgret.support.terminal import shown

if TYPE_CHECKING:
    from imgret.types import Item

__all__ = ["show"]


@click.command(cls=Command)
@options.gallery
@options.keys("Keys, as `imgret list` prints them.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object per image.")
def show(*, gallery: GalleryPlace, keys: tuple[str, ...], json_: bool) -> None:
    """Show everything that is known of some images.

    imgret show photos.imgret rose/001.jpg

    No model is loaded. Exits with 3 if a key is unknown, and with 1 if all are.
    """
    from imgret import registry  # noqa: PLC0415  # so that --help is quick
    from imgret.support.spelling import near  # noqa: PLC0415  # the same

    uri, lost = os.fspath(gallery), 0
    with closing(registry.gallery(uri).open(uri, writable=False)) as opened:
        found = opened.match(keys)
        first = True
        for key in keys:
            if key not in found:
                lost += 1
                hint = near(key, opened)
                click.echo(
                    f"imgret: error: key: expected one of the {len(opened)} in the gallery, found "
                    f"{key!r}{'; near it: ' + ', '.join(map(repr, hint)) if hint else ''}",
                    err=True,
                )
                continue
            if json_:
                click.echo(json.dumps(_facts(found[key]), ensure_ascii=False))
            else:
                click.echo(("" if first else "\n") + _text(found[key]))
            first = False
    if lost:
        raise click.exceptions.Exit(3 if lost < len(keys) else 1)


def _facts(item: Item) -> dict[str, Any]:
    modified = None
    if item.mtime_ns is not None:
        modified = datetime.fromtimestamp(item.mtime_ns // 10**9, UTC).isoformat()
    return {
        "key": item.key,
        "label": item.label,
        "path": item.path,
        "path_exists": _exists(item.path),
        "box": None if item.box is None else list(item.box),
        "cropped": item.subject,
        "size": item.size,
        "modified": modified,
        "sha256": None if item.sha256 is None else item.sha256.hex(),
        "phash": None if item.phash is None else item.phash.hex(),
        "metadata": dict(item.metadata),
    }


def _exists(path: str | None) -> bool | None:
    """Whether a file, or a member of an archive, exists; None for addresses, which take a while."""
    from imgret.errors import ImgretError  # noqa: PLC0415  # the same
    from imgret.files import is_url, state_of  # noqa: PLC0415  # the same

    if path is None or is_url(path):
        return None
    try:
        state_of(path)
    except (OSError, ValueError, ImgretError):
        return False
    return True


def _text(item: Item) -> str:
    facts = _facts(item)
    metadata = facts.pop("metadata")
    if facts.pop("path_exists") is False:
        facts["path"] += " (missing)"
    if item.box is not None:
        whole = "the crop" if facts["cropped"] else "the whole image"
        facts["box"] = f"{', '.join(map(str, item.box))} ({whole})"
    if item.size is not None:
        facts["size"] = f"{item.size:,} bytes"
    del facts["key"], facts["cropped"]
    lines = [shown(item.key)]
    lines += [
        f"  {name:<10}{shown(str(value))}" for name, value in facts.items() if value is not None
    ]
    if metadata:
        lines.append("  metadata")
        width = max(map(len, metadata)) + 2
        lines += [
            f"    {shown(name):<{width}}"
            + shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for name, value in metadata.items()
        ]
    return "\n".join(lines)
