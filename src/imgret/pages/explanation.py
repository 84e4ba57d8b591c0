"""The page of an explanation: both images with their heat, and lines between the regions."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, NamedTuple

from imgret.pages.document import document, image_data
from imgret.types import Box

if TYPE_CHECKING:
    from imgret.explain import Explanation, HeatMap

__all__ = ["body", "page"]

# Longest side of an image, and space between the two, in pixels of the drawing.
_SIDE, _GAP = 480, 60
# Colours of the regions, which differ from each other and from the red of the heat.
_COLORS = ("#ffd60a", "#32ade6", "#ffffff", "#30d158", "#bf5af2")
_DASHED = "Dashed: the part of the image that the model sees."


def page(explanation: Explanation, *, title: str) -> str:
    """Return a self-contained HTML page."""
    return document(title, body(explanation))


def body(explanation: Explanation) -> str:
    """Return what the page and the notebook show."""
    drawing = _drawing(explanation)
    legend = f"<p>{_DASHED}</p>" if "stroke-dasharray" in drawing else ""
    text = f"<pre>{html.escape(str(explanation))}</pre>"
    return f'<div class="row">{drawing}</div>{legend}{text}'


class _Placed(NamedTuple):
    """An image in the drawing, where its left side is and how much it is enlarged."""

    heat: HeatMap
    left: float
    scale: float

    @property
    def width(self) -> float:
        return self.heat.size[0] * self.scale

    @property
    def height(self) -> float:
        return self.heat.size[1] * self.scale


def _drawing(explanation: Explanation) -> str:
    placed: list[_Placed] = []
    left = 0.0
    for heat in (explanation.query, explanation.hit):
        if heat is not None:
            placed.append(_Placed(heat, left, _SIDE / max(heat.size)))
            left += placed[-1].width + _GAP
    width, height = left - _GAP, max(each.height for each in placed)
    parts = [_picture(each) + _seen(each) for each in placed]
    for number, region in enumerate(explanation.regions):
        color = _COLORS[number % len(_COLORS)]
        query, hit = (
            _frame(box, each) for box, each in zip((region.query, region.hit), placed, strict=True)
        )
        line = (
            f'<line x1="{query[0] + query[2]:.1f}" y1="{query[1] + query[3] / 2:.1f}" '
            f'x2="{hit[0]:.1f}" y2="{hit[1] + hit[3] / 2:.1f}"/>'
        )
        for stroke, thickness in (("#000", 5), (color, 2.5)):
            parts.append(
                f'<g fill="none" stroke="{stroke}" stroke-width="{thickness}">'
                f"{_rect(query)}{_rect(hit)}{line}</g>"
            )
        parts += [_number(number + 1, frame, color) for frame in (query, hit)]
    names = f"{explanation.query_name} and {explanation.hit_name}"
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        f'aria-label="{html.escape(names)}">{"".join(parts)}</svg>'
    )


def _picture(placed: _Placed) -> str:
    data = image_data(placed.heat.overlay(), 2 * _SIDE)
    return (
        f'<image href="{data}" x="{placed.left:.1f}" y="0" width="{placed.width:.1f}" '
        f'height="{placed.height:.1f}" preserveAspectRatio="none"/>'
    )


def _seen(placed: _Placed) -> str:
    """Return a dashed outline of the part that the embedder sees, if that is not all."""
    area, size = placed.heat.area, placed.heat.size
    box = Box(*(round(value) for value in area)).clip(*size)
    if box == (0, 0, *size):
        return ""
    return (
        f'<g fill="none" stroke="#fff" stroke-opacity="0.8" stroke-dasharray="5 5">'
        f"{_rect(_frame(box, placed))}</g>"
    )


def _frame(box: Box, placed: _Placed) -> tuple[float, float, float, float]:
    """Return x, y, width and height of a box in the drawing."""
    scale = placed.scale
    return placed.left + box.x0 * scale, box.y0 * scale, box.width * scale, box.height * scale


def _rect(frame: tuple[float, float, float, float]) -> str:
    x, y, width, height = frame
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4"/>'


def _number(number: int, frame: tuple[float, float, float, float], color: str) -> str:
    x, y = frame[0] + 12, frame[1] + 12
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="{color}" stroke="#000"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="12" '
        f'font-weight="600" fill="#000">{number}</text>'
    )
