"""Parts that every training run shares: its files, its device and the loop over epochs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgret.errors import InvalidInputError, TrainingError
from imgret.ingest.progress import progress_bar, say
from imgret.train import checkpoint
from imgret.train.course import Course, Epoch

__all__ = ["RunFiles", "check_measuring", "find_device", "run_epochs"]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Files of a run, next to the model."""

    out: Path

    def check(self, resume: str | os.PathLike[str] | None) -> None:
        """Raise if the files cannot be written, or would overwrite an earlier run."""
        if self.out.suffix != ".onnx":
            raise InvalidInputError(f"out: expected the path of an .onnx file, found {self.out}")
        if not self.out.parent.is_dir():
            raise InvalidInputError(
                f"out: expected a folder {self.out.parent}, found none; create it first"
            )
        if resume is None and self.last.exists():
            raise InvalidInputError(
                f"{self.last}: expected no checkpoint of an earlier run, found one; continue it "
                f"(resume=, or --resume), write to another file, or remove {self.folder}"
            )

    def make(self) -> None:
        """Create the folder for checkpoints."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: the folder for checkpoints cannot be created: {error.strerror}"
            ) from error

    @property
    def folder(self) -> Path:
        """Folder of the checkpoints."""
        return self.out.with_suffix(".training")

    @property
    def last(self) -> Path:
        """Checkpoint of the last epoch."""
        return self.folder / "last.pt"

    @property
    def best(self) -> Path:
        """Checkpoint with the best validation result."""
        return self.folder / "best.pt"

    def log(self, epoch: Epoch) -> None:
        """Add an epoch to the log."""
        facts = {"time": time.time(), **asdict(epoch)}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")


def find_device(name: str) -> torch.device:
    """Return the torch device with a name."""
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


def check_measuring(validate_every: int, patience: int | None) -> None:
    """Raise unless both are at least 1."""
    if validate_every < 1 or (patience is not None and patience < 1):
        raise InvalidInputError(
            f"validate_every, patience: expected at least 1, found {validate_every}, {patience}"
        )


def run_epochs(
    course: Course[Any],
    work: RunFiles,
    *,
    n_images: int,
    measure: Callable[[], dict[str, float]] | None,
    validate_every: int,
    patience: int | None,
    progress: bool | None,
) -> None:
    """Run the remaining epochs with validation and checkpoints, then load the best weights.

    Parameters
    ----------
    course : Course
    work : RunFiles
    n_images : int
        Number of images per epoch.
    measure : callable or None
        Function that returns the metrics of the averaged network. The last one is maximised.
    validate_every, patience, progress
        See `imgret.train.train`.
    """
    epochs = course.schedule.epochs
    bar = progress_bar(
        progress,
        total=epochs * n_images,
        initial=course.epochs_done * n_images,
        unit="img",
        desc="training",
    )
    with bar:

        def show(n: int, loss: float) -> None:
            bar.update(n)
            bar.set_postfix_str(f"loss {loss:.3f}, lr {course.lr:.1e}", refresh=False)

        while course.epochs_done < epochs:
            try:
                done = course.run_epoch(show)
            except TrainingError as error:
                kept = f"; the last good checkpoint is kept: {work.last}"
                raise TrainingError(f"{error}{kept if work.last.is_file() else ''}") from error
            last = course.epochs_done == epochs
            if measure is not None and (last or course.epochs_done % validate_every == 0):
                done = course.measured(measure())
            checkpoint.write(work.last, course.state())
            scores = _scores(course.history)
            if done.valid and scores[-1] >= max(scores):
                checkpoint.write(work.best, course.state())
            work.log(done)
            if progress is not False:
                say(bar, str(done))
            if patience is not None and _stale(scores) >= patience:
                if progress is not False:
                    say(bar, f"stopped: no improvement in {patience} validations")
                break
    if work.best.is_file():
        course.average.load_state_dict(checkpoint.read(work.best)["average"])


def _scores(history: list[Epoch]) -> list[float]:
    """Return the last metric of each validation so far."""
    return [next(reversed(epoch.valid.values())) for epoch in history if epoch.valid]


def _stale(scores: list[float]) -> int:
    """Return the number of validations since the best one."""
    return len(scores) - 1 - int(np.argmax(scores)) if scores else 0
