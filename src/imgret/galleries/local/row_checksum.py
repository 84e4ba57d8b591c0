"""The checksum of a row of the catalog, which finds damage to keys, labels, metadata and the rest."""

from __future__ import annotations

from typing import Any
from zlib import crc32

__all__ = ["row_checksum"]


def row_checksum(row: tuple[Any, ...]) -> int:
    """Return the CRC-32 of what a row says of a live item.

    Parameters
    ----------
    row : tuple
        ``id``, then the columns of the item in the order of the documentation of the format. What
        follows is ignored. Made into one text in a single step, as this runs for every row read.
    """
    (
        id_, key, path, sha256, size, mtime_ns, x0, y0, x1, y1, subject, label, metadata, phash,
    ) = row[:14]  # fmt: skip
    text = (
        f"{id_}\x1f{key}\x1f{path}\x1f{sha256 and sha256.hex()}\x1f{size}\x1f{mtime_ns}\x1f{x0}\x1f{y0}"
        f"\x1f{x1}\x1f{y1}\x1f{subject}\x1f{label}\x1f{metadata}\x1f{phash and phash.hex()}"
    )
    return crc32(text.encode())
