"""Report of a training, as text, JSON and an HTML page."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgret.evaluation import Report
from imgret.pages.document import document, table
from imgret.pages.evaluation import summary, worst_queries
from imgret.pages.plot import Axis, plot
from imgret.pages.result import Result
from imgret.train.course import Epoch
from imgret.train.recipes import Recipe
from imgret.types import Json

__all__ = ["TrainReport", "Variant", "draw_curves"]

_WORST = 15


@dataclass(frozen=True)
class Variant:
    """One of the model files.

    Attributes
    ----------
    path : Path
    precision : {"fp32", "int8"}
    difference : float or None
        Largest difference from the outputs of the network on real images, for the fp32 file.
    cosine : float or None
        Mean cosine with the embeddings of the fp32 file on training images, for the int8 file.
    evaluation : Report or None
        Evaluation with the held-out images as queries and the training images as gallery.
    """

    path: Path
    precision: str
    difference: float | None
    cosine: float | None
    evaluation: Report | None

    def to_dict(self) -> Json:
        """Return the attributes, the file size and the metrics as JSON values."""
        return {
            "path": str(self.path),
            "precision": self.precision,
            "bytes": self.path.stat().st_size,
            "difference": self.difference,
            "cosine": self.cosine,
            "metrics": None if self.evaluation is None else self.evaluation.metrics,
        }


@dataclass(frozen=True)
class TrainReport(Result):
    """Report of a training.

    Attributes
    ----------
    recipe : Recipe
    parameters : int
        Number of parameters of the finished network, with batch normalisation folded.
    history : tuple of Epoch
    variants : tuple of Variant
        The model files: fp32, and int8 if requested.
    classes : tuple of str
    n_images : int
        Number of training images.
    failed : tuple of str
        Images that could not be read, and why.
    teachers : tuple of str
    device : str
    seed : int
    """

    recipe: Recipe
    parameters: int
    history: tuple[Epoch, ...]
    variants: tuple[Variant, ...]
    classes: tuple[str, ...]
    n_images: int
    failed: tuple[str, ...]
    teachers: tuple[str, ...]
    device: str
    seed: int

    @property
    def seconds(self) -> float:
        """Time spent in training epochs, without validation."""
        return sum(epoch.seconds for epoch in self.history)

    def __str__(self) -> str:
        first = (
            f"{self.recipe.name}: {self.parameters:,} parameters, {self.n_images} images of "
            f"{len(self.classes)} classes, {len(self.history)} epochs in {self.seconds:.0f} s on "
            f"{self.device}"
        )
        lines = [first]
        for variant in self.variants:
            size = variant.path.stat().st_size / 1e6
            scores = ""
            if variant.evaluation is not None:
                found = variant.evaluation.metrics
                scores = (
                    f": top-1 {found['top1']:.4f}, top-5 {found['top5']:.4f}, mAP@5 "
                    f"{found['map5']['hits']:.4f} (hits) {found['map5']['min_k_r']:.4f} (min_k_r)"
                )
            lines.append(f"{variant.path} ({variant.precision}, {size:.1f} MB){scores}")
        near = [variant.cosine for variant in self.variants if variant.cosine is not None]
        if (lost := self.lost) is not None:
            close = "".join(f", mean cosine {cosine:.4f}" for cosine in near)
            lines.append(f"int8 against fp32: top-1 {0.0 - 100 * lost:+.2f} points{close}")
        elif near:
            lines.append(f"int8 against fp32: mean cosine {near[0]:.4f}")
        if self.failed:
            lines.append(f"images that could not be read: {len(self.failed)}")
            lines += [f"  {line}" for line in self.failed[:10]]
        return "\n".join(lines)

    @property
    def lost(self) -> float | None:
        """Top-1 that int8 loses against fp32; None unless both were evaluated."""
        top1 = {
            variant.precision: variant.evaluation.metrics["top1"]
            for variant in self.variants
            if variant.evaluation is not None
        }
        return top1["fp32"] - top1["int8"] if {"fp32", "int8"} <= set(top1) else None

    def to_dict(self) -> Json:
        """Return everything except the single queries of the evaluations as JSON values."""
        return {
            "recipe": self.recipe.to_json(),
            "parameters": self.parameters,
            "pictures": self.n_images,
            "classes": list(self.classes),
            "failed": list(self.failed),
            "teachers": list(self.teachers),
            "device": self.device,
            "seed": self.seed,
            "seconds": self.seconds,
            "models": [variant.to_dict() for variant in self.variants],
            "history": [asdict(epoch) for epoch in self.history],
        }

    def to_html(self, *, title: str | None = None) -> str:
        """Return a page: curves, metrics, worst classes and queries, configuration."""
        first = self.variants[0].evaluation
        body = (
            f'<pre class="prose">{html.escape(str(self))}</pre>'
            f"<h2>Curves</h2>{self.curves}{'' if first is None else _measured(first)}"
            f"<h2>Configuration</h2><pre>"
            f"{html.escape(json.dumps(self.recipe.to_json(), indent=2))}</pre>"
        )
        return document(title or self.variants[0].path.stem, body, scripts=["sort.js"])

    def _body(self) -> str:
        return f'<pre class="prose">{html.escape(str(self))}</pre>{self.curves}'

    @property
    def curves(self) -> str:
        """Loss, learning rate and validation by epoch, as HTML."""
        return draw_curves(self.history)


def draw_curves(history: Sequence[Epoch]) -> str:
    """Draw loss, learning rate and validation by epoch, side by side where there is room."""
    measured = [epoch for epoch in history if epoch.valid]
    valid = {
        name: [(float(epoch.epoch), epoch.valid[name], "") for epoch in measured]
        for name in (measured[-1].valid if measured else ())
    }
    panels = {
        "loss": {"loss": [(float(epoch.epoch), epoch.loss, "") for epoch in history]},
        "learning rate": {"rate": [(float(epoch.epoch), epoch.lr, "") for epoch in history]},
        "validation, averaged weights": valid,
    }
    drawn = "".join(
        plot(series, title=title, x=Axis("epoch", whole=True), y=Axis(""), best=False)
        for title, series in panels.items()
        if series
    )
    return f'<div class="plots">{drawn}</div>'


def _measured(report: Report) -> str:
    """Return metrics, the worst classes, and the worst queries with images."""
    imperfect = [pair for pair in report.per_class.items() if pair[1]["map5"]["min_k_r"] < 1]
    worst: list[tuple[str, Any]] = sorted(
        imperfect, key=lambda pair: (pair[1]["top1"], pair[1]["map5"]["min_k_r"])
    )[:_WORST]
    rows = [
        [label, found["n_queries"], f"{found['top1']:.3f}", f"{found['map5']['min_k_r']:.3f}"]
        for label, found in worst
    ]
    names = ["class", "queries", "top-1", "mAP@5 (min_k_r)"]
    return (
        f"<h2>Metrics</h2>{summary(report)}"
        f"<h2>Worst classes</h2>{table(names, rows, sortable=True)}"
        f"<h2>Worst queries</h2>{worst_queries(report)}"
    )
