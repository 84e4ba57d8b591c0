"""A report as HTML."""

from __future__ import annotations

import html
import json
from typing import Any

from imgret import display
from imgret.evaluation.report import Report, flat

__all__ = ["page", "sheet", "summary", "table"]

_STYLE = """
.imgret-report{font:13px/1.4 system-ui,sans-serif;color:#1d1d1f}
.imgret-report table{border-collapse:collapse;margin:0 0 24px}
.imgret-report th,.imgret-report td{padding:3px 12px 3px 0;text-align:right;
  border-bottom:1px solid #e5e5ea;font-variant-numeric:tabular-nums}
.imgret-report th:first-child,.imgret-report td:first-child{text-align:left}
.imgret-report .sortable th{cursor:pointer}
.imgret-report .warning{border-left:3px solid #ff9f0a;padding:2px 10px;margin:0 0 8px}
.imgret-report pre{background:#f2f2f4;border-radius:8px;padding:12px;overflow:auto}
"""
_SHEET_STYLE = """
body{margin:28px auto;max-width:1280px;padding:0 20px;background:#fff}
h1{font:600 22px/1.3 system-ui,sans-serif;margin:0 0 12px}
h2{font:600 17px/1.3 system-ui,sans-serif;margin:24px 0 8px}
.row{display:flex;gap:14px;flex-wrap:wrap;align-items:flex-start}
figure{margin:0;width:160px}
figcaption{padding:4px 2px;overflow-wrap:anywhere}
"""
_SORT = """
document.querySelectorAll("table.sortable th").forEach((th) => {
  th.addEventListener("click", () => {
    const column = th.cellIndex;
    const body = th.closest("table").tBodies[0];
    const down = th.dataset.down !== "yes";
    th.dataset.down = down ? "yes" : "no";
    const value = (row) => row.cells[column].textContent;
    const compare = (a, b) => a.localeCompare(b, undefined, {numeric: true});
    const number = (text) => text !== "" && isFinite(text);
    [...body.rows]
      .sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        return (number(x) && number(y) ? x - y : compare(x, y)) * (down ? -1 : 1);
      })
      .forEach((row) => body.append(row));
  });
});
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body{{margin:28px auto;max-width:1280px;padding:0 20px;background:#fff}}
h1{{font:600 22px/1.3 system-ui,sans-serif;margin:0 0 12px}}
h2{{font:600 17px/1.3 system-ui,sans-serif;margin:24px 0 8px}}
</style>
</head>
<body>
<h1>{title}</h1>
{summary}
<div class="imgret-report">
<h2>Classes</h2>
{classes}
<h2>Worst queries</h2>
</div>
{worst}
<div class="imgret-report">
<h2>Pictures</h2>
{pictures}
<h2>Configuration</h2>
<pre>{config}</pre>
</div>
<script>{sort}</script>
</body>
</html>
"""


def summary(report: Report) -> str:
    """Return the metrics and warnings, with the style they need."""
    bounds = flat(report.ci)
    rows = "".join(
        f"<tr><td>{name}</td><td>{value:.4f}</td>"
        f"<td>{bounds[name][0]:.4f} to {bounds[name][1]:.4f}</td></tr>"
        for name, value in flat(report.metrics).items()
    )
    warnings = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in report.warnings)
    return (
        f'<style>{_STYLE}</style><div class="imgret-report"><p>{html.escape(report.headline())}</p>'
        f"{warnings}<table><thead><tr><th>metric</th><th>mean</th><th>95 % interval</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def page(report: Report, *, title: str) -> str:
    """Return a whole page in one file that needs no other."""
    rows = [
        (
            f"{worst.query} · {worst.label} · AP {worst.average_precision:.3f}",
            worst.image,
            worst.hits,
        )
        for worst in report.worst
    ]
    worst = display.styled(display.grid(rows)) if rows else "<p>Every query is answered fully.</p>"
    return _PAGE.format(
        title=html.escape(title),
        summary=summary(report),
        classes=_classes(report),
        worst=worst,
        pictures=_pictures(report),
        config=html.escape(json.dumps(report.config, indent=2, ensure_ascii=False)),
        sort=_SORT,
    )


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


def _pictures(report: Report) -> str:
    """Return every query that failed, has nothing to find, or is in the gallery."""
    rows = [[fail.query, "could not be read", fail.reason, ""] for fail in report.failed]
    rows += [[query, "nothing to find", "", ""] for query in report.without_relevant]
    rows += [
        [match.query, match.kind, match.key, f"{match.cosine:.4f}"] for match in report.matches
    ]
    if not rows:
        return "<p>Nothing to tell of single queries.</p>"
    return table(["query", "what", "reason or item", "cosine"], rows)


def table(names: list[str], rows: list[list[Any]]) -> str:
    """Return a table that sorts by a click on the head of a column."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def sheet(title: str, body: str) -> str:
    """Return a whole page of a title and HTML, with the style of reports."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>'
        f"{html.escape(title)}</title><style>{_STYLE}{_SHEET_STYLE}</style></head>"
        f'<body class="imgret-report"><h1>{html.escape(title)}</h1>{body}'
        f"<script>{_SORT}</script></body></html>\n"
    )
