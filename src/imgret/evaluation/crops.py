"""Effect of cropping on retrieval: compares whole images, crops, and both together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from imgret.abc import Cropper, Embedder
from imgret.croppers import NoCrop
from imgret.errors import InvalidInputError
from imgret.evaluation.bootstrap import Comparison, compare
from imgret.evaluation.report import Report, flat
from imgret.files import Place, place_of
from imgret.images import MAX_PIXELS
from imgret.ingest import Source, embed_sources
from imgret.pages.result import Tabular
from imgret.pipeline.embed import Outcome
from imgret.search import View
from imgret.support.lazy import cached_property
from imgret.support.unit import unit_length
from imgret.types import Box, Embeddings, Json

__all__ = ["VIEWS", "Crop", "CropReport", "report_crops"]

VIEWS = ("whole", "crop", "two-view")

# Takes embeddings, keys and labels; returns their leave-one-out evaluation.
_Evaluate: TypeAlias = Callable[[Embeddings, list[str], list[str]], Report]

_DECIDES = "map5_min_k_r"
_SHOWN = {"top1": "top-1", "top5": "top-5", _DECIDES: "mAP@5 (min_k_r)"}  # fits 80 columns


class Crop(NamedTuple):
    """Result of cropping one image.

    Attributes
    ----------
    key, label : str
    path : Path or Url
    box : Box
        Crop box in pixels of the image.
    found : bool
        Whether the cropper found a subject.
    whole, crop : float
        Average precision at 5 (min_k_r) with the whole image and with the crop as the query.
    wrong : bool
        Whether the crop is wrong according to the labels: the nearest neighbour of the whole
        image is of its class, that of the crop is not.
    """

    key: str
    label: str
    path: Place
    box: Box
    found: bool
    whole: float
    crop: float
    wrong: bool


@dataclass(frozen=True, eq=False)
class CropReport(Tabular):
    """Leave-one-out evaluation of the labelled items: whole, cropped, and both together.

    Attributes
    ----------
    cropper : dict
        Name and options of the cropper.
    views : dict of str to Report
        Reports for ``"whole"``, ``"crop"``, and ``"two-view"``, the mean of both embeddings.
    crops : tuple of Crop
        One per image.
    left_out : tuple of str
        Keys of labelled items whose image cannot be read again.
    seconds_per_crop : float
        Time to crop one image, in one thread.
    n_worst : int
        Number of worst crops that the page shows.
    max_pixels : int
        Maximum number of pixels of an image that a page reads again.
    """

    cropper: Json
    views: Mapping[str, Report]
    crops: tuple[Crop, ...]
    left_out: tuple[str, ...]
    seconds_per_crop: float
    n_worst: int
    max_pixels: int = MAX_PIXELS

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        """Paired comparison of ``"crop"`` and of ``"two-view"`` with ``"whole"``."""
        whole = self.views["whole"]
        return {name: compare(whole, self.views[name]) for name in VIEWS[1:]}

    @cached_property
    def recommended(self) -> str:
        """The recommended view.

        This is the whole image, unless another view is better in mAP@5 (min_k_r) by more than
        chance: the 95 % interval of its paired difference lies above 0. If both other views are,
        it is the better of the two.
        """
        gains = {
            name: found.metrics[_DECIDES]["difference"]
            for name, found in self.comparisons.items()
            if found.metrics[_DECIDES]["ci"][0] > 0
        }
        return max(gains, key=gains.__getitem__) if gains else "whole"

    @property
    def wrong(self) -> tuple[str, ...]:
        """Keys of the images whose crop is wrong according to the labels; see `Crop`."""
        return tuple(crop.key for crop in self.crops if crop.wrong)

    @property
    def worst(self) -> tuple[Crop, ...]:
        """The crops that lower average precision most; those that do not lower it are left out."""
        order = sorted(self.crops, key=lambda crop: crop.crop - crop.whole)
        return tuple(crop for crop in order[: self.n_worst] if crop.crop < crop.whole)

    @cached_property
    def per_class(self) -> Json:
        """For each class, ``n_queries`` and the mAP@5 (min_k_r) of each view."""
        made: Json = {}
        for name, report in self.views.items():
            for label, row in report.per_class.items():
                of_class = made.setdefault(label, {"n_queries": row["n_queries"]})
                of_class[name] = row["map5"]["min_k_r"]
        return made

    def __str__(self) -> str:
        n = len(self.crops)
        missed = sum(not crop.found for crop in self.crops)
        first = (
            f"cropper {self.cropper['name']}: {n} images of {len(self.per_class)} classes, "
            f"{missed} without a subject, {1000 * self.seconds_per_crop:.1f} ms per image"
        )
        lines = [
            first,
            f"{'view':<10}" + "".join(f"{name:>23}" for name in _SHOWN.values()),
        ]
        for name, report in self.views.items():
            means, bounds = flat(report.metrics), flat(report.ci)
            cells = (f"{means[m]:.4f} [{bounds[m][0]:.3f} {bounds[m][1]:.3f}]" for m in _SHOWN)
            lines.append(f"{name:<10}" + "".join(f"{cell:>23}" for cell in cells))
        for name, found in self.comparisons.items():
            row = found.metrics[_DECIDES]
            low, high = row["ci"]
            lines.append(
                f"{name} against whole, mAP@5 (min_k_r): {row['difference']:+.4f} "
                f"[{low:+.4f} {high:+.4f}]"
            )
        lines.append(f"recommended: {self.recommended}")
        if self.wrong:
            lines.append(f"crops that are wrong according to the labels: {len(self.wrong)}")
        if self.left_out:
            lines.append(
                f"items left out because their images cannot be read: {len(self.left_out)}"
            )
        return "\n".join(lines)

    def to_dict(self) -> Json:
        """Return everything as JSON values, except the single queries of the views."""
        return {
            "cropper": self.cropper,
            "recommended": self.recommended,
            "views": {
                name: {"metrics": report.metrics, "ci": report.ci}
                for name, report in self.views.items()
            },
            "comparisons": {name: found.to_dict() for name, found in self.comparisons.items()},
            "per_class": self.per_class,
            "crops": [
                crop._asdict() | {"path": str(crop.path), "box": list(crop.box)}
                for crop in self.crops
            ],
            "left_out": list(self.left_out),
            "seconds_per_crop": self.seconds_per_crop,
        }

    def _frame(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        rows = [crop._replace(path=str(crop.path)) for crop in self.crops]  # type: ignore[arg-type]  # as text
        return Crop._fields, [tuple(row) for row in rows]

    def to_html(self, *, title: str | None = None) -> str:
        """Return a self-contained page: metrics, the worst crops as images, every class."""
        from imgret.pages import crops  # noqa: PLC0415  # images are read only when drawn

        return crops.page(self, title=title or f"Cropping by {self.cropper['name']}")

    def _body(self) -> str:
        from imgret.pages import crops  # noqa: PLC0415  # the same

        return crops.summary(self)


def report_crops(
    view: View,
    embedder: Embedder,
    cropper: Cropper,
    search_in: _Evaluate,
    *,
    n_worst: int,
    threads: int | None,
    max_pixels: int = MAX_PIXELS,
) -> CropReport:
    """Embed the labelled items whole and cropped, and evaluate each view.

    Parameters
    ----------
    view : View
    embedder, cropper
    search_in : callable
        Function that evaluates embeddings of labelled images, leave-one-out.
    n_worst, threads
        As for `Retriever.crop_report`.
    max_pixels : int
        As for `Retriever`.
    """
    items = list(view.items(view.labels.ids))
    sources = [
        Source(item.key, item.path, place_of(item.path), item.label, {})
        for item in items
        if item.path is not None
    ]
    if not sources:
        raise InvalidInputError(
            f"crop_report: expected labelled items that come from files, found none among the "
            f"{len(items)} labelled items; add images by their paths, with labels"
        )
    stages: dict[str, float] = {}

    def add_stage(stage: str, seconds: float) -> None:
        stages[stage] = stages.get(stage, 0.0) + seconds

    cropped = _embedded(
        sources, embedder, cropper, threads=threads, max_pixels=max_pixels, on_stage=add_stage
    )
    whole = _embedded(sources, embedder, NoCrop(), threads=threads, max_pixels=max_pixels)
    keys = [s.key for s in sources if s.key in cropped and s.key in whole]
    left_out = sorted({item.key for item in items} - set(keys))
    if not keys:
        raise InvalidInputError(
            f"crop_report: expected images that can be read again, found none among the "
            f"{len(sources)} files"
        )
    by_key = {source.key: source for source in sources}
    labels = [str(by_key[key].label) for key in keys]
    ways = {
        "whole": unit_length(np.stack([_vector(whole[key]) for key in keys])),
        "crop": unit_length(np.stack([_vector(cropped[key]) for key in keys])),
    }
    ways["two-view"] = unit_length(ways["whole"] + ways["crop"])
    views = {name: search_in(vectors, keys, labels) for name, vectors in ways.items()}
    top1 = {name: _of_each(views[name], "top1") for name in ("whole", "crop")}
    found = {name: _of_each(views[name], _DECIDES) for name in ("whole", "crop")}
    crops = []
    for key, label in zip(keys, labels, strict=True):
        path, box = by_key[key].path, cropped[key].box
        if path is None or box is None:  # neither happens to a file that was embedded
            continue
        crops.append(
            Crop(
                key,
                label,
                path,
                box,
                found=not cropped[key].missed,
                whole=found["whole"][key],
                crop=found["crop"][key],
                wrong=top1["whole"][key] > top1["crop"][key],
            )
        )
    return CropReport(
        cropper={"name": cropper.name, "config": cropper.config()},
        views=views,
        crops=tuple(crops),
        left_out=tuple(left_out),
        seconds_per_crop=stages.get("crop", 0.0) / len(sources),
        n_worst=n_worst,
        max_pixels=max_pixels,
    )


def _embedded(
    sources: list[Source],
    embedder: Embedder,
    cropper: Cropper,
    *,
    threads: int | None,
    max_pixels: int,
    on_stage: Callable[[str, float], None] | None = None,
) -> dict[str, Outcome]:
    """Return the outcome of each image that could be embedded, by key."""
    runs = embed_sources(
        sources, embedder, cropper, threads=threads, max_pixels=max_pixels, on_stage=on_stage
    )
    return {outcome.source.key: outcome for run in runs for outcome in run if outcome.error is None}


def _vector(outcome: Outcome) -> Embeddings:
    vector: Embeddings = np.asarray(outcome.embedding, dtype=np.float32)
    return vector


def _of_each(report: Report, metric: str) -> dict[str, float]:
    return dict(zip(report.queries, report.values[metric].tolist(), strict=True))
