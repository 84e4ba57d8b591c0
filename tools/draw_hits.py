"""Draw the images of hits in README.md and in the docs: each query at the left, its hits beside it.

    python tools/draw_hits.py

The images are drawn by `imgret.demo`, the queries are not in the gallery, and the hits and scores
are what the built-in embedder finds.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from imgret import Hits, Retriever
from imgret.demo import samples

_QUERIES = (("rose", 1017), ("sunflower", 1003), ("lily", 1003))
_PER_SPECIES, _HITS = 30, 5
_WIDTH, _HEIGHT, _GAP, _TEXT = 180, 135, 8, 26
_INK, _GREY, _LINE, _PAPER = "#1d2421", "#66706b", "#0b6e4f", "#ffffff"


def gallery() -> Retriever:
    """Return a gallery of drawn flowers."""
    retriever = Retriever()
    kinds = [name for name in samples.species() for _ in range(_PER_SPECIES)]
    drawn = [samples.draw(name, seed) for name in samples.species() for seed in range(_PER_SPECIES)]
    retriever.add(drawn, labels=kinds, progress=False)
    return retriever


def sheet(rows: list[tuple[Image.Image, list[tuple[Image.Image, str]]]]) -> Image.Image:
    """Return one image of all rows."""
    font = ImageFont.load_default(15)
    step, height = _WIDTH + _GAP, _HEIGHT + _TEXT + _GAP
    size = (step * (_HITS + 1) + 3 * _GAP, height * len(rows) + _GAP)
    page = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(page)
    for number, (query, hits) in enumerate(rows):
        top = _GAP + number * height
        page.paste(query, (_GAP, top))
        pen.rectangle((_GAP - 3, top - 3, _GAP + _WIDTH + 2, top + _HEIGHT + 2), None, _LINE, 3)
        pen.text((_GAP, top + _HEIGHT + 5), "query", _LINE, font)
        for place, (image, text) in enumerate(hits, 1):
            left = step * place + 3 * _GAP
            page.paste(image, (left, top))
            label, score = text.split()
            pen.text((left, top + _HEIGHT + 5), label, _INK, font)
            pen.text((left + _WIDTH, top + _HEIGHT + 5), score, _GREY, font, anchor="ra")
    return page


def main() -> None:
    """Search, and write the image."""
    retriever = gallery()

    def drawn(name: str, seed: int) -> Image.Image:
        # As it was drawn, then reduced and cut to one shape.
        image = Image.fromarray(samples.draw(name, seed))
        scale = max(_WIDTH / image.width, _HEIGHT / image.height)
        size = (round(image.width * scale), round(image.height * scale))
        left, top = (size[0] - _WIDTH) // 2, (size[1] - _HEIGHT) // 2
        box = (left, top, left + _WIDTH, top + _HEIGHT)
        return image.resize(size, Image.Resampling.LANCZOS).crop(box)

    keys = list(retriever)
    rows = []
    for name, seed in _QUERIES:
        hits: Hits = retriever.search(samples.draw(name, seed), k=_HITS)
        found = []
        for hit in hits:
            place = keys.index(hit.key)
            kind = samples.species()[place // _PER_SPECIES]
            found.append((drawn(kind, place % _PER_SPECIES), f"{hit.label} {hit.score:.3f}"))
        rows.append((drawn(name, seed), found))
    path = Path(__file__).parents[1] / "docs" / "images" / "hits.jpg"
    sheet(rows).save(path, quality=86, optimize=True)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
