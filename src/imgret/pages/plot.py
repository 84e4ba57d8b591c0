"""Line plots as SVG: recall against queries per second, or any two quantities.

Each plot is self-contained and has colours for light and dark backgrounds.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Axis", "Point", "frontier", "plot"]

# x, y and the text of its tooltip.
Point: TypeAlias = tuple[float, float, str]

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 190, 40, 48
_COLOURS = (
    *("#2f9e75", "#e0596b", "#4c86ef", "#c4931c", "#9a5fc0", "#129db5"),
    *("#85896f", "#e8842c", "#7a7fa3", "#c4548d"),
)
_STEPS = 5
_STYLE = """<style>
.imgret-plot{--p:var(--page,#fff);--i:var(--ink,#1d1d1f);--f:var(--faint,#6e6e73);
--l:var(--line,#e5e5ea);font:12px system-ui,sans-serif}
.imgret-plot text{fill:var(--f)}
.imgret-plot .ground{fill:var(--p)}
.imgret-plot .title{fill:var(--i);font-size:14px}
.imgret-plot .grid{stroke:var(--l)}
.imgret-plot .least{stroke:var(--f);stroke-dasharray:4 4}
.imgret-plot .mark{fill:none;stroke:var(--i);stroke-width:2}
@media (prefers-color-scheme:dark){
.imgret-plot{--p:var(--page,#1c1c1e);--i:var(--ink,#f2f2f4);--f:var(--faint,#a1a1a8);
--l:var(--line,#3a3a3e)}}
</style>"""


@dataclass(frozen=True, slots=True)
class Axis:
    """Quantity along an axis.

    Attributes
    ----------
    name : str
    log : bool
        If true, the axis is logarithmic; all values are then above 0.
    limits : (float, float), optional
        First and last value; by default those of the points, with a margin.
    whole : bool
        Whether only whole numbers are marked.
    """

    name: str
    log: bool = False
    limits: tuple[float, float] | None = None
    whole: bool = False


RECALL, QPS = Axis("recall"), Axis("queries per second", log=True)


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other point beats in both x and y, sorted by x."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each[0], each[1]), reverse=True):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best[::-1]


def plot(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    x: Axis = RECALL,
    y: Axis = QPS,
    best: bool = True,
    mark: tuple[float, float] | None = None,
    least: float | None = None,
) -> str:
    """Draw points and lines that join them.

    Parameters
    ----------
    series : mapping of str to sequence of Point
    title : str
    x, y : Axis
    best : bool
        If true, each line joins only the `frontier`; otherwise all points, sorted by x.
    mark : (float, float), optional
        Point to draw a ring around.
    least : float, optional
        Position on the x axis of a vertical line.

    Returns
    -------
    str
        A self-contained ``<svg>`` element.
    """
    points = [point for each in series.values() for point in each]
    # A single line needs no legend.
    right = _WIDTH - (_RIGHT if len(series) > 1 else _LEFT // 2)
    bottom = _HEIGHT - _BOTTOM
    along = _Scale(x, [p[0] for p in points] + ([] if least is None else [least]), _LEFT, right)
    up = _Scale(y, [p[1] for p in points], bottom, _TOP)
    parts = [
        _opening(_WIDTH, _HEIGHT, html.escape(title)),
        _STYLE,
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text class="title" x="{_LEFT}" y="18">{html.escape(title)}</text>',
    ]
    for value in along.ticks():
        parts.append(_line(along(value), _TOP, along(value), bottom, "grid"))
        parts.append(_text(along(value), bottom + 18, _number(value), "middle"))
    for value in up.ticks():
        parts.append(_line(_LEFT, up(value), right, up(value), "grid"))
        parts.append(_text(_LEFT - 8, up(value) + 4, _number(value), "end"))
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 10, html.escape(x.name), "middle"))
    parts.append(_text(_LEFT, _TOP - 8, html.escape(y.name), "start"))
    if least is not None:
        parts.append(_line(along(least), _TOP, along(least), bottom, "least"))
    for place, (name, each) in enumerate(series.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        joined = frontier(each) if best else sorted(each)
        path = " ".join(f"{along(p[0]):.1f},{up(p[1]):.1f}" for p in joined)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{along(p[0]):.1f}" cy="{up(p[1]):.1f}" r="3" fill="{colour}"><title>'
            f"{html.escape(f'{name}: {p[2]} ({p[0]:.5g}, {p[1]:.5g})')}</title></circle>"
            for p in each
        ]
        if len(series) > 1:
            line = _TOP + 8 + 18 * place
            parts.append(
                f'<rect x="{right + 14}" y="{line - 8}" width="10" height="10" fill="{colour}"/>'
            )
            parts.append(_text(right + 30, line + 1, html.escape(name), "start"))
    if mark is not None:
        parts.append(
            f'<circle class="mark" cx="{along(mark[0]):.1f}" cy="{up(mark[1]):.1f}" r="8"/>'
        )
    parts.append("</svg>")
    return "\n".join(parts)


class _Scale:
    """Maps values to positions between two ends, with a margin at both."""

    def __init__(self, axis: Axis, values: list[float], start: float, stop: float) -> None:
        self._log, self._whole = axis.log, axis.whole
        values = [max(value, 1e-9) if axis.log else value for value in values] or [1.0]
        low, high = self._inner(min(values)), self._inner(max(values))
        if axis.limits is None:
            room = 0.05 * (high - low) or 0.05
            self._low, self._high = low - room, high + room
        else:
            self._low, self._high = map(self._inner, axis.limits)
        self._start, self._stop = start, stop

    def __call__(self, value: float) -> float:
        share = (self._inner(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._stop - self._start)

    def ticks(self) -> list[float]:
        """Return round values between the ends."""
        if not self._log:
            size = (self._high - self._low) / _STEPS
            size = max(_round(size), 1.0) if self._whole else _round(size)
            first = math.ceil(self._low / size - 1e-9)
            return [size * n for n in range(first, math.floor(self._high / size + 1e-9) + 1)]
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        steps = (1, 2, 5) if self._high - self._low < 3 else (1,)
        found = [step * 10.0**decade for decade in decades for step in steps]
        low, high = self._low - 1e-9, self._high + 1e-9
        return [value for value in found if low <= math.log10(value) <= high]

    def _inner(self, value: float) -> float:
        return math.log10(max(value, 1e-9)) if self._log else value


def _round(size: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    decade = 10.0 ** math.floor(math.log10(size))
    return next(step * decade for step in (1, 2, 5, 10) if step * decade >= size)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def _opening(width: int, height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="imgret-plot" role="img" '
        f'aria-label="{title}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}">'
    )


def _line(x0: float, y0: float, x1: float, y1: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
