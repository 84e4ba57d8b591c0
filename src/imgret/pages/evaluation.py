"""An evaluation as a page, and its metrics for a notebook."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING

from imgret.pages.document import document, table
from imgret.pages.hits import grid

if TYPE_CHECKING:
    from imgret.evaluation import Report

__all__ = ["page", "summary", "worst_queries"]


def summary(report: Report) -> str:
    """Return the headline, the warnings and a table of the metrics."""
    rows = "".join(
        f"<tr><td>{name}</td><td>{value:.4f}</td><td>{low:.4f} to {high:.4f}</td></tr>"
        for name, value, (low, high) in report.rows()
    )
    warnings = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in report.warnings)
    return (
        f"<p>{html.escape(report.headline())}</p>{warnings}"
        f"<table><thead><tr><th>metric</th><th>mean</th><th>95 % interval</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def page(report: Report, *, title: str) -> str:
    """Return a self-contained HTML page."""
    config = json.dumps(report.config, indent=2, ensure_ascii=False)
    body = (
        f"{summary(report)}"
        f"<h2>Classes</h2>{_classes(report)}"
        f"<h2>Worst queries</h2>{worst_queries(report)}"
        f"<h2>Single queries</h2>{_queries(report)}"
        f"<h2>Configuration</h2><pre>{html.escape(config)}</pre>"
    )
    return document(title, body, scripts=["sort.js"])


def worst_queries(report: Report) -> str:
    """Return the worst queries with their hits."""
    rows = [
        (
            f"{query.query} · {query.label} · AP {query.average_precision:.3f}",
            query.image,
            query.hits,
        )
        for query in report.worst
    ]
    if not rows:
        return "<p>Every query is answered perfectly.</p>"
    return grid(rows, max_pixels=report.max_pixels)


def _classes(report: Report) -> str:
    deepest = report.config["k"][-1]
    columns = [
        *(f"top{k}" for k in report.config["k"]),
        f"recall{deepest}",
        f"ndcg{deepest}",
        "map_r",
        "mrr",
    ]
    rows = [
        [label, str(row["n_queries"]), *(f"{row[name]:.4f}" for name in columns)]
        for label, row in report.per_class.items()
    ]
    return table(["class", "queries", *columns], rows)


def _queries(report: Report) -> str:
    """Return every query that failed, has nothing to find, or is in the gallery."""
    rows = [[fail.query, "could not be read", fail.reason, ""] for fail in report.failed]
    rows += [[query, "nothing to find", "", ""] for query in report.without_relevant]
    rows += [
        [match.query, match.kind, match.key, f"{match.cosine:.4f}"] for match in report.matches
    ]
    if not rows:
        return "<p>All queries were read, have something to find, and are not in the gallery.</p>"
    return table(["query", "what", "reason or item", "cosine"], rows)
