"""Galleries to files and back, and to other galleries: Parquet, ``.npz``, CSV, other programs."""

from imgret.transfer.copy import CopyReport, copy_gallery
from imgret.transfer.header import GalleryHeader
from imgret.transfer.run import (
    FORMATS,
    Imported,
    all_items,
    export_items,
    import_items,
    load_items,
)

__all__ = [
    "FORMATS",
    "CopyReport",
    "GalleryHeader",
    "Imported",
    "all_items",
    "copy_gallery",
    "export_items",
    "import_items",
    "load_items",
]
