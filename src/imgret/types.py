"""Data types used throughout imgret.

============== ==================================================================
``Image``       uint8 ``(H, W, 3)``, RGB, EXIF orientation applied
``ImageLike``   path, bytes, binary file object, ``Image``, PIL image
``Embeddings``  C-contiguous float32 ``(n, d)``, finite
``Ids``         int64 ``(n,)``, unique, >= 0; internal, the public API uses string keys
``Box``         half-open pixel box ``(x0, y0, x1, y1)``, never empty
``Metric``      ``"cosine"``, ``"ip"`` or ``"l2"``; see ``imgret.support.metric``
============== ==================================================================

Scores are higher-is-better for every metric: cosine similarity, inner product, or minus
the squared Euclidean distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeGuard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image: TypeAlias = NDArray[np.uint8]
    Embeddings: TypeAlias = NDArray[np.float32]
    Ids: TypeAlias = NDArray[np.int64]

    from imgret.support.metric import DistanceMetric

    Metric: TypeAlias = Literal["cosine", "ip", "l2"] | DistanceMetric
else:  # the names exist at run time without importing NumPy
    Image = Embeddings = Ids = Metric = Any

__all__ = [
    "Box",
    "Dtype",
    "Embeddings",
    "Hit",
    "Ids",
    "Image",
    "ImageLike",
    "Item",
    "Json",
    "Metric",
    "Neighbors",
    "Part",
]

ImageLike: TypeAlias = str | PathLike[str] | bytes | IO[bytes] | Any
Json: TypeAlias = dict[str, Any]
Dtype: TypeAlias = Literal["float16", "float32"]


class Box(NamedTuple):
    """A half-open pixel box: columns ``x0 <= x < x1``, rows ``y0 <= y < y1``.

    Coordinates count pixels of the image as shown, EXIF orientation applied, from the
    top left corner.
    """

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Width in pixels, at least 1."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Height in pixels, at least 1."""
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        """Pixels inside the box."""
        return self.width * self.height

    @classmethod
    def full(cls, image: Image) -> Box:
        """Box of the whole image."""
        height, width = image.shape[:2]
        return cls(0, 0, width, height)

    def iou(self, other: Box) -> float:
        """Return the intersection over union with another box, from 0 to 1."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        common = max(0, width) * max(0, height)
        return common / (self.area + other.area - common)

    def clip(self, width: int, height: int) -> Box:
        """Return the nearest non-empty box inside a ``width`` x ``height`` image."""
        x0 = min(max(self.x0, 0), width - 1)
        y0 = min(max(self.y0, 0), height - 1)
        return Box(x0, y0, max(min(self.x1, width), x0 + 1), max(min(self.y1, height), y0 + 1))

    def scale(self, x: float, y: float) -> Box:
        """Return the smallest whole-pixel box that covers this one after scaling."""
        return Box(
            int(self.x0 * x),
            int(self.y0 * y),
            -int(-self.x1 * x // 1),
            -int(-self.y1 * y // 1),
        )


class Neighbors(NamedTuple):
    """The answer of an index to ``n`` queries.

    Attributes
    ----------
    ids : int64 array of shape (n, k)
        Ids of the neighbours, best first; -1 where fewer than ``k`` exist.
    scores : float32 array of shape (n, k)
        Scores of the neighbours, higher is better; -inf where the id is -1.
    """

    ids: Ids
    scores: Embeddings


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found for a query.

    Attributes
    ----------
    key : str
        Name of the item in the gallery.
    score : float
        Similarity to the query, higher is better.
    rank : int
        Rank of the hit, 1 for the best.
    label : str or None
        Class name, if the item has one.
    metadata : mapping
        Metadata stored with the item.
    path : str or None
        File the item was read from, if it came from one.
    box : Box or None
        Part of the image that was embedded; None for vectors added without an image.
    distance : float or None
        Squared Euclidean distance, for metric ``"l2"`` only.
    probability : float or None
        Probability that the hit is of the query's class. None if `Retriever.calibrate` has not
        been called, or was called for scores of another kind.
    sha256 : bytes or None
        Digest of the file that was embedded, if it is known.
    """

    key: str
    score: float
    rank: int
    label: str | None
    metadata: Mapping[str, Any]
    path: str | None
    box: Box | None
    distance: float | None = None
    probability: float | None = None
    sha256: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Part:
    """A part, described by its registered name and the JSON options to create it with."""

    name: str
    config: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a gallery, without its vector.

    Attributes
    ----------
    key : str
        Name of the item, unique in the gallery.
    path : str or None
        File the item was read from; of a member of an archive, the path of the archive and the
        name in it; or an address such as ``s3://bucket/a.jpg``.
    sha256 : bytes or None
        Digest of that file.
    size, mtime_ns : int or None
        Size of that file in bytes, and its modification time in nanoseconds; the time of a member
        is that of the archive.
    box : Box or None
        Part of the image that was embedded; None for a vector added without an image.
    subject : bool
        Whether the cropper found the box; False if the box is the whole image.
    label : str or None
        Class name.
    metadata : mapping
        Mapping of JSON values.
    phash : bytes or None
        Perceptual hash of the whole image, 8 bytes: see `imgret.images.perceptual_hash`. None for
        a vector added without an image, and for an image that an older imgret added.
    """

    key: str
    path: str | None = None
    sha256: bytes | None = None
    size: int | None = None
    mtime_ns: int | None = None
    box: Box | None = None
    subject: bool = False
    label: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    phash: bytes | None = None


def is_text(value: object) -> TypeGuard[str]:
    """Whether the value is a str that UTF-8 can encode; some file names are not."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
