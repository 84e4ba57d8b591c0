"""Training of models on your own images: ``pip install 'imgret[train]'``.

>>> from imgret.train import train
>>> report = train("photos/", "model.onnx")                 # doctest: +SKIP
>>> retriever = Retriever(embedder="model.onnx")            # doctest: +SKIP

The input is a folder with a subfolder for each class, the output a self-describing ONNX file,
which is used without torch. The command is ``imgret train``. `train_saliency` trains the model of
a `SaliencyCropper` from images and masks; the command is ``imgret train-saliency``.

Importing this package loads nothing else. Each name is loaded on first use, with torch if needed.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgret.train.export_model import export
    from imgret.train.export_report import ExportReport
    from imgret.train.recipes import RECIPES, Augmentation, Recipe
    from imgret.train.report import TrainReport
    from imgret.train.run import train
    from imgret.train.saliency.masks import draw_masks
    from imgret.train.saliency.recipe import SaliencyRecipe
    from imgret.train.saliency.report import SaliencyReport
    from imgret.train.saliency.run import train_saliency

__all__ = [
    "RECIPES",
    "Augmentation",
    "ExportReport",
    "Recipe",
    "SaliencyRecipe",
    "SaliencyReport",
    "TrainReport",
    "draw_masks",
    "export",
    "train",
    "train_saliency",
]

_HOMES = {
    "RECIPES": "recipes",
    "Augmentation": "schedule",
    "ExportReport": "export_report",
    "Recipe": "recipes",
    "SaliencyRecipe": "saliency.recipe",
    "SaliencyReport": "saliency.report",
    "draw_masks": "saliency.masks",
    "export": "export_model",
    "train_saliency": "saliency.run",
    "TrainReport": "report",
    "train": "run",
}
# Modules that do not need torch.
_LIGHT = ("export_report", "recipes", "schedule", "saliency.recipe", "saliency.masks")
_NEEDED = ("torch", "pytorch_metric_learning", "onnx", "onnxscript")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'imgret.train' has no attribute {name!r}")
    if _HOMES[name] not in _LIGHT and (
        missing := [package for package in _NEEDED if not importlib.util.find_spec(package)]
    ):
        from imgret.errors import MissingExtraError  # noqa: PLC0415  # only needed to raise it

        raise MissingExtraError.of(f"training ({', '.join(missing)})", extra="train")
    return getattr(importlib.import_module(f"imgret.train.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
