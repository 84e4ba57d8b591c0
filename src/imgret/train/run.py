"""From a folder of class subfolders to a model file: the whole way."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from imgret.abc.checks import check_count
from imgret.errors import ImageError, InvalidInputError, TrainingError
from imgret.ingest.pipeline import worker_count
from imgret.models import Preprocess, bundle, resolve
from imgret.train import checkpoint
from imgret.train.data import Pictures, find_classes, hold_out, readable
from imgret.train.networks import NETWORKS
from imgret.train.recipes import Recipe, find_recipe
from imgret.train.report import TrainReport
from imgret.train.teacher import teach
from imgret.train.trainer import Epoch, Trainer
from imgret.train.validate import embed, retrieval

__all__ = ["train"]

# Pictures of each class that validation during the training searches; the report at the end
# searches all.
_GALLERY_A_CLASS = 20


def train(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str | Recipe = "finetune",
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
    progress: bool | None = None,
) -> TrainReport:
    """Train an embedder on a folder of class subfolders, and write it as a model file.

    Beside ``out`` (say ``model.onnx``) stand afterwards ``model.int8.onnx``, the same in
    8 bits; ``model.html``, the report; and ``model.training/`` with the checkpoints
    ``last.pt``, written after every epoch, and ``best.pt``, and ``log.jsonl``.

    Parameters
    ----------
    folder : path
        With a subfolder for each of at least two classes; what lies deeper is of the class of
        the uppermost one. Pictures that cannot be read are left out and told in the report.
    out : path
        The ``.onnx`` file to write.
    recipe : str or Recipe
        ``"finetune"`` (EfficientNet-Lite0 from ImageNet: what to take for a few thousand
        pictures), ``"compact"`` (its shorter kin, under 2 million parameters), or
        ``"reference"`` (a plain residual network from random weights).
    valid : path, float or None
        Another folder of the same classes to measure with; or the share of each class to hold
        out for that; or None to measure nothing.
    epochs : int, optional
        Instead of the recipe's.
    teacher : str or path, or several
        Embedders (names of built-in models, or paths) to learn from as well.
    init : path, optional
        Checkpoint of another run of the same network, to start from its weights.
    resume : path, optional
        Checkpoint of this run (``last.pt``), to go on from. On one machine and device the result
        is that of a run that was never interrupted.
    device : {"auto", "cpu", "cuda"} or another name of torch's
    seed : int
    threads : int, optional
        That load pictures; by default one for each core.
    validate_every : int
        Epochs between two measurements.
    patience : int, optional
        Measurements without a better mAP@5 after which training stops early.
    int8 : bool
        Whether to write the 8-bit model too.
    name : str, optional
        Of the model; by default ``out`` without its suffix.
    training_data : str, optional
        What the pictures are, for the facts in the model file; by default the folder's name.
    progress : bool, optional
        Show a progress bar on stderr, and a line an epoch; None: the bar only where that is a
        terminal; False: neither.

    Returns
    -------
    TrainReport

    Raises
    ------
    MissingExtraError
        torch, or the pretrained weights of the recipe, are not installed.
    InvalidInputError
        There are fewer than two classes, or an argument is none that is allowed.
    TrainingError
        The loss is no longer finite, or a checkpoint cannot be written or used. The last good
        checkpoint is kept.
    """
    out = Path(out)
    recipe = find_recipe(recipe)
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    _check(out, validate_every, patience)
    on = _device(device)
    threads = worker_count(None if threads is None else check_count(threads, "threads"))
    work = _Work(out)
    if resume is None and work.last.exists():
        raise InvalidInputError(
            f"{work.last}: expected no checkpoint of an earlier run, found one; go on from it "
            f"(resume=, or --resume), write to another file, or remove {work.folder}"
        )
    teachers = [teacher] if isinstance(teacher, str | os.PathLike) else list(teacher)
    names = [_named(model) for model in teachers]
    pictures, held, failed = _pictures(Path(folder), valid, seed, threads)
    work.make()
    taught = teach(teachers, pictures, work.folder, threads=threads) if teachers else None
    trainer = Trainer(recipe, pictures, taught=taught, device=on, seed=seed, threads=threads)
    if resume is not None:
        trainer.load(checkpoint.read(Path(resume)), Path(resume))
    elif init is not None:
        trainer.start_from(Path(init))
    preprocess = Preprocess(size=recipe.size, scaling=NETWORKS[recipe.network].scaling)
    _loop(
        trainer,
        held,
        work,
        preprocess,
        validate_every=validate_every,
        patience=patience,
        progress=progress,
    )
    if work.best.is_file():
        trainer.average.load_state_dict(checkpoint.read(work.best)["average"])

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


@dataclass(frozen=True, slots=True)
class _Work:
    """The files of a run, beside the model."""

    out: Path

    def make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: expected to make the folder for checkpoints: {error.strerror}"
            ) from error

    @property
    def folder(self) -> Path:
        return self.out.with_suffix(".training")

    @property
    def last(self) -> Path:
        return self.folder / "last.pt"

    @property
    def best(self) -> Path:
        return self.folder / "best.pt"

    def log(self, epoch: Epoch) -> None:
        facts = {"time": time.time(), **asdict(epoch)}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")


def _check(out: Path, validate_every: int, patience: int | None) -> None:
    if out.suffix != ".onnx":
        raise InvalidInputError(f"out: expected the path of an .onnx file, found {out}")
    if not out.parent.is_dir():
        raise InvalidInputError(f"out: expected a folder {out.parent}, found none; make it first")
    if validate_every < 1 or (patience is not None and patience < 1):
        raise InvalidInputError(
            f"validate_every, patience: expected at least 1, found {validate_every}, {patience}"
        )


def _named(model: str | os.PathLike[str]) -> str:
    """Return what a model calls itself, or the name of its file."""
    path = resolve(model)
    facts = bundle.read(path)
    return path.name if facts is None else facts.name


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"device: expected 'auto', 'cpu' or a device that torch can use, found {name!r}: "
            f"{reason}"
        ) from error


def _pictures(
    folder: Path, valid: str | os.PathLike[str] | float | None, seed: int, threads: int
) -> tuple[Pictures, Pictures | None, list[ImageError]]:
    pictures, failed = readable(find_classes(folder), threads)
    if valid is None or valid == 0:
        return pictures, None, failed
    if isinstance(valid, int | float):
        if not 0 < valid < 1:
            raise InvalidInputError(f"valid: expected a share from 0 to 1, found {valid}")
        pictures, held = hold_out(pictures, valid, seed)
        return pictures, held if len(held) else None, failed
    held = find_classes(Path(valid), pictures.classes)
    kept, broken = readable(held, threads)
    return pictures, kept, failed + broken


def _loop(
    trainer: Trainer,
    held: Pictures | None,
    work: _Work,
    preprocess: Preprocess,
    *,
    validate_every: int,
    patience: int | None,
    progress: bool | None,
) -> None:
    """Run the epochs that are left, with validation and checkpoints."""
    recipe = trainer.recipe
    gallery = trainer.pictures.select(_some_of_each(trainer.pictures.labels, _GALLERY_A_CLASS))
    bar = tqdm(
        total=recipe.epochs * len(trainer.pictures),
        initial=trainer.epochs_done * len(trainer.pictures),
        unit="img",
        desc="training",
        disable=None if progress is None else not progress,
        dynamic_ncols=True,
    )
    with bar:

        def show(n: int, loss: float) -> None:
            bar.update(n)
            bar.set_postfix_str(f"loss {loss:.3f}, lr {trainer.lr:.1e}", refresh=False)

        while trainer.epochs_done < recipe.epochs:
            try:
                done = trainer.run_epoch(show)
            except TrainingError as error:
                kept = f"; the last good checkpoint is kept: {work.last}"
                raise TrainingError(f"{error}{kept if work.last.is_file() else ''}") from error
            last = trainer.epochs_done == recipe.epochs
            if held is not None and (last or trainer.epochs_done % validate_every == 0):
                queries, items = (
                    embed(
                        trainer.averaged_network(),
                        shown,
                        preprocess,
                        device=trainer.device,
                        threads=trainer.threads,
                    )
                    for shown in (held, gallery)
                )
                found = retrieval(queries, items, held.labels, gallery.labels)
                done = trainer.measured(found)
            checkpoint.write(work.last, trainer.state())
            scores = _scores(trainer.history)
            if done.valid and scores[-1] >= max(scores):
                checkpoint.write(work.best, trainer.state())
            work.log(done)
            if progress is not False:
                bar.write(str(done), file=sys.stderr)
            if patience is not None and _stale(scores) >= patience:
                if progress is not False:
                    bar.write(f"no better for {patience} measurements: stopped", file=sys.stderr)
                break


def _scores(history: list[Epoch]) -> list[float]:
    """Return mAP@5 of each measurement so far."""
    return [next(reversed(epoch.valid.values())) for epoch in history if epoch.valid]


def _stale(scores: list[float]) -> int:
    """Return how many measurements ago the best one was."""
    return len(scores) - 1 - int(np.argmax(scores)) if scores else 0


def _some_of_each(labels: np.ndarray, most: int) -> np.ndarray:
    """Return the first rows of each class."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    return np.sort(order[np.arange(len(labels)) - starts < most])
