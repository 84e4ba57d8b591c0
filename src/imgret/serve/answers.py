"""The JSON that a server answers with, also read by its description (OpenAPI)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

__all__ = [
    "Change",
    "Changed",
    "ChoiceFacts",
    "DuplicateFacts",
    "DuplicateGroupFacts",
    "DuplicatesFacts",
    "Error",
    "ErrorFacts",
    "ExplanationFacts",
    "FacetFacts",
    "GalleryFacts",
    "HitFacts",
    "IndexingFacts",
    "ItemFacts",
    "ItemPage",
    "MapFacts",
    "NameFacts",
    "RegionFacts",
    "SearchPage",
]


class ErrorFacts(BaseModel):
    """What went wrong."""

    kind: str
    message: str


class Error(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorFacts


class ChoiceFacts(BaseModel):
    """A folder that can be indexed."""

    id: str
    name: str
    images: int


class IndexingFacts(BaseModel):
    """The state of indexing; ``none`` if there is no gallery and nothing was chosen."""

    state: str
    folder: str | None = None
    done: int = 0
    total: int = 0
    failed: int = 0
    message: str = ""
    choices: list[ChoiceFacts] = []


class GalleryFacts(BaseModel):
    """The gallery that is served."""

    name: str
    items: int
    labels: int
    embedder: str
    dim: int
    metric: str
    reads_text: bool
    writable: bool
    calibrated: bool
    hits: int = Field(description="Most hits that can be paged through.")
    version: str


class HitFacts(BaseModel):
    """One hit."""

    key: str
    rank: int
    score: float
    label: str | None
    probability: float | None = None
    box: tuple[int, int, int, int] | None = None
    metadata: dict[str, Any]
    image: bool = Field(description="Whether the item has an image.")


class SearchPage(BaseModel):
    """Some of the hits of a query."""

    hits: list[HitFacts]
    offset: int
    more: bool = Field(description="Whether there are further hits.")
    no_match: str = Field(description="Why there are no hits; empty if there are some.")
    box: tuple[int, int, int, int] | None = Field(
        default=None, description="The part of the query image that was searched with."
    )
    size: tuple[int, int] | None = Field(
        default=None, description="Width and height of the query image."
    )
    seconds: float


class ItemFacts(BaseModel):
    """One item."""

    key: str
    label: str | None
    metadata: dict[str, Any]
    box: tuple[int, int, int, int] | None = None
    image: bool
    size: tuple[int, int] | None = Field(
        default=None, description="Width and height of its image, if it can be read."
    )


class ItemPage(BaseModel):
    """Some of the items."""

    items: list[ItemFacts]
    offset: int
    total: int


class FacetFacts(BaseModel):
    """A field of the items, with its values."""

    field: str
    items: int
    distinct: int
    values: list[dict[str, Any]]
    least: float | None
    most: float | None


class RegionFacts(BaseModel):
    """A region of the query, and that of the hit which corresponds to it."""

    query: tuple[int, int, int, int]
    hit: tuple[int, int, int, int]
    share: float


class ExplanationFacts(BaseModel):
    """Why a hit is similar to a query."""

    method: str
    reason: str
    score: float
    query: str | None = Field(description="Heat over the query image, as a data URL of a JPEG.")
    hit: str = Field(description="Heat over the image of the hit, in the same form.")
    regions: list[RegionFacts]


class NameFacts(BaseModel):
    """The class of an image."""

    label: str | None
    confidence: float
    threshold: float
    votes: dict[str, float]


class DuplicateFacts(BaseModel):
    """A file of a group of duplicates."""

    key: str
    width: int = Field(description="Pixels; 0 if the image cannot be read.")
    height: int
    size: int | None = Field(description="Bytes, as indexed.")
    mtime_ns: str | None = Field(description="Modification time; as text, for its length.")
    modified: str = Field(description="The same in the time of the server.")
    sharpness: float | None
    problem: str = Field(description="Why the file cannot be moved; empty if it can.")


class DuplicateGroupFacts(BaseModel):
    """Files that are almost the same."""

    score: float
    best: int = Field(description="Position of the file to keep.")
    files: list[DuplicateFacts]


class DuplicatesFacts(BaseModel):
    """The state of a search for duplicates, and what it has found."""

    state: str = Field(description="running, done or failed")
    done: int
    total: int
    message: str
    groups: list[DuplicateGroupFacts]
    hidden: int = Field(description="Number of groups that are not listed.")
    removable: int = Field(description="Number of images beyond one of each group.")
    unhashed: int = Field(description="Number of images that could not be compared.")
    format: str = Field(description="What a list of files says of itself.")


class MapFacts(BaseModel):
    """The state of a layout of the items in the plane, and the layout once it is done."""

    state: str = Field(description="running or done")
    done: int
    total: int
    method: str = ""
    note: str = Field(default="", description="What the reader of the map should know.")
    keys: list[str] = []
    labels: list[str | None] = []
    x: list[float] = []
    y: list[float] = []


class Change(BaseModel):
    """A change of an item; what is left out stays."""

    label: str | None = None
    expected: str | None = Field(
        default=None, description="The label that the item is thought to have."
    )


class Changed(BaseModel):
    """The item after a change, or the number of items removed."""

    key: str
    label: str | None = None
    removed: bool = False
