"""Training of a saliency network, from images and masks to a model file."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from imgret.errors import ImageError, InvalidInputError
from imgret.images import MAX_PIXELS
from imgret.models import Preprocess
from imgret.pipeline.embed import worker_count
from imgret.support.checks import check_count
from imgret.train import checkpoint
from imgret.train.networks.efficientnet import SCALING
from imgret.train.saliency.data import MaskedImages, find_pairs, readable_pairs
from imgret.train.saliency.recipe import SaliencyRecipe
from imgret.train.saliency.report import SaliencyReport
from imgret.train.saliency.trainer import SaliencyTrainer, measure
from imgret.train.work import RunFiles, check_measuring, find_device, run_epochs

__all__ = ["train_saliency"]


def train_saliency(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: SaliencyRecipe | None = None,
    valid: tuple[str | os.PathLike[str], str | os.PathLike[str]] | float | None = 0.05,
    epochs: int | None = None,
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
) -> SaliencyReport:
    """Train a network that finds the subject of an image, and write it to a model file.

    ``SaliencyCropper(out)`` uses the file. The training also writes the same files as `train` next
    to it: the 8-bit model, the report, and the folder of checkpoints.

    Parameters
    ----------
    images : path
        Folder of images.
    masks : path
        Folder of masks with the same relative paths, as PNG: white where the subject is, of any
        size. `draw_masks` makes them with another model. Images without a mask are ignored.
    out : path
        The ``.onnx`` file to write.
    recipe : SaliencyRecipe, optional
    valid : pair of paths, float or None
        Folders of other images and masks for validation, or the share of the pairs to hold out
        for it, or None for no validation.
    epochs, resume, device, seed, threads, validate_every, patience, int8, name, training_data, \
max_pixels, progress
        See `imgret.train.run.train`.

    Returns
    -------
    SaliencyReport

    Raises
    ------
    MissingExtraError, InvalidInputError, TrainingError
        As for `imgret.train.run.train`.
    """
    out = Path(out)
    recipe = recipe or SaliencyRecipe()
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    work = RunFiles(out)
    work.check(resume)
    check_measuring(validate_every, patience)
    on = find_device(device)
    threads = worker_count(None if threads is None else check_count(threads, "threads"))
    max_pixels = check_count(max_pixels, "max_pixels")
    pairs, held, failed = _pairs((Path(images), Path(masks)), valid, seed, threads, max_pixels)
    work.make()
    trainer = SaliencyTrainer(recipe, pairs, device=on, seed=seed, threads=threads)
    if resume is not None:
        trainer.load(checkpoint.read(Path(resume)), Path(resume))
    preprocess = Preprocess(size=recipe.size, resize="squash", scaling=SCALING)

    def measured(shown: MaskedImages) -> dict[str, float]:
        return measure(
            trainer.averaged_network(),
            shown,
            preprocess,
            recipe.threshold,
            device=on,
            threads=threads,
        )

    run_epochs(
        trainer,
        work,
        n_images=len(pairs),
        measure=None if held is None else partial(measured, held),
        validate_every=validate_every,
        patience=patience,
        progress=progress,
    )
    from imgret.train.saliency.finish import finish  # noqa: PLC0415  # loads onnx

    return finish(
        trainer,
        held,
        out,
        preprocess,
        failed=failed,
        int8=int8,
        name=name or out.stem,
        training_data=training_data or f"the folder {Path(images).resolve().name}",
    )


def _pairs(
    folders: tuple[Path, Path],
    valid: tuple[str | os.PathLike[str], str | os.PathLike[str]] | float | None,
    seed: int,
    threads: int,
    max_pixels: int,
) -> tuple[MaskedImages, MaskedImages | None, list[ImageError]]:
    pairs, failed = readable_pairs(find_pairs(*folders, max_pixels=max_pixels), threads)
    if valid is None or valid == 0:
        return pairs, None, failed
    if isinstance(valid, int | float):
        if not 0 < valid < 1:
            raise InvalidInputError(f"valid: expected a share from 0 to 1, found {valid}")
        order = np.random.default_rng(seed).permutation(len(pairs))
        count = min(max(1, round(valid * len(pairs))), len(pairs) - 2)
        if count < 1:
            return pairs, None, failed
        return pairs.select(np.sort(order[count:])), pairs.select(np.sort(order[:count])), failed
    held, broken = readable_pairs(find_pairs(*map(Path, valid), max_pixels=max_pixels), threads)
    return pairs, held, failed + broken
