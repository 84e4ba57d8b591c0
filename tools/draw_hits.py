"""Draw the images at the top of README.md and of the docs.

    python tools/draw_hits.py

``docs/images/hits.jpg`` has queries at the left and their hits beside them, and
``docs/images/why.jpg`` shows where scores come from. The images are drawn by `imgret.demo`, the
queries are not in the gallery, and the hits and scores are what the built-in embedder finds.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from imgret import Retriever
from imgret.demo import samples
from imgret.explain import HeatMap
from imgret.types import Box
from imgret.types import Image as Pixels

_QUERIES = (("rose", 1017), ("sunflower", 1003), ("lily", 1003))
_WHY = (("sunflower", 1003, 2), ("lily", 1003, 1))  # with the rank of the hit
_PER_SPECIES, _HITS = 30, 5
_WIDTH, _HEIGHT, _GAP, _TEXT = 180, 135, 8, 26
_INK, _GREY, _LINE, _PAPER = "#1d2421", "#66706b", "#0b6e4f", "#ffffff"
_FOLDER = Path(__file__).parents[1] / "docs" / "images"


def draw_hits(retriever: Retriever) -> Image.Image:
    """Return one image of all queries with their hits."""
    font = ImageFont.load_default(15)
    step, height = _WIDTH + _GAP, _HEIGHT + _TEXT + _GAP
    page = Image.new("RGB", (step * (_HITS + 1) + 3 * _GAP, height * len(_QUERIES) + _GAP), _PAPER)
    pen = ImageDraw.Draw(page)
    for row, (name, seed) in enumerate(_QUERIES):
        query = samples.draw(name, seed)
        top = _GAP + row * height
        page.paste(_cut(Image.fromarray(query)), (_GAP, top))
        pen.rectangle((_GAP - 3, top - 3, _GAP + _WIDTH + 2, top + _HEIGHT + 2), None, _LINE, 3)
        pen.text((_GAP, top + _HEIGHT + 5), "query", _LINE, font)
        for hit in retriever.search(query, k=_HITS):
            left = step * hit.rank + 3 * _GAP
            page.paste(_cut(_drawn(hit.key)), (left, top))
            pen.text((left, top + _HEIGHT + 5), str(hit.label), _INK, font)
            right = (left + _WIDTH, top + _HEIGHT + 5)
            pen.text(right, f"{hit.score:.3f}", _GREY, font, anchor="ra")
    return page


def draw_why(retriever: Retriever) -> Image.Image:
    """Return one image of pairs with their heat and the regions that correspond."""
    panels = []
    for name, seed, rank in _WHY:
        query = samples.draw(name, seed)
        hit = retriever.search(query, k=_HITS)[rank - 1]
        why = retriever.explain_match(query, _array(hit.key))
        assert why.query is not None  # noqa: S101  # there is an image
        panels += [
            _heat(why.query, [region.query for region in why.regions]),
            _heat(why.hit, [region.hit for region in why.regions]),
        ]
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) + 3)
    page = Image.new("RGB", (width, panels[0].height + 2 * _GAP), _PAPER)
    left = _GAP
    for number, panel in enumerate(panels):
        page.paste(panel, (left, _GAP))
        left += panel.width + (_GAP if number % 2 == 0 else 3 * _GAP)
    return page


def _heat(heat: HeatMap, boxes: list[Box]) -> Image.Image:
    """Return an image with its heat and numbered boxes."""
    image = Image.fromarray(heat.overlay())
    height = 210
    image = image.resize((round(image.width * height / image.height), height))
    scale = height / heat.size[1]
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    for number, box in enumerate(boxes, 1):
        corners = tuple(round(side * scale) for side in box)
        pen.rectangle(corners, None, _PAPER, 2)
        pen.rectangle((*corners[:2], corners[0] + 18, corners[1] + 20), _LINE)
        pen.text((corners[0] + 5, corners[1] + 1), str(number), _PAPER, font)
    return image


def _array(key: str) -> Pixels:
    name, seed = key.rsplit("-", 1)
    return samples.draw(name, int(seed))


def _drawn(key: str) -> Image.Image:
    return Image.fromarray(_array(key))


def _cut(image: Image.Image) -> Image.Image:
    """Return an image reduced and cut to one shape."""
    return ImageOps.fit(image, (_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)


def main() -> None:
    """Search, and write the images."""
    retriever = Retriever()
    keys = [f"{name}-{seed}" for name in samples.species() for seed in range(_PER_SPECIES)]
    labels = [key.rsplit("-", 1)[0] for key in keys]
    retriever.add([_array(key) for key in keys], keys=keys, labels=labels)
    _FOLDER.mkdir(exist_ok=True)
    for name, page in (("hits", draw_hits(retriever)), ("why", draw_why(retriever))):
        path = _FOLDER / f"{name}.jpg"
        page.save(path, quality=86, optimize=True)
        print(path, page.size, path.stat().st_size)


if __name__ == "__main__":
    main()
