"""Explanation of one match: which method is used, and what is put together."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple, get_args

from imgret import images
from imgret.croppers import NoCrop
from imgret.embedders import OnnxEmbedder
from imgret.errors import ImageNotFoundError, InvalidInputError, KeyNotFoundError, ModelError
from imgret.explain.decompose import Parts, decompose, heat_of, shown_area
from imgret.explain.explanation import Explanation, HeatMap, Method, Region
from imgret.explain.occlude import occlude
from imgret.explain.places import Area, Places, pair_scores
from imgret.explain.regions import best_links
from imgret.files import ItemFile, place_of
from imgret.pipeline.embed import Seen
from imgret.pipeline.pipeline import Pipeline
from imgret.search import View
from imgret.support.given import is_path
from imgret.types import Box, Embeddings, Hit, ImageLike, Item

__all__ = ["explain_match"]

# Side of a linked region, as a share of the grid.
_REGION = 2 / 7


class _Side(NamedTuple):
    """One of the two images."""

    seen: Seen
    vector: Embeddings
    parts: Parts | None


def explain_match(
    view: View,
    pipeline: Pipeline,
    query: ImageLike | None,
    hit: Hit | str | ImageLike,
    *,
    text: str | None = None,
    box: Box | None = None,
    method: str = "auto",
    n_regions: int = 3,
) -> Explanation:
    """Explain the score of a query and a hit.

    Parameters
    ----------
    view : View
    pipeline : Pipeline
        Embedder and cropper of the gallery.
    query, hit, text, box, method, n_regions
        As for `Retriever.explain_match`.
    """
    if method not in {"auto", *get_args(Method)}:
        raise InvalidInputError(
            f"method: expected 'auto', 'exact' or 'occlusion', found {method!r}"
        )
    if (query is None) == (text is None):
        found = "neither" if query is None else "both"
        raise InvalidInputError(f"query: expected an image or text=, found {found}")
    if text is not None and box is not None:
        raise InvalidInputError("box: expected a query image with it, found a text")
    shown, hit_name = _hit(hit, view, pipeline)
    reason = ""
    seen = [shown] if query is None else [pipeline.see(query, box=box), shown]
    parts: list[Parts | None] = [None] * len(seen)
    if method != "occlusion":
        try:
            parts = [decompose(each.part, pipeline.embedder, view) for each in seen]
        except ModelError as error:
            if method == "exact":
                raise
            reason = str(error)
    vectors = view.project(pipeline.embed([each.part for each in seen], cropper=NoCrop()), "images")
    sides = [_Side(*each) for each in zip(seen, vectors, parts, strict=True)]
    vector = vectors[0]
    if text is not None:
        vector = view.project(pipeline.embed_text([text]), "text")[0]
    score = float(view.metric.scores(vector, vectors[-1]))
    places = [_places(sides[-1], vector, pipeline, view)]
    regions: tuple[Region, ...] = ()
    if query is not None:
        places.insert(0, _places(sides[0], vectors[-1], pipeline, view))
        regions = _regions(places, seen, view, n_regions)
    maps = [_map(*each, score) for each in zip(places, seen, strict=True)]
    return Explanation(
        score=score,
        method="exact" if parts[-1] is not None else "occlusion",
        reason=reason,
        query=maps[0] if query is not None else None,
        hit=maps[-1],
        regions=regions,
        query_name=text if text is not None else _name(query, "query"),
        hit_name=hit_name,
    )


def _hit(given: Any, view: View, pipeline: Pipeline) -> tuple[Seen, str]:
    """Return the image of a hit and its name."""
    if not isinstance(given, Hit | str):
        return pipeline.see(given), _name(given, "hit")
    key = given.key if isinstance(given, Hit) else given
    try:
        (item,) = view.items(view.require([key]))
    except KeyNotFoundError as error:
        if isinstance(given, str) and is_path(key) and Path(key).is_file():
            raise KeyNotFoundError(
                f"{error}; a str is a key, so give a file as pathlib.Path({key!r})"
            ) from error
        raise
    if isinstance(given, Hit) and (given.path, given.box) != (item.path, item.box):
        raise InvalidInputError(
            f"hit: expected a hit of this gallery, found one whose key {key!r} is here another "
            f"image ({item.path}, box {_shown(item.box)}; the hit has {given.path}, box "
            f"{_shown(given.box)}); search again, or explain it with the gallery it came from"
        )
    return _seen(item, pipeline), key


def _seen(item: Item, pipeline: Pipeline) -> Seen:
    """Read the image of an item again."""
    if item.path is None:
        raise InvalidInputError(
            f"hit: expected an item that comes from a file, found {item.key!r}, which was added "
            f"without one; give its image as the hit"
        )
    path = place_of(item.path) or Path(item.path)
    try:
        data = images.read(path) if item.sha256 is not None else ItemFile(item.path, None).read()
    except ImageNotFoundError as error:
        raise ImageNotFoundError(
            f"{error.reason}; expected the image of {item.key!r}, which is read again to explain "
            f"a match; put the file back, index the folder it was moved to, or give the image as "
            f"the hit",
            path,
        ) from error
    if item.sha256 is not None and hashlib.sha256(data).digest() != item.sha256:
        raise InvalidInputError(
            f"{path}: expected the image that {item.key!r} was made from, found other content; "
            f"update the gallery (add_folder or update), then search again"
        )
    return pipeline.see(path, box=item.box)


def _places(side: _Side, other: Embeddings, pipeline: Pipeline, view: View) -> Places:
    if side.parts is not None:
        return heat_of(side.parts, other, view)
    area: Area = (0.0, 0.0, 1.0, 1.0)
    if isinstance(pipeline.embedder, OnnxEmbedder):  # nothing is lost outside of what it sees
        x0, y0, x1, y1 = shown_area(side.seen.part, pipeline.embedder.preprocess)
        area = max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)
    return occlude(side.seen.part, other, pipeline, view, area)


def _map(places: Places, seen: Seen, score: float) -> HeatMap:
    return HeatMap(
        values=places.heat,
        area=_area(places.area, seen.box),
        box=seen.box,
        size=seen.size,
        rest=score - float(places.heat.sum()),
        image=seen.image,
    )


def _area(area: Area, box: Box) -> Area:
    """Return an area in pixels of the image, given in shares of a box."""
    return (
        box.x0 + area[0] * box.width,
        box.y0 + area[1] * box.height,
        box.x0 + area[2] * box.width,
        box.y0 + area[3] * box.height,
    )


def _regions(places: list[Places], seen: list[Seen], view: View, n: int) -> tuple[Region, ...]:
    sides = [max(1, round(_REGION * each.heat.shape[0])) for each in places]
    links = best_links(pair_scores(places[0], places[1], view.metric), (sides[0], sides[1]), n)
    return tuple(
        Region(
            _window(places[0], seen[0], link.query, sides[0]),
            _window(places[1], seen[1], link.hit, sides[1]),
            link.share,
        )
        for link in links
    )


def _window(places: Places, seen: Seen, at: tuple[int, int], side: int) -> Box:
    """Return a window of a grid in pixels of the image."""
    x0, y0, x1, y1 = _area(places.area, seen.box)
    rows, columns = places.heat.shape
    x, y = (x1 - x0) / columns, (y1 - y0) / rows
    return Box(
        round(x0 + at[1] * x),
        round(y0 + at[0] * y),
        round(x0 + (at[1] + side) * x),
        round(y0 + (at[0] + side) * y),
    ).clip(*seen.size)


def _name(image: Any, otherwise: str) -> str:
    return Path(image).name if isinstance(image, str | os.PathLike) else otherwise


def _shown(box: Box | None) -> str:
    return "none" if box is None else f"({', '.join(map(str, box))})"
