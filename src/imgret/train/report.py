"""What a training came to, as numbers and as a page."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgret import display
from imgret.abc.lazy import cached_property
from imgret.evaluation import Report
from imgret.train.course import Epoch
from imgret.train.recipes import Recipe
from imgret.types import Json

__all__ = ["STYLE", "TrainReport", "Variant", "draw_curves"]

_WORST = 15
STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#1d1d1f;margin:28px auto;max-width:1180px;
  padding:0 20px;background:#fff}
h1{font-size:22px}h2{font-size:17px;margin-top:28px}
table{border-collapse:collapse}th,td{padding:3px 14px 3px 0;text-align:right;
  border-bottom:1px solid #e5e5ea;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left}
img.curves{max-width:100%}pre{background:#f2f2f4;border-radius:8px;padding:12px;overflow:auto}
"""


@dataclass(frozen=True)
class Variant:
    """One of the model files.

    Attributes
    ----------
    path : Path
    precision : {"fp32", "int8"}
    difference : float or None
        Largest difference to the network's own answers on real pictures; of the fp32 file.
    evaluation : Report or None
        Held-out pictures searched for among those that were trained on.
    """

    path: Path
    precision: str
    difference: float | None
    evaluation: Report | None

    def to_json(self) -> Json:
        """Return the facts as JSON values."""
        return {
            "path": str(self.path),
            "precision": self.precision,
            "bytes": self.path.stat().st_size,
            "difference": self.difference,
            "metrics": None if self.evaluation is None else self.evaluation.metrics,
        }


@dataclass(frozen=True)
class TrainReport:
    """What a training came to.

    Attributes
    ----------
    recipe : Recipe
    parameters : int
        Of the finished network, batch normalisation folded.
    history : tuple of Epoch
    variants : tuple of Variant
        The model files: fp32, and int8 where it was asked for.
    classes : tuple of str
    n_pictures : int
        That were trained on.
    failed : tuple of str
        Pictures that could not be read, and why.
    teachers : tuple of str
    device : str
    seed : int
    """

    recipe: Recipe
    parameters: int
    history: tuple[Epoch, ...]
    variants: tuple[Variant, ...]
    classes: tuple[str, ...]
    n_pictures: int
    failed: tuple[str, ...]
    teachers: tuple[str, ...]
    device: str
    seed: int

    @property
    def seconds(self) -> float:
        """Time spent in training epochs, validation not included."""
        return sum(epoch.seconds for epoch in self.history)

    def __str__(self) -> str:
        first = (
            f"{self.recipe.name}: {self.parameters:,} parameters, {self.n_pictures} pictures of "
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
        if (lost := self.lost) is not None:
            lines.append(f"int8 against fp32: top-1 {0.0 - 100 * lost:+.2f} points")
        if self.failed:
            lines.append(f"pictures that could not be read: {len(self.failed)}")
            lines += [f"  {line}" for line in self.failed[:10]]
        return "\n".join(lines)

    @property
    def lost(self) -> float | None:
        """Top-1 that int8 loses against fp32; None where not both were measured."""
        top1 = {
            variant.precision: variant.evaluation.metrics["top1"]
            for variant in self.variants
            if variant.evaluation is not None
        }
        return top1["fp32"] - top1["int8"] if {"fp32", "int8"} <= set(top1) else None

    def to_json(self) -> Json:
        """Return everything but the evaluations' single queries as JSON values."""
        return {
            "recipe": self.recipe.to_json(),
            "parameters": self.parameters,
            "pictures": self.n_pictures,
            "classes": list(self.classes),
            "failed": list(self.failed),
            "teachers": list(self.teachers),
            "device": self.device,
            "seed": self.seed,
            "seconds": self.seconds,
            "models": [variant.to_json() for variant in self.variants],
            "history": [asdict(epoch) for epoch in self.history],
        }

    def to_html(self) -> str:
        """Return a page: curves, metrics, worst classes and queries, configuration."""
        first = self.variants[0].evaluation
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>'
            f"{html.escape(self.variants[0].path.stem)}</title><style>{STYLE}</style></head><body>"
            f"<h1>{html.escape(self.variants[0].path.stem)}</h1>"
            f"<pre>{html.escape(str(self))}</pre>"
            f'<h2>Curves</h2><img class="curves" alt="loss, learning rate and retrieval by epoch" '
            f'src="data:image/png;base64,{base64.b64encode(self.curves).decode()}">'
            f"{'' if first is None else _measured(first)}"
            f"<h2>Configuration</h2><pre>"
            f"{html.escape(json.dumps(self.recipe.to_json(), indent=2))}</pre></body></html>"
        )

    @cached_property
    def curves(self) -> bytes:
        """Loss, learning rate and validation by epoch, as a PNG."""
        return draw_curves(self.history)

    def save(self, stem: Path) -> None:
        """Write ``stem.html``, ``stem.json`` and ``stem.png``, the curves."""
        stem.with_suffix(".html").write_text(self.to_html(), encoding="utf-8")
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False)
        stem.with_suffix(".json").write_text(text, encoding="utf-8")
        stem.with_suffix(".png").write_bytes(self.curves)


def draw_curves(history: Sequence[Epoch]) -> bytes:
    """Draw loss, learning rate and validation by epoch; return a PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # slow to load

    epochs = [epoch.epoch for epoch in history]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, rate, found = figure.subplots(1, 3)
    loss.plot(epochs, [epoch.loss for epoch in history])
    loss.set(title="loss", xlabel="epoch")
    rate.plot(epochs, [epoch.lr for epoch in history])
    rate.set(title="learning rate", xlabel="epoch")
    measured = [epoch for epoch in history if epoch.valid]
    for name in measured[-1].valid if measured else ():
        values = [epoch.valid[name] for epoch in measured]
        found.plot([epoch.epoch for epoch in measured], values, marker=".", label=name)
    if measured:
        found.legend()
    found.set(title="validation, averaged weights", xlabel="epoch")
    for axes in (loss, rate, found):
        axes.grid(alpha=0.3)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110)
    return target.getvalue()


def _measured(report: Report) -> str:
    """Return metrics, the classes found worst, and the worst queries with pictures."""
    imperfect = [pair for pair in report.per_class.items() if pair[1]["map5"]["min_k_r"] < 1]
    worst: list[tuple[str, Any]] = sorted(
        imperfect, key=lambda pair: (pair[1]["top1"], pair[1]["map5"]["min_k_r"])
    )[:_WORST]
    rows = "".join(
        f"<tr><td>{html.escape(label)}</td><td>{found['n_queries']}</td>"
        f"<td>{found['top1']:.3f}</td><td>{found['map5']['min_k_r']:.3f}</td></tr>"
        for label, found in worst
    )
    queries = [
        (f"{query.query} · {query.label}", query.image, query.hits) for query in report.worst
    ]
    return (
        f"<h2>Metrics</h2>{report._repr_html_()}"
        f"<h2>Worst classes</h2><table><thead><tr><th>class</th><th>queries</th><th>top-1</th>"
        f"<th>mAP@5 (min_k_r)</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<h2>Worst queries</h2>{display.styled(display.grid(queries)) if queries else 'none'}"
    )
