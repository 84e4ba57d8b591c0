"""The end of a run: model files, their evaluation, and the report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from imgret.embedders import OnnxEmbedder
from imgret.errors import ImageError, TrainingError
from imgret.evaluation import Report
from imgret.models import Preprocess, write_bundle
from imgret.retriever import Retriever
from imgret.train import onnx_graph
from imgret.train.data import Dataset
from imgret.train.networks import NETWORKS, count_parameters
from imgret.train.networks.backbones import pads_by_size
from imgret.train.parity import cosines
from imgret.train.report import TrainReport, Variant
from imgret.train.trainer import Trainer
from imgret.types import Image

__all__ = ["finish", "save_model"]

_COMPARED, _INT8_COMPARED, _CALIBRATED = 8, 32, 128


def finish(
    trainer: Trainer,
    held: Dataset | None,
    out: Path,
    preprocess: Preprocess,
    *,
    failed: Sequence[ImageError],
    teachers: Sequence[str],
    int8: bool,
    name: str,
    training_data: str,
    progress: bool | None,
) -> TrainReport:
    """Write and evaluate the model files, and write the report; see `train`."""
    kind = trainer.kind
    network = onnx_graph.finished(trainer.averaged_network(), normalize=kind.normalize)
    if trainer.recipe.network in NETWORKS:
        graph = onnx_graph.to_onnx(network)
    else:
        graph, _ = onnx_graph.foreign_to_onnx(
            network,
            trainer.recipe.network,
            side=preprocess.size,
            any_size=kind.size is None and not pads_by_size(network),
        )
    photos = _some(trainer.dataset, _CALIBRATED)
    stored = onnx_graph.as_stored(preprocess)
    facts: dict[str, Any] = {
        "training_data": training_data,
        "source": f"imgret.train, recipe {trainer.recipe.name}"
        + (f", starting from {kind.pretrained()}" if kind.pretrained else "")
        + (f", taught by {', '.join(teachers)}" if teachers else ""),
        "licence": kind.licence,
        "notice": kind.notice,
    }
    files = [(out, "fp32", onnx_graph.with_pixels(graph, preprocess.scaling))]
    if int8:
        quantised = onnx_graph.quantised(graph, preprocess, photos)
        files.append((out.with_suffix(".int8.onnx"), "int8", quantised))
    variants: list[Variant] = []
    compared = photos[:: max(1, len(photos) // _INT8_COMPARED)]
    for path, precision, model in files:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".train-") as folder:
            part = Path(folder) / path.name
            save_model(model, part)
            difference = (
                onnx_graph.agree(network, part, preprocess, photos[:_COMPARED])
                if precision == "fp32"
                else None
            )
            write_bundle(
                part,
                preprocess=stored,
                name=name,
                precision=precision,
                calibrated_on=None
                if precision == "fp32"
                else f"{len(photos)} of the images it was trained on",
                **facts,
            )
            part.replace(path)
        variants.append(
            Variant(
                path=path,
                precision=precision,
                difference=difference,
                cosine=float(_against(path, variants[0].path, compared).mean())
                if variants
                else None,
                evaluation=_evaluate(path, trainer, held, progress=progress),
            )
        )
    report = TrainReport(
        recipe=trainer.recipe,
        parameters=count_parameters(network),
        history=tuple(trainer.history),
        variants=tuple(variants),
        classes=trainer.dataset.classes,
        n_images=len(trainer.dataset),
        failed=tuple(map(str, failed)),
        teachers=tuple(teachers),
        device=str(trainer.device),
        seed=trainer.seed,
    )
    for suffix in (".html", ".json"):
        report.save(out.with_suffix(suffix))
    return report


def _against(path: Path, other: Path, photos: Sequence[Image]) -> NDArray[np.float64]:
    """Return the cosines between the embeddings of two model files."""
    return cosines(*(OnnxEmbedder(each).embed(photos) for each in (other, path)))


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph, or raise if it cannot be written."""
    try:
        onnx.save(model, path)
    except OSError as error:
        raise TrainingError(
            f"{path.name}: cannot be written: {error.strerror}; the network is kept in the "
            f"checkpoint, and resume= continues from here"
        ) from error


def _some(dataset: Dataset, count: int) -> list[Image]:
    """Return images at even distances."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int))
    return [dataset.load(row) for row in rows.tolist()]


def _evaluate(
    path: Path, trainer: Trainer, held: Dataset | None, *, progress: bool | None
) -> Report | None:
    """Evaluate a model with the held-out images as queries and the training images as gallery."""
    if held is None or not len(held):
        return None
    gallery, classes = trainer.dataset, trainer.dataset.classes
    retriever = Retriever(embedder=OnnxEmbedder(path), max_pixels=gallery.max_pixels)
    folder = os.path.commonpath(gallery.paths)
    retriever.add(
        gallery.paths,
        keys=[Path(os.path.relpath(path, folder)).as_posix() for path in gallery.paths],
        labels=[classes[label] for label in gallery.labels],
        progress=progress,
    )
    return retriever.evaluate(held.paths, [classes[label] for label in held.labels])
