"""The page of a crop report: figures, the crops that cost most, every class."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from imgret.errors import ImageError
from imgret.pages.document import document, figure, table
from imgret.pages.hits import boxed, small

if TYPE_CHECKING:
    from imgret.evaluation import CropReport
    from imgret.evaluation.crops import Crop

__all__ = ["page"]


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
    figures = (
        "".join(_figure(crop, report.max_pixels) for crop in report.worst)
        or "<p>No crop costs anything.</p>"
    )
    body = (
        f"<pre>{html.escape(str(report))}</pre><h2>Crops that cost most</h2>"
        f"<p>Average precision at 5 of the whole image, and of the crop.</p>"
        f'<div class="row">{figures}</div>'
        f"<h2>Classes</h2><p>mAP@5 (min_k_r)</p>{table(names, rows)}"
    )
    return document(title, body, scripts=["sort.js"])


def _figure(crop: Crop, max_pixels: int) -> str:
    caption = (
        f"<b>{html.escape(crop.label)}</b><br>{crop.whole:.2f} → {crop.crop:.2f}<br>"
        f"{html.escape(crop.path.name)}"
    )
    try:
        image, size = small(crop.path, max_pixels)
    except ImageError as error:
        return figure(None, caption, alt=error.reason)
    return figure(boxed(image, crop.box, size), caption, alt=crop.path.name)
