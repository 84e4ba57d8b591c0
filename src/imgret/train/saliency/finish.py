"""The end of a run: model files, their agreement with masks, and the report."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from imgret.croppers import SaliencyCropper
from imgret.errors import ImageError
from imgret.models import Preprocess, write_bundle
from imgret.train import onnx_graph
from imgret.train.finish import save_model
from imgret.train.networks import count_parameters
from imgret.train.networks.efficientnet import WEIGHTS_NOTICE, weights_source
from imgret.train.saliency.data import MaskedImages
from imgret.train.saliency.report import (
    SaliencyReport,
    SaliencyVariant,
    agreement,
    worst_boxes,
)
from imgret.train.saliency.trainer import SaliencyTrainer
from imgret.types import Image

__all__ = ["finish"]

_COMPARED, _CALIBRATED = 8, 256


def finish(
    trainer: SaliencyTrainer,
    held: MaskedImages | None,
    out: Path,
    preprocess: Preprocess,
    *,
    failed: list[ImageError],
    int8: bool,
    name: str,
    training_data: str,
) -> SaliencyReport:
    """Write and evaluate the model files, and write the report; see `train_saliency`."""
    network = onnx_graph.finished_map(trainer.averaged_network())
    graph = onnx_graph.to_onnx(network, onnx_graph.MAP)
    photos = _some(trainer.pairs, _CALIBRATED)
    files = [(out, "fp32", onnx_graph.with_pixels(graph, preprocess.scaling))]
    if int8:
        files.append(
            (out.with_suffix(".int8.onnx"), "int8", onnx_graph.quantised(graph, preprocess, photos))
        )
    variants = []
    for path, precision, model in files:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".train-") as folder:
            part = Path(folder) / path.name
            save_model(model, part)
            if precision == "fp32":
                onnx_graph.agree(network, part, preprocess, photos[:_COMPARED])
            write_bundle(
                part,
                kind="saliency",
                threshold=trainer.recipe.threshold,
                calibrated=True,
                preprocess=onnx_graph.as_stored(preprocess),
                name=name,
                precision=precision,
                calibrated_on=None
                if precision == "fp32"
                else f"{len(photos)} of the images it was trained on",
                training_data=training_data,
                source=f"imgret.train.train_saliency, starting from {weights_source(0)}",
                licence="Apache-2.0",
                notice=WEIGHTS_NOTICE,
            )
            part.replace(path)
        variants.append(
            SaliencyVariant(
                path=path,
                precision=precision,
                agreement=None if held is None else agreement(SaliencyCropper(path), held),
            )
        )
    report = SaliencyReport(
        recipe=trainer.recipe,
        parameters=count_parameters(network),
        history=tuple(trainer.history),
        variants=tuple(variants),
        n_images=len(trainer.pairs),
        failed=tuple(map(str, failed)),
        worst=() if held is None else worst_boxes(SaliencyCropper(variants[0].path), held),
        device=str(trainer.device),
        seed=trainer.seed,
        max_pixels=trainer.pairs.max_pixels,
    )
    for suffix in (".html", ".json"):
        report.save(out.with_suffix(suffix))
    return report


def _some(pairs: MaskedImages, count: int) -> list[Image]:
    """Return images at even distances."""
    rows = np.unique(np.linspace(0, len(pairs) - 1, count).round().astype(int))
    return [pairs.load(row) for row in rows.tolist()]
