"""The training loop: epochs, averaged weights and the contents of a checkpoint."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from imgret.errors import TrainingError
from imgret.models import Scaling
from imgret.train.data import batch_starts
from imgret.train.muon import Muon, is_dense_convolution
from imgret.train.schedule import Schedule

__all__ = ["Course", "Epoch", "running_mean", "scaled"]

_Schedule = TypeVar("_Schedule", bound=Schedule)

# Each part of a run has its own random stream.
_ORDER, _CROPS, _BATCH = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Results of one epoch.

    Attributes
    ----------
    epoch : int
        Number of the epoch, starting at 1.
    loss : float
        Mean loss over the images, including the teacher's part.
    lr : float
        Learning rate at the end of the epoch.
    side : int
        Side of the images shown, in pixels.
    images_per_second, seconds : float
        Speed and duration, without validation.
    valid : dict of str to float
        Metrics after this epoch, empty without validation. The last one is maximised.
    """

    epoch: int
    loss: float
    lr: float
    side: int
    images_per_second: float
    seconds: float
    valid: dict[str, float]

    def __str__(self) -> str:
        told = "".join(f"  {name} {value:.4f}" for name, value in self.valid.items())
        return (
            f"epoch {self.epoch:3d}  loss {self.loss:8.4f}  lr {self.lr:.2e}  {self.side} px  "
            f"{self.images_per_second:6.0f} images/s{told}"
        )


class Course(ABC, Generic[_Schedule]):
    """State of a training: network, averaged weights, optimiser and history.

    Parameters
    ----------
    schedule : Schedule
    network : nn.Module
        Network to train, already on its device. The result is the running mean of its weights.
    groups : sequence of (modules, lr)
        Modules to train and their maximum learning rate, within the network and outside of it.
    n_images : int
    device : torch.device
    seed : int

    Attributes
    ----------
    history : list of Epoch
    """

    def __init__(
        self,
        schedule: _Schedule,
        network: nn.Module,
        groups: Sequence[tuple[Sequence[nn.Module], float]],
        *,
        n_images: int,
        device: torch.device,
        seed: int,
    ) -> None:
        self.schedule, self.network, self.device, self.seed = schedule, network, device, seed
        self.average = AveragedModel(
            network, multi_avg_fn=running_mean(schedule.ema), use_buffers=True
        )
        self._optimizers = _optimizers(groups, schedule)
        self.history: list[Epoch] = []
        self._highest = [group["lr"] for group in self._groups]
        self._n_images = n_images
        self._steps_per_epoch = len(batch_starts(n_images, schedule.batch_size))

    # -- what a subclass defines -----------------------------------------------------------

    @abstractmethod
    def _shown(
        self, order: NDArray[np.int64], side: int, seed: Sequence[int]
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[Any]]]:
        """Yield the images of an epoch (n, side, side, 3) and their targets in batches."""

    @abstractmethod
    def _loss(self, pixels: Tensor, given: NDArray[Any], chance: torch.Generator) -> Tensor:
        """Return the loss of a batch: float pixels (n, 3, h, w) from 0 to 255, on the device."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """Return the facts that must agree between a checkpoint and the run that resumes it."""

    def _parts(self) -> dict[str, nn.Module]:
        """Return the trained modules outside the network, by name."""
        return {}

    def _begin(self, epoch: int) -> None:
        """Prepare an epoch, counted from 0."""

    # -- the loop --------------------------------------------------------------------------

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def lr(self) -> float:
        """Learning rate of the new (not pretrained) weights in the last step."""
        return float(self._groups[-1]["lr"])

    def run_epoch(self, on_batch: Callable[[int, float], None] | None = None) -> Epoch:
        """Train on all images once.

        Parameters
        ----------
        on_batch : callable, optional
            Function called with the number of images and the loss of each batch.

        Raises
        ------
        TrainingError
            The loss is no longer finite.
        """
        epoch, side = self.epochs_done, self.schedule.side(self.epochs_done)
        order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self._n_images)
        # Dropout uses the global generator. Each epoch seeds it, so that a resumed run gets the
        # same random numbers as an uninterrupted one.
        torch.manual_seed(int(np.random.default_rng([self.seed, _BATCH, epoch]).integers(2**62)))
        chance = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        self._begin(epoch)
        self.network.train()
        for part in self._parts().values():
            part.train()
        started, total, seen = time.perf_counter(), 0.0, 0
        shown = self._shown(order, side, [self.seed, _CROPS, epoch])
        for step, (pixels, given) in enumerate(shown, epoch * self._steps_per_epoch):
            self._set_lr(self._factor(step))
            x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
            loss = self._step(self._loss(x, given, chance))
            total += loss * len(pixels)
            seen += len(pixels)
            if on_batch is not None:
                on_batch(len(pixels), loss)
        seconds = time.perf_counter() - started
        done = Epoch(
            epoch=epoch + 1,
            loss=total / seen,
            lr=self.lr,
            side=side,
            images_per_second=seen / seconds,
            seconds=seconds,
            valid={},
        )
        self.history.append(done)
        return done

    def measured(self, valid: dict[str, float]) -> Epoch:
        """Add validation metrics to the last epoch."""
        self.history[-1] = replace(self.history[-1], valid=valid)
        return self.history[-1]

    def averaged(self) -> nn.Module:
        """Return the network with the averaged weights, which is the one to use."""
        module: nn.Module = self.average.module.eval()
        return module

    def _step(self, loss: Tensor) -> float:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"epoch {self.epochs_done + 1}: expected a finite loss, found {value}; try a lower "
                f"lr (it was {self.lr:.2e}) or a smaller scale or margin"
            )
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # as of torch 2.13
        nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.clip)
        for optimizer in self._optimizers.values():
            optimizer.step()
        self.average.update_parameters(self.network)
        return value

    def _set_lr(self, factor: float) -> None:
        for group, highest in zip(self._groups, self._highest, strict=True):
            group["lr"] = highest * factor

    @property
    def _groups(self) -> list[dict[str, Any]]:
        return [g for optimizer in self._optimizers.values() for g in optimizer.param_groups]

    def _factor(self, step: int) -> float:
        """Return the factor of the learning rate at a step: warm-up, then half a cosine."""
        warm = self.schedule.warmup_epochs * self._steps_per_epoch
        total = self.schedule.epochs * self._steps_per_epoch
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))

    # -- saving and resuming ---------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that a later run needs to continue from here."""
        return {
            **self._identity(),
            "recipe": self.schedule.to_json(),
            "seed": self.seed,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            **{name: part.state_dict() for name, part in self._parts().items()},
            **{name: made.state_dict() for name, made in self._optimizers.items()},
            "history": [asdict(epoch) for epoch in self.history],
        }

    def load(self, state: dict[str, Any], path: Path) -> None:
        """Resume a run from a checkpoint.

        Raises
        ------
        TrainingError
            The checkpoint has a different recipe, seed, teacher or set of images.
        """
        mine = {"recipe": self.schedule.to_json(), **self._identity(), "seed": self.seed}
        if isinstance(state.get("recipe"), dict):  # older versions had fewer settings
            state = state | {"recipe": _defaults(self.schedule) | state["recipe"]}
        for name, value in mine.items():
            if name not in state or _plain(state[name]) != _plain(value):
                what = "images" if name == "pictures" else name  # the name in older files
                raise TrainingError(
                    f"{path}: expected a checkpoint of the same {what}, found "
                    f"{_difference(state.get(name), value)}; use the arguments of that run, or "
                    f"start again without resume"
                )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])
        self.history = [Epoch(**epoch) for epoch in state["history"]]


def running_mean(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return a function that updates averaged weights by 1 - decay per step, at first by more.

    With a constant decay, a run of few steps would end near its initial weights.
    """

    def move(averaged: Any, current: Any, steps: Any) -> None:
        n = int(steps)
        part = 1 - min(decay, (1 + n) / (10 + n))
        for mean, new in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, part)
            else:  # a counter
                mean.copy_(new)

    return move


def scaled(pixels: Tensor, scaling: Scaling | str) -> Tensor:
    """Scale pixels (n, 3, h, w), from 0 to 255, as `imgret.models.Preprocess` does."""
    if isinstance(scaling, Scaling):
        mean, std = (
            torch.tensor(v, device=pixels.device)[:, None, None]
            for v in (scaling.mean, scaling.std)
        )
        return (pixels - mean) / std
    mean = pixels.mean((1, 2, 3), keepdim=True)
    std = pixels.std((1, 2, 3), keepdim=True, correction=0)
    return (pixels - mean) / std.clamp_min(1e-6)


def _optimizers(
    groups: Sequence[tuple[Sequence[nn.Module], float]], schedule: Schedule
) -> dict[str, torch.optim.Optimizer]:
    """Return the optimisers by the names they have in a checkpoint.

    Each group is split into the weights that Muon takes, if the schedule names it, and, for AdamW,
    weights with decay and biases without.
    """
    by_muon: list[dict[str, Any]] = []
    by_adamw: list[dict[str, Any]] = []
    for modules, lr in groups:
        given = [p for module in modules for p in module.parameters() if p.requires_grad]
        dense: list[nn.Parameter] = []
        if schedule.optimizer == "muon":
            dense = [p for p in given if is_dense_convolution(p)]
            given = [p for p in given if not is_dense_convolution(p)]
        by_muon.append({"params": dense, "lr": lr})
        by_adamw.append({"params": [p for p in given if p.ndim > 1], "lr": lr})
        by_adamw.append({"params": [p for p in given if p.ndim <= 1], "lr": lr, "weight_decay": 0})
    by_muon, by_adamw = ([g for g in each if g["params"]] for each in (by_muon, by_adamw))
    made: dict[str, torch.optim.Optimizer] = {}
    if by_muon:
        made["muon"] = Muon(by_muon, weight_decay=schedule.weight_decay)
    made["optimizer"] = torch.optim.AdamW(by_adamw, weight_decay=schedule.weight_decay)
    return made


def _defaults(schedule: Schedule) -> dict[str, Any]:
    """Return the settings that have a default, with it."""
    return {f.name: f.default for f in fields(schedule) if f.default is not MISSING}


def _plain(value: Any) -> Any:
    """Convert tuples to lists, as a file returns them."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _difference(found: Any, mine: Any) -> str:
    if isinstance(found, dict) and isinstance(mine, dict):
        names = [n for n in mine if _plain(found.get(n)) != _plain(mine[n])]
        return ", ".join(f"{name} {found.get(name)!r} (now {mine[name]!r})" for name in names[:3])
    if isinstance(found, list):
        return f"{len(found)} of them (now {len(mine)})"
    if found is None or mine is None:
        return "none" if found is None else "one (now none)"
    if isinstance(found, str):  # hashes, which are not worth showing
        return "different data"
    return f"{found!r} (now {mine!r})"
