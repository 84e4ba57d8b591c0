"""The comparison of two evaluations as a page: verdict, metrics, classes, what differs."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from imgret.pages.document import document, table

if TYPE_CHECKING:
    from imgret.evaluation import Comparison

__all__ = ["page", "summary"]

_QUERIES = 40
_FEW = 20


def summary(found: Comparison) -> str:
    """Return the verdict, the metrics and the classes that differ reliably, for a notebook."""
    rows = [[name, *_cells(row), _p(row["p"])] for name, row in found.metrics.items()]
    warnings = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in found.warnings)
    a, b = found.names
    names = ["metric", a, b, "difference", f"{found.config['confidence']:.0%} interval", "p"]
    classes = "".join(
        f"<p>{html.escape(_named(found, side, name))}</p>"
        for side, name in zip(("b", "a"), (b, a), strict=True)
    )
    return (
        f"<p><b>{html.escape(found.verdict)}</b></p>{classes}{warnings}"
        f'<p class="faint">{found.n_queries:,} queries; intervals by a paired bootstrap</p>'
        f"{table(names, rows)}"
    )


def page(found: Comparison, *, title: str) -> str:
    """Return a self-contained HTML page."""
    a, b = found.names
    classes = [
        [
            label,
            row["n_queries"],
            *_cells(row),
            _p(row["p"]),
            {"a": a, "b": b, None: ""}[row["better"]],
        ]
        for label, row in found.per_class.items()
    ]
    changes = [[name, _text(ours), _text(theirs)] for name, (ours, theirs) in found.changes.items()]
    queries = [
        [name, label, f"{ours:.4f}", f"{theirs:.4f}", f"{theirs - ours:+.4f}"]
        for name, label, ours, theirs in found.changed_most(_QUERIES)
    ]
    interval = f"{found.config['confidence']:.0%} interval"
    of_classes = ["class", "queries", a, b, "difference", interval, "p", "better"]
    body = (
        f"{summary(found)}"
        f'<h2>What differs</h2><div class="listing">{_or_none(["setting", a, b], changes)}</div>'
        f"<h2>Classes</h2><p>{html.escape(found.metric)}. The better one is named where the "
        f"difference is reliable; about one in twenty of these may be named by chance.</p>"
        f"{table(of_classes, classes, sortable=True)}"
        f"<h2>Queries that differ most</h2>"
        f"{_or_none(['query', 'class', a, b, 'difference'], queries)}"
    )
    return document(title, body, scripts=["sort.js"])


def _cells(row: dict[str, Any]) -> list[str]:
    low, high = row["ci"]
    return [
        f"{row['a']:.4f}",
        f"{row['b']:.4f}",
        f"{row['difference']:+.4f}",
        f"{low:+.4f} to {high:+.4f}",
    ]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _named(found: Comparison, side: str, name: str) -> str:
    labels = [label for label, row in found.per_class.items() if row["better"] == side]
    if not labels:
        return f"There is no class for which {name} is reliably better."
    more = f" and {len(labels) - _FEW} more" if len(labels) > _FEW else ""
    return f"Classes for which {name} is better: {', '.join(labels[:_FEW])}{more}"


def _or_none(names: list[str], rows: list[list[str]]) -> str:
    return table(names, rows, sortable=True) if rows else "<p>Nothing.</p>"


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
