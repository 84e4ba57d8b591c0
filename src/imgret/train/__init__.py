"""Train models on images of one's own: ``pip install 'imgret[train]'``.

>>> from imgret.train import train
>>> report = train("photos/", "model.onnx")                 # doctest: +SKIP
>>> retriever = Retriever(embedder="model.onnx")            # doctest: +SKIP

A folder with a subfolder a class goes in, a self-describing ONNX file comes out, which needs
none of what trained it. The command is ``imgret train``. `train_saliency` trains what a
`SaliencyCropper` sees with, from images and masks; the command is ``imgret train-saliency``.

Importing this package imports nothing else; each name is loaded on first use, and torch with it.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "Recipe",
    "SaliencyRecipe",
    "SaliencyReport",
    "TrainReport",
    "draw_masks",
    "train",
    "train_saliency",
]

_HOMES = {
    "RECIPES": "recipes",
    "Augmentation": "schedule",
    "Recipe": "recipes",
    "SaliencyRecipe": "saliency.recipe",
    "SaliencyReport": "saliency.report",
    "draw_masks": "saliency.masks",
    "train_saliency": "saliency.run",
    "TrainReport": "report",
    "train": "run",
}
# Which need no torch.
_LIGHT = ("recipes", "schedule", "saliency.recipe", "saliency.masks")
_NEEDED = ("torch", "pytorch_metric_learning", "onnx", "onnxscript")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'imgret.train' has no attribute {name!r}")
    if _HOMES[name] not in _LIGHT and (
        missing := [package for package in _NEEDED if not importlib.util.find_spec(package)]
    ):
        from imgret.errors import MissingExtraError  # noqa: PLC0415  # only where it is raised

        raise MissingExtraError.of(f"training ({', '.join(missing)})", extra="train")
    return getattr(importlib.import_module(f"imgret.train.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
