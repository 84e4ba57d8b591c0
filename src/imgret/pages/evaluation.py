"""An evaluation as a page, and the main part of it for a notebook."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgret.files import ItemFile
from imgret.pages.document import document, facts, file_link, table
from imgret.pages.hits import Row, grid, image_figure
from imgret.pages.plot import Axis, plot
from imgret.types import ImageLike, Json

if TYPE_CHECKING:
    from imgret.evaluation import Report
    from imgret.evaluation.report import Confusion, Worst

__all__ = ["notebook", "page", "summary", "worst_queries"]

# Confusions with images: on a page, and in a notebook.
_PAIRS, _FEW = 24, 6


def summary(report: Report) -> str:
    """Return the headline, the warnings and a table of the metrics."""
    warnings = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in report.warnings)
    return f"<p>{html.escape(report.headline())}</p>{warnings}{_metrics(report)}"


def _metrics(report: Report) -> str:
    """Return a table of the metrics with a column for each k."""
    ks = report.config["k"]
    cells: dict[str, dict[str, str]] = {}
    for name, value, (low, high) in report.rows():
        before, digits, after = re.fullmatch(r"([a-z]+)(\d*)(.*)", name).groups()  # type: ignore[union-attr]  # all names do
        cells.setdefault(before + after, {})[digits] = (
            f'<td>{value:.4f}<br><span class="faint">{low:.3f} to {high:.3f}</span></td>'
        )
    rows = ""
    for name, of_k in cells.items():
        several = "".join(of_k.get(str(k), "") for k in ks)
        rows += f'<tr><th scope="row">{name}</th>{several or of_k[""]}</tr>'
    head = "".join(f'<th scope="col">k = {k}</th>' for k in ks)
    return (
        f'<table class="metrics"><thead><tr><th scope="col">mean, 95 % interval</th>{head}</tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def page(report: Report, *, title: str) -> str:
    """Return a self-contained HTML page."""
    config = json.dumps(report.config, indent=2, ensure_ascii=False)
    body = (
        f"{summary(report)}"
        f"<h2>Curves</h2>{curves(report)}"
        f"<h2>Confusions</h2>{confusions(report)}"
        f"<h2>Classes</h2>{_classes(report)}"
        f"<h2>Worst queries</h2>{worst_queries(report)}"
        f"<h2>Single queries</h2>{_queries(report)}"
        f"<h2>Configuration</h2>{_settings(report.config)}"
        f"<details><summary>as JSON</summary><pre>{html.escape(config)}</pre></details>"
    )
    return document(title, body, scripts=["sort.js"])


def notebook(report: Report) -> str:
    """Return the metrics, the curves and a few confusions, for a notebook."""
    pairs = report.confusions[:_FEW]
    found = f"<h3>Confusions</h3>{_pairs(report, pairs)}" if pairs else ""
    return f"{summary(report)}{curves(report)}{found}"


def curves(report: Report) -> str:
    """Return precision by recall, and recall and top-k accuracy by rank, as two plots."""
    found = report.curves
    percent = (0.0, 1.0)
    levels = [level / 10 for level in range(len(found.precision))]
    by_recall = plot(
        {
            "precision": [
                (level, value, "") for level, value in zip(levels, found.precision, strict=True)
            ]
        },
        title=f"Precision by recall, 11 points, over {found.depth:,} ranks",
        x=Axis("recall", limits=percent),
        y=Axis("interpolated precision", limits=percent),
        best=False,
    )
    by_rank = plot(
        {
            name: [(float(k), value, "") for k, value in zip(found.ks, values, strict=True)]
            for name, values in (("top-k accuracy", found.top), ("recall@k", found.recall))
        },
        title="Recall by rank",
        x=Axis("k", log=True, limits=(1.0, float(max(found.depth, 2)))),
        y=Axis("share of queries, or of relevant items", limits=percent),
        best=False,
    )
    return f'<div class="plots">{by_recall}{by_rank}</div>'


def confusions(report: Report) -> str:
    """Return the most frequent confusions, the first of them with example images."""
    if not report.confusions:
        return "<p>The first hit of every query is of its class.</p>"
    rows = [
        [
            f"{pair.label} is taken for {pair.taken_for}",
            pair.n_confused,
            f"{pair.n_confused / pair.n_queries:.1%}",
            pair.query,
            pair.hit.key,
        ]
        for pair in report.confusions
    ]
    names = ["confusion", "queries", "share of the class", "such as", "first hit"]
    listing = table(names, rows, sortable=True)
    return f'{_pairs(report, report.confusions[:_PAIRS])}<div class="listing">{listing}</div>'


def _pairs(report: Report, pairs: Sequence[Confusion]) -> str:
    """Return queries beside their wrong first hits."""
    return f'<div class="pairs">{"".join(_pair(report, pair) for pair in pairs)}</div>'


def _pair(report: Report, pair: Confusion) -> str:
    words = (
        f"<b>{html.escape(pair.label)}</b> is taken for <b>{html.escape(pair.taken_for)}</b>"
        f'<br><span class="faint">{pair.n_confused} of {pair.n_queries} queries</span>'
    )
    path = pair.image if isinstance(pair.image, (str, os.PathLike)) else None
    shown = image_figure(
        _image_of(pair),
        f'<b class="word">query</b><br>{file_link(path, pair.query)}',
        kind="query",
        max_pixels=report.max_pixels,
    )
    found = image_figure(
        ItemFile.of(pair.hit),
        f'<span class="faint">1 · {pair.hit.score:.3f}</span><br>'
        f"{file_link(pair.hit.path, pair.hit.key)}",
        mark="wrong",
        max_pixels=report.max_pixels,
    )
    return f'<section><p>{words}</p><div class="row">{shown}{found}</div></section>'


def _settings(config: Json) -> str:
    """Return the settings that matter most, one a row."""
    projection = config["projection"]
    return facts(
        {
            "embedder": _part(config["embedder"]),
            "fingerprint": config["fingerprint"],
            "cropper": _part(config["cropper"]),
            "index": _part(config["index"]),
            "metric": config["metric"],
            "projection": "none"
            if projection is None
            else f"{projection['kind']}, {projection['dim']} dimensions, "
            f"{projection['fingerprint']}",
            "gallery": f"{config['gallery'] or 'in memory'}, {config['n_items']:,} items of "
            f"{config['n_classes']:,} classes",
            "queries": "leave-one-out"
            if config["leave_one_out"]
            else config["queries"] or "a list",
            "bootstrap": ", ".join(
                f"{name} {value}" for name, value in config["bootstrap"].items()
            ),
            "version": f"imgret {config['imgret']}, Python {config['python']}, NumPy "
            f"{config['numpy']}",
            "date": config["date"],
        }
    )


def _part(part: Json) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in part["config"].items())
    return f"{part['name']} ({options})" if options else str(part["name"])


def _image_of(query: Confusion | Worst) -> ImageLike | ItemFile | None:
    """Return the image of a query; that of a file with what it contained."""
    if isinstance(query.image, (str, os.PathLike)):
        return ItemFile(str(query.image), query.sha256)
    return query.image


def worst_queries(report: Report) -> str:
    """Return the worst queries with their hits."""
    rows = [
        Row(
            f"{query.query} · AP {query.average_precision:.3f}",
            _image_of(query),
            query.hits,
            query.label,
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
    return table(["class", "queries", *columns], rows, sortable=True)


def _queries(report: Report) -> str:
    """Return every query that failed, has nothing to find, or is in the gallery."""
    rows = [[fail.query, "could not be read", fail.reason, ""] for fail in report.failed]
    rows += [[query, "nothing to find", "", ""] for query in report.without_relevant]
    rows += [
        [match.query, match.kind, match.key, f"{match.cosine:.4f}"] for match in report.matches
    ]
    if not rows:
        return "<p>All queries were read, have something to find, and are not in the gallery.</p>"
    return table(["query", "what", "reason or item", "cosine"], rows, sortable=True)
