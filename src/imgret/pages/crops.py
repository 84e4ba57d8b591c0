"""The page of a crop report: figures, the crops that cost most, every class."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from imgret.pages.document import MAX_BYTES, document, file_link, table
from imgret.pages.hits import MAX_TOTAL, image_figure

if TYPE_CHECKING:
    from imgret.evaluation import CropReport
    from imgret.evaluation.crops import Crop

__all__ = ["page", "summary"]


def page(report: CropReport, *, title: str) -> str:
    """Return a self-contained HTML page."""
    views = list(report.views)
    rows = [
        [
            label,
            row["n_queries"],
            *(f"{row[name]:.4f}" for name in views),
            *(f"{row[name] - row['whole']:+.4f}" for name in views[1:]),
        ]
        for label, row in report.per_class.items()
    ]
    names = ["class", "queries", *views, *(f"{name} - whole" for name in views[1:])]
    body = (
        f"{summary(report)}"
        f"<h2>Classes</h2><p>mAP@5 (min_k_r)</p>{table(names, rows, sortable=True)}"
    )
    return document(title, body, scripts=["sort.js"])


def summary(report: CropReport) -> str:
    """Return the figures, and the crops that cost most."""
    worst = report.worst
    max_bytes = min(MAX_BYTES, MAX_TOTAL // max(1, len(worst)))
    figures = (
        "".join(_figure(crop, report.max_pixels, max_bytes) for crop in worst)
        or "<p>No crop costs anything.</p>"
    )
    return (
        f"<pre>{html.escape(str(report))}</pre><h2>Crops that cost most</h2>"
        f"<p>Average precision at 5 of the whole image, and of the crop.</p>"
        f'<div class="row">{figures}</div>'
    )


def _figure(crop: Crop, max_pixels: int, max_bytes: int) -> str:
    caption = (
        f"<b>{html.escape(crop.label)}</b><br>{crop.whole:.2f} → {crop.crop:.2f}<br>"
        f"{file_link(crop.path, crop.path.name)}"
    )
    return image_figure(
        crop.path, caption, box=crop.box, max_pixels=max_pixels, max_bytes=max_bytes
    )
