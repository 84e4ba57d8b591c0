"""From files to items: finding images, reading and embedding them, committing them."""

from imgret.ingest.metadata import Metadata, Sidecar, describe, read_sidecar
from imgret.ingest.report import IngestInterrupted, IngestReport, Line
from imgret.ingest.run import ingest, ingest_folder
from imgret.ingest.several import ingest_from
from imgret.ingest.sources import (
    Labels,
    folder_sources,
    list_sources,
    need_new,
    one_each,
    vector_items,
)
from imgret.ingest.writer import Writer
from imgret.pipeline.embed import Existing, Source, embed_sources, path_of

__all__ = [
    "Existing",
    "IngestInterrupted",
    "IngestReport",
    "Labels",
    "Line",
    "Metadata",
    "Sidecar",
    "Source",
    "Writer",
    "describe",
    "embed_sources",
    "folder_sources",
    "ingest",
    "ingest_folder",
    "ingest_from",
    "list_sources",
    "need_new",
    "one_each",
    "path_of",
    "read_sidecar",
    "vector_items",
]
