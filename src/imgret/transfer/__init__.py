"""Galleries to files and back: Parquet, ``.npz`` and CSV, and tables of other programs."""

from imgret.transfer.header import Header
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
    "Header",
    "Imported",
    "all_items",
    "export_items",
    "import_items",
    "load_items",
]
