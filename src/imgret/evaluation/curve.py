"""A plot of recall against queries a second, as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

__all__ = ["Point", "curve", "frontier"]

# Recall, queries a second, and what to say of it.
Point = tuple[float, float, str]

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 190, 36, 48
_COLOURS = (
    *("#0b6e4f", "#d1495b", "#2d6cdf", "#b8860b", "#7b3fa0", "#00879e"),
    *("#6b705c", "#e07a1f", "#3d405b", "#a23b72"),
)


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both recall and speed, by recall."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each[0], each[1]), reverse=True):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best[::-1]


def curve(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    mark: tuple[float, float] | None = None,
    least: float | None = None,
) -> str:
    """Draw recall (x) against queries a second (y, logarithmic) of some indexes.

    Parameters
    ----------
    series : mapping of str to sequence of Point
        Every point is drawn; a line joins those of `frontier`.
    title : str
    mark : (float, float), optional
        A point to draw a ring around.
    least : float, optional
        Recall at which to draw an upright line.

    Returns
    -------
    str
        An ``<svg>`` element that needs nothing else.
    """
    points = [point for each in series.values() for point in each]
    low = min([each[0] for each in points] + ([least] if least is not None else []), default=0.0)
    x0 = max(0.0, math.floor(20 * max(low, 0.0) - 1e-9) / 20)
    x1 = 1.0
    x0 = min(x0, 0.95)
    rates = [max(each[1], 1e-9) for each in points] or [1.0]
    y0, y1 = math.log10(min(rates)) - 0.08, math.log10(max(rates)) + 0.08

    def x(recall: float) -> float:
        return _LEFT + (recall - x0) / (x1 - x0) * (_WIDTH - _LEFT - _RIGHT)

    def y(rate: float) -> float:
        share = (math.log10(max(rate, 1e-9)) - y0) / (y1 - y0)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"',
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14" fill="#222">{html.escape(title)}</text>',
    ]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for step in range(6):
        recall = x0 + (x1 - x0) * step / 5
        parts.append(_line(x(recall), _TOP, x(recall), bottom, "#ddd"))
        parts.append(_text(x(recall), bottom + 18, f"{recall:.3g}", "middle"))
    for rate in _ticks(y0, y1):
        parts.append(_line(_LEFT, y(rate), right, y(rate), "#ddd"))
        parts.append(_text(_LEFT - 8, y(rate) + 4, f"{rate:,.0f}", "end"))
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 10, "recall", "middle"))
    parts.append(_text(_LEFT - 8, _TOP - 8, "queries/s", "end"))
    if least is not None:
        parts.append(_line(x(least), _TOP, x(least), bottom, "#888", dashed=True))
    for place, (name, each) in enumerate(series.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        path = " ".join(f"{x(p[0]):.1f},{y(p[1]):.1f}" for p in frontier(each))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(p[0]):.1f}" cy="{y(p[1]):.1f}" r="3" fill="{colour}">'
            f"<title>{html.escape(f'{name}: {p[2]}, recall {p[0]:.4f}, {p[1]:,.0f} a second')}"
            "</title></circle>"
            for p in each
        ]
        line = _TOP + 8 + 18 * place
        parts.append(
            f'<rect x="{right + 14}" y="{line - 8}" width="10" height="10" fill="{colour}"/>'
        )
        parts.append(_text(right + 30, line + 1, html.escape(name), "start"))
    if mark is not None:
        parts.append(
            f'<circle cx="{x(mark[0]):.1f}" cy="{y(mark[1]):.1f}" r="8" fill="none" '
            f'stroke="#222" stroke-width="2"/>'
        )
    parts.append("</svg>")
    return "\n".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two powers of ten: 1, 2 and 5 of each decade."""
    found = [
        step * 10.0**decade
        for decade in range(math.floor(low), math.ceil(high) + 1)
        for step in (1, 2, 5)
    ]
    return [value for value in found if 10**low <= value <= 10**high]


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}"{dash}/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#444">{text}</text>'
