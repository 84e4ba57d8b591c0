"""Training of an embedder, from a folder of class subfolders to a model file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from imgret.errors import ImageError, InvalidInputError
from imgret.images import MAX_PIXELS
from imgret.models import Preprocess, bundle, resolve
from imgret.pipeline.embed import worker_count
from imgret.support.checks import check_count
from imgret.train import checkpoint
from imgret.train.data import Dataset, find_classes, hold_out, readable
from imgret.train.networks import NetworkKind, find_network
from imgret.train.recipes import Recipe, find_recipe, on_network
from imgret.train.report import TrainReport
from imgret.train.teacher import Teachers
from imgret.train.trainer import Trainer
from imgret.train.validate import embed, retrieval
from imgret.train.work import RunFiles, check_measuring, find_device, run_epochs

__all__ = ["train"]

# Gallery images per class in validation during training. The final report uses all images.
_GALLERY_A_CLASS = 20


def train(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str | Recipe = "finetune",
    network: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    valid: str | os.PathLike[str] | float | None = 0.1,
    epochs: int | None = None,
    teacher: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    init: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    device: str = "auto",
    seed: int = 0,
    threads: int | None = None,
    validate_every: int = 2,
    patience: int | None = None,
    int8: bool = True,
    name: str | None = None,
    training_data: str | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: bool | None = None,
) -> TrainReport:
    """Train an embedder on a folder of class subfolders and write it to a model file.

    Next to ``out`` (say ``model.onnx``), the training writes ``model.int8.onnx``, the same model
    in 8 bits; ``model.html`` and ``model.json``, the report; and ``model.training/``. That folder
    has the checkpoints ``last.pt``, written after every epoch, and ``best.pt``, and ``log.jsonl``.

    Parameters
    ----------
    folder : path
        Folder with a subfolder for each class, at least two. Images in deeper folders belong to
        the class of the top-level subfolder. Unreadable images are left out and reported.
    out : path
        The ``.onnx`` file to write.
    recipe : str or Recipe
        ``"finetune"`` (EfficientNet-Lite0 from ImageNet, recommended for a few thousand images),
        ``"compact"`` (a shorter version of it with under 2 million parameters), or
        ``"reference"`` (a plain residual network from random weights).
    network : str, optional
        Network to train instead of the recipe's: another one of imgret, or ``timm:`` and the name
        of a network of timm (extra ``timm``), such as ``"timm:resnet18"``. It is trained as a
        whole, at its own size if it takes only one.
    weights : path, optional
        Weights of the timm network to start from: ``.safetensors``, or ``.pth`` as torch saves a
        state dict. By default they are random, which needs many more images. Nothing is
        downloaded.
    valid : path, float or None
        Another folder with the same classes for validation, or the share of each class to hold
        out for it, or None for no validation.
    epochs : int, optional
        Number of epochs. By default that of the recipe.
    teacher : str or path, or several
        Embedders to learn from in addition to the labels: names of built-in models, or paths.
    init : path, optional
        Checkpoint of another run of the same network, whose weights to start from.
    resume : path, optional
        Checkpoint of this run (``last.pt``) to continue from. On the same machine and device the
        result is the same as without the interruption.
    device : {"auto", "cpu", "cuda"} or another torch device
    seed : int
    threads : int, optional
        Number of threads that load images. By default one per core.
    validate_every : int
        Number of epochs from one validation to the next.
    patience : int, optional
        Number of validations without a better mAP@5 after which training stops early.
    int8 : bool
        Whether to write the 8-bit model too.
    name : str, optional
        Name of the model. By default ``out`` without its suffix.
    training_data : str, optional
        Description of the images, stored in the model file. By default the folder's name.
    max_pixels : int
        Maximum number of pixels of an image; larger ones are left out as unreadable. For a large
        JPEG, the pixels are counted at the scale it is decoded at.
    progress : bool, optional
        If true, show a progress bar on stderr and a line per epoch. By default (None) the bar is
        only shown on a terminal. If false, neither is shown.

    Returns
    -------
    TrainReport

    Raises
    ------
    MissingExtraError
        torch, timm, or the pretrained weights of the recipe, are not installed.
    UnknownNameError
        There is no such recipe or network.
    ModelError
        ``weights`` are not those of the network.
    InvalidInputError
        There are fewer than two classes, or an argument is invalid.
    TrainingError
        The loss is no longer finite, or a checkpoint cannot be written or used. The last good
        checkpoint is kept.
    """
    out = Path(out)
    recipe = find_recipe(recipe)
    kind = find_network(
        recipe.network if network is None else network,
        weights=None if weights is None else Path(weights),
        size=recipe.size if network is None else None,
    )
    if network is not None:
        recipe = on_network(recipe, network, size=kind.size)
    _check_size(recipe, kind)
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    work = RunFiles(out)
    work.check(resume)
    check_measuring(validate_every, patience)
    on = find_device(device)
    threads = worker_count(None if threads is None else check_count(threads, "threads"))
    teachers = [teacher] if isinstance(teacher, str | os.PathLike) else list(teacher)
    names = [_named(model) for model in teachers]
    max_pixels = check_count(max_pixels, "max_pixels")
    dataset, held, failed = _dataset(Path(folder), valid, seed, threads, max_pixels)
    work.make()
    trainer = Trainer(
        recipe,
        dataset,
        kind=kind,
        teachers=Teachers(teachers, side=recipe.teach_side) if teachers else None,
        folder=work.folder,
        device=on,
        seed=seed,
        threads=threads,
    )
    if resume is not None:
        trainer.load(checkpoint.read(Path(resume)), Path(resume))
    elif init is not None:
        trainer.start_from(Path(init))
    preprocess = Preprocess(size=recipe.size, scaling=kind.scaling)
    gallery = dataset.select(_some_of_each(dataset.labels, _GALLERY_A_CLASS))

    def measure(shown: Dataset) -> dict[str, float]:
        queries, items = (
            embed(trainer.averaged_network(), dataset, preprocess, device=on, threads=threads)
            for dataset in (shown, gallery)
        )
        return retrieval(queries, items, shown.labels, gallery.labels)

    run_epochs(
        trainer,
        work,
        n_images=len(dataset),
        measure=None if held is None else partial(measure, held),
        validate_every=validate_every,
        patience=patience,
        progress=progress,
    )

    from imgret.train.finish import finish  # noqa: PLC0415  # loads onnx

    return finish(
        trainer,
        held,
        out,
        preprocess,
        failed=failed,
        teachers=names,
        int8=int8,
        name=name or out.stem,
        training_data=training_data or f"the folder {Path(folder).resolve().name}",
        progress=progress,
    )


def _check_size(recipe: Recipe, kind: NetworkKind) -> None:
    """Raise if images of several sizes would be shown to a network that takes one."""
    sides = {recipe.size, *(side for _, side in recipe.sides)}
    if kind.size is not None and sides != {kind.size}:
        raise InvalidInputError(
            f"recipe: expected images of one size for {recipe.network}, found sides of "
            f"{', '.join(map(str, sorted(sides)))} px; use size={kind.size}, "
            f"sides=((0.0, {kind.size}),), or network={recipe.network!r} with a recipe of imgret"
        )


def _named(model: str | os.PathLike[str]) -> str:
    """Return the name stored in a model, or its file name."""
    path = resolve(model)
    facts = bundle.read(path)
    return path.name if facts is None else facts.name


def _dataset(
    folder: Path,
    valid: str | os.PathLike[str] | float | None,
    seed: int,
    threads: int,
    max_pixels: int,
) -> tuple[Dataset, Dataset | None, list[ImageError]]:
    dataset, failed = readable(find_classes(folder, max_pixels=max_pixels), threads)
    if valid is None or valid == 0:
        return dataset, None, failed
    if isinstance(valid, int | float):
        if not 0 < valid < 1:
            raise InvalidInputError(f"valid: expected a share from 0 to 1, found {valid}")
        dataset, held = hold_out(dataset, valid, seed)
        return dataset, held if len(held) else None, failed
    held = find_classes(Path(valid), dataset.classes, max_pixels=max_pixels)
    kept, broken = readable(held, threads)
    return dataset, kept, failed + broken


def _some_of_each(labels: np.ndarray, most: int) -> np.ndarray:
    """Return the first ``most`` rows of each class."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    return np.sort(order[np.arange(len(labels)) - starts < most])
