"""Report of the training of a saliency network, as text, JSON and an HTML page."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from imgret import images
from imgret.croppers import SaliencyCropper
from imgret.croppers.maps import subject_box
from imgret.pages.document import document, figure
from imgret.pages.result import Result
from imgret.train.course import Epoch
from imgret.train.report import draw_curves
from imgret.train.saliency.data import MaskedImages
from imgret.train.saliency.recipe import SaliencyRecipe
from imgret.types import Box, Json

__all__ = ["SaliencyReport", "SaliencyVariant", "agreement", "worst_boxes"]

_WORST, _SIDE = 24, 160


@dataclass(frozen=True, slots=True)
class SaliencyVariant:
    """One of the model files.

    Attributes
    ----------
    path : Path
    precision : {"fp32", "int8"}
    agreement : dict of str to float or None
        Result of `agreement` on held-out images.
    """

    path: Path
    precision: str
    agreement: dict[str, float] | None


@dataclass(frozen=True)
class SaliencyReport(Result):
    """Report of the training of a saliency network.

    Attributes
    ----------
    recipe : SaliencyRecipe
    parameters : int
        Number of parameters of the finished network, with batch normalisation folded.
    history : tuple of Epoch
    variants : tuple of SaliencyVariant
        The model files: fp32, and int8 if requested.
    n_images : int
        Number of training images.
    failed : tuple of str
        Files that could not be read, and why.
    worst : tuple of (Path, float)
        Held-out images whose boxes agree least with the masks, with the intersection over union.
    device : str
    seed : int
    max_pixels : int
        Maximum number of pixels of an image when making the page.
    """

    recipe: SaliencyRecipe
    parameters: int
    history: tuple[Epoch, ...]
    variants: tuple[SaliencyVariant, ...]
    n_images: int
    failed: tuple[str, ...]
    worst: tuple[tuple[Path, float], ...]
    device: str
    seed: int
    max_pixels: int = images.MAX_PIXELS

    @property
    def seconds(self) -> float:
        """Time spent in training epochs, without validation."""
        return sum(epoch.seconds for epoch in self.history)

    def __str__(self) -> str:
        first = (
            f"saliency: {self.parameters:,} parameters, {self.n_images} images, "
            f"{len(self.history)} epochs in {self.seconds:.0f} s on {self.device}"
        )
        lines = [first]
        for variant in self.variants:
            size = variant.path.stat().st_size / 1e6
            found = ", ".join(f"{n} {v:.4f}" for n, v in (variant.agreement or {}).items())
            lines.append(
                f"{variant.path} ({variant.precision}, {size:.1f} MB){': ' if found else ''}{found}"
            )
        if self.failed:
            lines.append(f"files that could not be read: {len(self.failed)}")
            lines += [f"  {line}" for line in self.failed[:10]]
        return "\n".join(lines)

    def to_dict(self) -> Json:
        """Return the attributes as JSON values."""
        return {
            "recipe": self.recipe.to_json(),
            "parameters": self.parameters,
            "pictures": self.n_images,
            "failed": list(self.failed),
            "worst": [[str(path), iou] for path, iou in self.worst],
            "device": self.device,
            "seed": self.seed,
            "seconds": self.seconds,
            "models": [asdict(v) | {"path": str(v.path)} for v in self.variants],
            "history": [asdict(epoch) for epoch in self.history],
        }

    def to_html(self, *, title: str | None = None) -> str:
        """Return a page: curves, the boxes that agree least with the masks, configuration."""
        body = (
            f'<pre class="prose">{html.escape(str(self))}</pre>'
            f"<h2>Curves</h2>{draw_curves(self.history)}"
            f"{self._worst() if self.worst else ''}<h2>Configuration</h2><pre>"
            f"{html.escape(json.dumps(self.recipe.to_json(), indent=2))}</pre>"
        )
        return document(title or self.variants[0].path.stem, body)

    def _body(self) -> str:
        return f'<pre class="prose">{html.escape(str(self))}</pre>{draw_curves(self.history)}'

    def _worst(self) -> str:
        cropper = SaliencyCropper(self.variants[0].path)
        figures = "".join(
            figure(
                cropper.overlay(images.load(path, max_pixels=self.max_pixels, min_side=_SIDE)),
                f"{html.escape(path.name)}: {iou:.2f}",
                alt=path.name,
            )
            for path, iou in self.worst
        )
        return f'<h2>Boxes that agree least with the masks</h2><div class="row">{figures}</div>'


def agreement(cropper: SaliencyCropper, pairs: MaskedImages) -> dict[str, float]:
    """Measure the agreement of a cropper with masks.

    Returns
    -------
    dict of str to float
        ``mae``, the mean absolute difference of map and mask, and ``box_iou``, the mean
        intersection over union of the boxes. The cropper's boxes include its margin.
    """
    found = [_compare(cropper, pairs, row) for row in range(len(pairs))]
    return {
        "mae": float(np.mean([mae for mae, _ in found])),
        "box_iou": float(np.mean([iou for _, iou in found])),
    }


def _compare(cropper: SaliencyCropper, pairs: MaskedImages, row: int) -> tuple[float, float]:
    image = pairs.load(row)
    height, width = image.shape[:2]
    level = images.resize(pairs.load_mask(row), width, height)
    mask = (level / 255).astype(np.float32)
    mae = float(np.abs(cropper.saliency(image) - mask).mean())
    true = subject_box(mask, Box.full(image), 0.5) or Box.full(image)
    return mae, cropper.boxes([image])[0].iou(true)


def worst_boxes(cropper: SaliencyCropper, pairs: MaskedImages) -> tuple[tuple[Path, float], ...]:
    """Return the images whose boxes agree least with the masks, worst first."""
    ious = [_compare(cropper, pairs, row)[1] for row in range(len(pairs))]
    order = np.argsort(ious, kind="stable")[:_WORST].tolist()
    return tuple((pairs.photos[row], ious[row]) for row in order)
