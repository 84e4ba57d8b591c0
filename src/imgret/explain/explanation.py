"""The explanation of a match, as heat maps, regions and a page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgret import images
from imgret.pages.result import Result
from imgret.support.terminal import plain
from imgret.types import Box, Image, Json

__all__ = ["Explanation", "HeatMap", "Method", "Region"]

Method: TypeAlias = Literal["exact", "occlusion"]


@dataclass(frozen=True, eq=False)
class HeatMap:
    """What each place of an image adds to a score.

    Attributes
    ----------
    values : float32 array of shape (h, w)
        What each place adds to the score; negative where a place works against the match.
    area : tuple of float
        The part of the image that the grid covers, ``(x0, y0, x1, y1)`` in pixels of the full-size
        image, EXIF orientation applied. Its places divide it evenly. It goes beyond the image
        where a network sees bars.
    box : Box
        The part of the image that was embedded.
    size : (int, int)
        Width and height of the full-size image.
    rest : float
        What is left of the score without the places: the score of an empty image for the exact
        method, the score minus the sum of the values for occlusion.
    image : uint8 array of shape (H, W, 3)
        The whole image; a large JPEG at reduced scale.
    """

    values: NDArray[np.float32]
    area: tuple[float, float, float, float]
    box: Box
    size: tuple[int, int]
    rest: float
    image: Image

    def pixels(self) -> NDArray[np.float32]:
        """Return the heat of each pixel of `image`, interpolated between the places.

        Returns
        -------
        float32 array of shape (H, W)
            In the scale of `values`; 0 outside the box and where the embedder does not look.
        """
        height, width = self.image.shape[:2]
        x, y = width / self.size[0], height / self.size[1]
        rows = _weights(
            self.values.shape[0],
            (self.area[1] * y, self.area[3] * y),
            (self.box.y0 * y, self.box.y1 * y),
            height,
        )
        columns = _weights(
            self.values.shape[1],
            (self.area[0] * x, self.area[2] * x),
            (self.box.x0 * x, self.box.x1 * x),
            width,
        )
        found: NDArray[np.float32] = (rows @ self.values @ columns.T).astype(np.float32)
        return found

    def overlay(self) -> Image:
        """Return `image` with red where a place adds more to the score than the average place.

        Returns
        -------
        uint8 array of shape (H, W, 3)
        """
        mean, most = float(self.values.mean()), float(self.values.max())
        above = (self.pixels() - mean) / max(most - mean, 1e-12)
        return images.tint(self.image, np.where(self.shown(), above, 0).astype(np.float32))

    def shown(self) -> NDArray[np.bool_]:
        """Return which pixels of `image` the embedder sees: bool, shape (H, W)."""
        seen: NDArray[np.bool_] = replace(self, values=np.ones_like(self.values)).pixels() > 0
        return seen

    def to_dict(self) -> Json:
        """Return everything but the image as JSON values."""
        return {
            "values": self.values.tolist(),
            "area": list(self.area),
            "box": list(self.box),
            "size": list(self.size),
            "rest": self.rest,
        }


def _weights(
    n: int, area: tuple[float, float], box: tuple[float, float], length: int
) -> NDArray[np.float64]:
    """Return the weights of ``n`` places, which divide an area evenly, for each pixel.

    Between the centres of two places their weights change linearly. Pixels outside the area or the
    box have no weight.
    """
    centres = np.arange(length) + 0.5
    at = (centres - area[0]) * n / (area[1] - area[0]) - 0.5
    weights: NDArray[np.float64] = np.maximum(
        0, 1 - np.abs(np.clip(at, 0, n - 1)[:, None] - np.arange(n))
    )
    weights[(centres < max(area[0], box[0])) | (centres > min(area[1], box[1]))] = 0
    return weights


class Region(NamedTuple):
    """A region of the query and the region of the hit that corresponds to it.

    Attributes
    ----------
    query, hit : Box
        Boxes in pixels of the full-size images.
    share : float
        What the pair of regions adds, as a share of what all pairs of places add: 0 to 1.
    """

    query: Box
    hit: Box
    share: float


@dataclass(frozen=True, eq=False)
class Explanation(Result):
    """Explanation of the score of a query and a hit.

    Attributes
    ----------
    score : float
        Score of the two images as they are now.
    method : {"exact", "occlusion"}
        ``"exact"``: the places of each map add up to the score, except for its ``rest``.
        ``"occlusion"``: the heat of a place is how much the score drops when it is hidden.
    reason : str
        Why the exact method was not used; empty if it was, or if occlusion was asked for.
    query : HeatMap or None
        Heat map of the query image; None for a text.
    hit : HeatMap
        Heat map of the hit.
    regions : tuple of Region
        The regions that correspond best, best first; empty for a text.
    query_name, hit_name : str
        File name of the query, or its text, and the key of the hit or its file name.
    """

    score: float
    method: Method
    reason: str
    query: HeatMap | None
    hit: HeatMap
    regions: tuple[Region, ...]
    query_name: str
    hit_name: str

    @property
    def query_map(self) -> NDArray[np.float32] | None:
        """The values of the query's heat map: float32, shape (h, w); None for a text."""
        return None if self.query is None else self.query.values

    @property
    def hit_map(self) -> NDArray[np.float32]:
        """The values of the hit's heat map: float32, shape (h, w)."""
        return self.hit.values

    def to_dict(self) -> Json:
        """Return everything but the images as JSON values."""
        return {
            "query": self.query_name,
            "hit": self.hit_name,
            "score": self.score,
            "method": self.method,
            "reason": self.reason,
            "query_map": None if self.query is None else self.query.to_dict(),
            "hit_map": self.hit.to_dict(),
            "regions": [
                {"query": list(each.query), "hit": list(each.hit), "share": each.share}
                for each in self.regions
            ],
        }

    def to_html(self, *, title: str | None = None) -> str:
        """Return a self-contained page: both images with their heat, the regions linked."""
        from imgret.pages import explanation as page  # noqa: PLC0415  # only when drawn

        return page.page(self, title=title or f"{self.query_name} and {self.hit_name}")

    def _body(self) -> str:
        from imgret.pages import explanation as page  # noqa: PLC0415  # only when drawn

        return page.body(self)

    def __str__(self) -> str:
        how = "the places add up to the score" if self.method == "exact" else "by occlusion"
        lines = [
            f"{plain(self.query_name)} and {plain(self.hit_name)}: score {self.score:.4f}, {how}"
        ]
        if self.reason:
            lines.append(f"not exact: {self.reason}")
        for number, each in enumerate(self.regions, 1):
            lines.append(f"  {number}  {_shown(each.query)} - {_shown(each.hit)}  {each.share:.1%}")
        return "\n".join(lines)


def _shown(box: Box) -> str:
    return f"({', '.join(map(str, box))})"
