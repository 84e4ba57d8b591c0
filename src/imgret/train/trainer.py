"""The loop: epochs over the pictures, a running mean of the weights, checkpoints."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from imgret.errors import TrainingError
from imgret.models import Scaling
from imgret.train import checkpoint
from imgret.train.augment import augment, mix
from imgret.train.data import Pictures, batch_starts, batches
from imgret.train.heads import Teaching, make_head, set_margin
from imgret.train.networks import NETWORKS, EmbeddingNetwork, build
from imgret.train.recipes import Recipe
from imgret.types import Embeddings

__all__ = ["Epoch", "Trainer"]

# Each part of a run draws its chances from a stream of its own.
_ORDER, _CROPS, _BATCH = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch came to.

    Attributes
    ----------
    epoch : int
        From 1 on.
    loss : float
        Mean over the pictures, the teacher's part included.
    lr : float
        At its end.
    side : int
        Of the pictures shown, in pixels.
    images_per_second, seconds : float
        Validation not included.
    valid : dict of str to float
        Retrieval metrics, where they were measured in this epoch.
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


class Trainer:
    """A network on its way: weights, optimiser, and how far it has come.

    Parameters
    ----------
    recipe : Recipe
    pictures : Pictures
        To learn from.
    taught : float32 array of shape (n, d), optional
        A teacher's embedding of each picture.
    device : torch.device
    seed : int
    threads : int
        That load pictures.
    """

    def __init__(
        self,
        recipe: Recipe,
        pictures: Pictures,
        *,
        taught: Embeddings | None = None,
        device: torch.device,
        seed: int,
        threads: int,
    ) -> None:
        self.recipe, self.pictures, self.device = recipe, pictures, device
        self.seed, self.threads = seed, threads
        torch.manual_seed(seed)
        self.network = build(
            recipe.network, dim=recipe.dim, dropout=recipe.dropout, freeze=recipe.freeze
        ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # as torch documents
        self.head_dropout = nn.Dropout(recipe.head_dropout)
        self.head = make_head(recipe, len(pictures.classes)).to(device)
        self.taught = None if taught is None else torch.from_numpy(taught)
        self.teaching = None if taught is None else Teaching(recipe.dim, taught.shape[1]).to(device)
        self.average = AveragedModel(
            self.network, multi_avg_fn=running_mean(recipe.ema), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(self._groups(), weight_decay=recipe.weight_decay)
        self._highest = [group["lr"] for group in self.optimizer.param_groups]
        self._steps_per_epoch = len(batch_starts(len(pictures), recipe.batch_size))
        self.history: list[Epoch] = []

    @property
    def epochs_done(self) -> int:
        """How many epochs lie behind."""
        return len(self.history)

    @property
    def lr(self) -> float:
        """Learning rate of the last step, of the weights that are new."""
        return float(self.optimizer.param_groups[-1]["lr"])

    def run_epoch(self, on_batch: Callable[[int, float], None] | None = None) -> Epoch:
        """Go through all pictures once.

        Parameters
        ----------
        on_batch : callable, optional
            Told the number of pictures and the loss of each batch.

        Raises
        ------
        TrainingError
            The loss is no longer finite.
        """
        epoch, recipe = self.epochs_done, self.recipe
        side = recipe.side(epoch)
        order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(len(self.pictures))
        # Dropout draws from the global stream; each epoch starts it anew, so that a resumed
        # run draws what an uninterrupted one would.
        torch.manual_seed(int(np.random.default_rng([self.seed, _BATCH, epoch]).integers(2**62)))
        chance = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        set_margin(self.head, recipe.margin_at(epoch))
        self.network.train()
        self.head.train()
        started, total, seen = time.perf_counter(), 0.0, 0
        shown = batches(
            self.pictures,
            order,
            side=side,
            batch_size=recipe.batch_size,
            augmentation=recipe.augmentation,
            seed=[self.seed, _CROPS, epoch],
            threads=self.threads,
        )
        for step, (pixels, rows) in enumerate(shown, epoch * self._steps_per_epoch):
            self._set_lr(self._factor(step))
            loss = self._step(pixels, torch.from_numpy(rows), chance)
            total += loss * len(rows)
            seen += len(rows)
            if on_batch is not None:
                on_batch(len(rows), loss)
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
        """Add what validation found to the last epoch."""
        self.history[-1] = replace(self.history[-1], valid=valid)
        return self.history[-1]

    def averaged_network(self) -> EmbeddingNetwork:
        """Return the network of the averaged weights, which is the one to use."""
        return cast("EmbeddingNetwork", self.average.module).eval()

    # -- keeping and taking up -------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on from here."""
        return {
            "recipe": self.recipe.to_json(),
            "classes": list(self.pictures.classes),
            "pictures": self.pictures.digest(),
            "teacher": None if self.taught is None else _digest(self.taught.numpy()),
            "seed": self.seed,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "head": self.head.state_dict(),
            "teaching": None if self.teaching is None else self.teaching.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
        }

    def load(self, state: dict[str, Any], path: Path) -> None:
        """Take up a run where a checkpoint left it.

        Raises
        ------
        TrainingError
            The checkpoint is of another recipe, seed, teacher or set of pictures.
        """
        mine = self.state()
        for name in ("recipe", "classes", "pictures", "teacher", "seed"):
            if _plain(state[name]) != _plain(mine[name]):
                raise TrainingError(
                    f"{path}: expected a checkpoint of the same {name}, found "
                    f"{_difference(state[name], mine[name])}; give what that run was given, or "
                    f"start anew without resume"
                )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.head.load_state_dict(state["head"])
        if self.teaching is not None:
            self.teaching.load_state_dict(state["teaching"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]

    def start_from(self, path: Path) -> None:
        """Take the weights of another run's network, and nothing else.

        Raises
        ------
        TrainingError
            That run trained another network.
        """
        state = checkpoint.read(path)
        if state["recipe"]["network"] != self.recipe.network:
            raise TrainingError(
                f"{path}: expected a checkpoint of the network {self.recipe.network!r}, found "
                f"{state['recipe']['network']!r}"
            )
        weights = {
            name.removeprefix("module."): value
            for name, value in state["average"].items()
            if name.startswith("module.")
        }
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise TrainingError(
                f"{path}: expected weights for dim={self.recipe.dim} and freeze="
                f"{self.recipe.freeze}, found others: {error}"
            ) from error
        self.average.module.load_state_dict(weights)

    # -- inside ------------------------------------------------------------------------------

    def _step(self, pixels: Any, rows: Tensor, chance: torch.Generator) -> float:
        recipe = self.recipe
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        x = augment(x, recipe.augmentation, chance)
        labels = torch.from_numpy(self.pictures.labels)[rows]
        partner, share = None, 1.0
        if recipe.augmentation.mix and torch.rand((), generator=chance) < recipe.augmentation.mix:
            x, partner, share = mix(x, chance)
        embeddings = self.network(scaled(x, NETWORKS[recipe.network].scaling))
        loss = self._loss(embeddings, labels, rows)
        if partner is not None:
            other = self._loss(embeddings, labels[partner], rows[partner])
            loss = share * loss + (1 - share) * other
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"epoch {self.epochs_done + 1}: expected a finite loss, found {value}; try a lower "
                f"lr (it was {self.lr:.2e}) or a smaller scale or margin"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # as of torch 2.13
        nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return value

    def _loss(self, embeddings: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        loss: Tensor = self.head(self.head_dropout(embeddings), labels.to(self.device))
        if self.teaching is not None and self.taught is not None:
            taught = self.taught[rows].to(self.device)
            loss = loss + self.recipe.distill * self.teaching(embeddings, taught)
        return loss

    def _set_lr(self, factor: float) -> None:
        for group, highest in zip(self.optimizer.param_groups, self._highest, strict=True):
            group["lr"] = highest * factor

    def _factor(self, step: int) -> float:
        """Return the share of the learning rate at a step: warm-up, then half a cosine."""
        warm = self.recipe.warmup_epochs * self._steps_per_epoch
        total = self.recipe.epochs * self._steps_per_epoch
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))

    def _groups(self) -> list[dict[str, Any]]:
        """Return the parameters: pretrained or new, with and without weight decay."""
        recipe = self.recipe
        factor = recipe.backbone_lr if NETWORKS[recipe.network].pretrained else 1.0
        new = [self.network.embedding, self.network.norm, self.head]
        if self.teaching is not None:
            new.append(self.teaching)
        groups = []
        for modules, lr in ((self.network.trained,), recipe.lr * factor), (new, recipe.lr):
            given = [p for module in modules for p in module.parameters() if p.requires_grad]
            groups.append({"params": [p for p in given if p.ndim > 1], "lr": lr})
            groups.append(
                {"params": [p for p in given if p.ndim <= 1], "lr": lr, "weight_decay": 0}
            )
        return [group for group in groups if group["params"]]


def running_mean(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return what moves averaged weights on: by 1 - decay a step, at first by more.

    With a constant decay, a run of few steps would end near the weights it began with.
    """

    def move(averaged: Any, current: Any, steps: Any) -> None:
        n = int(steps)
        part = 1 - min(decay, (1 + n) / (10 + n))
        for mean, new in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, part)
            else:  # a count
                mean.copy_(new)

    return move


def scaled(pixels: Tensor, scaling: Scaling | str) -> Tensor:
    """Do to pixels (n, 3, h, w), from 0 to 255, what `imgret.models.Preprocess` does."""
    if isinstance(scaling, Scaling):
        mean, std = (
            torch.tensor(v, device=pixels.device)[:, None, None]
            for v in (scaling.mean, scaling.std)
        )
        return (pixels - mean) / std
    mean = pixels.mean((1, 2, 3), keepdim=True)
    std = pixels.std((1, 2, 3), keepdim=True, correction=0)
    return (pixels - mean) / std.clamp_min(1e-6)


def _digest(array: Embeddings) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _plain(value: Any) -> Any:
    """Turn tuples into lists, as they come back from a file."""
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
    if isinstance(found, str):  # digests, which say no more
        return "another"
    return f"{found!r} (now {mine!r})"
