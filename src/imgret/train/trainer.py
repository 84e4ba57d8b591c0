"""Training of an embedder from labels and a teacher's embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from imgret.errors import ModelError, TrainingError
from imgret.train import checkpoint
from imgret.train.augment import augment, mix
from imgret.train.course import Course, scaled
from imgret.train.data import Dataset, batches
from imgret.train.heads import Teaching, make_head, set_margin
from imgret.train.networks import NETWORKS, EmbeddingNetwork, NetworkKind, build, find_network
from imgret.train.recipes import Recipe
from imgret.train.teacher import Teachers
from imgret.types import Embeddings

__all__ = ["Trainer"]


class Trainer(Course[Recipe]):
    """State of an embedder training: network, head, optimiser and history.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
        Training images.
    kind : NetworkKind, optional
        Properties of the network; by default those of the recipe's.
    teachers : Teachers, optional
    folder : Path
        Folder of the run, where the teachers' embeddings of whole images are stored.
    device : torch.device
    seed : int
    threads : int
        Number of threads that load images.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        *,
        kind: NetworkKind | None = None,
        teachers: Teachers | None = None,
        folder: Path,
        device: torch.device,
        seed: int,
        threads: int,
    ) -> None:
        self.recipe, self.dataset, self.threads = recipe, dataset, threads
        self.kind = kind = find_network(recipe.network) if kind is None else kind
        self._weights = (
            {} if recipe.network in NETWORKS else {"weights": _file_digest(kind.weights)}
        )
        torch.manual_seed(seed)
        network = build(kind, dim=recipe.dim, dropout=recipe.dropout, freeze=recipe.freeze).to(
            device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]  # as torch documents
        self.head_dropout = nn.Dropout(recipe.head_dropout)
        self.head = make_head(recipe, len(dataset.classes)).to(device)
        self.teachers, self.taught, self.teaching = teachers, None, None
        if teachers is not None:
            self.teaching = Teaching(recipe.dim, teachers.dim).to(device)
            if recipe.teach_side is None:
                taught = teachers.embed_all(dataset, folder, threads=threads)
                self.taught = torch.from_numpy(taught)
        new = [network.embedding, network.norm, self.head]
        if self.teaching is not None:
            new.append(self.teaching)
        factor = recipe.backbone_lr if kind.pretrained else 1.0
        super().__init__(
            recipe,
            network,
            [([network.trained], recipe.lr * factor), (new, recipe.lr)],
            n_images=len(dataset),
            device=device,
            seed=seed,
        )

    def averaged_network(self) -> EmbeddingNetwork:
        """Return the network with the averaged weights, which is the one to use."""
        return cast("EmbeddingNetwork", self.averaged())

    def start_from(self, path: Path) -> None:
        """Load only the network weights of another run.

        Raises
        ------
        TrainingError
            That run trained a different network.
        """
        state = checkpoint.read(path)
        found = state["recipe"].get("network")
        if found != self.recipe.network:
            raise TrainingError(
                f"{path}: expected a checkpoint of the network {self.recipe.network!r}, found "
                f"{found!r}"
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
                f"{self.recipe.freeze}, found different ones: {error}"
            ) from error
        self.average.module.load_state_dict(weights)

    def _begin(self, epoch: int) -> None:
        set_margin(self.head, self.recipe.margin_at(epoch))

    def _shown(
        self, order: NDArray[np.int64], side: int, seed: Sequence[int]
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        return batches(
            self.dataset,
            order,
            side=max(side, self._teach_side),
            batch_size=self.recipe.batch_size,
            augmentation=self.recipe.augmentation,
            seed=seed,
            threads=self.threads,
        )

    def _loss(self, pixels: Tensor, given: NDArray[np.int64], chance: torch.Generator) -> Tensor:
        recipe, rows = self.recipe, torch.from_numpy(given)
        x = augment(pixels, recipe.augmentation, chance)
        labels = torch.from_numpy(self.dataset.labels)[rows]
        partner, share = None, 1.0
        if recipe.augmentation.mix and torch.rand((), generator=chance) < recipe.augmentation.mix:
            x, partner, share = mix(x, chance)
        shown = _resized(x, recipe.side(self.epochs_done))
        embeddings = self.network(scaled(shown, self.kind.scaling))
        loss = self._loss_of(embeddings, labels, rows)
        if partner is not None:
            other = self._loss_of(embeddings, labels[partner], rows[partner])
            loss = share * loss + (1 - share) * other
        if self.teaching is not None and self.teachers is not None and self._teach_side:
            taught = _embedded(self.teachers, _resized(x, self._teach_side)).to(self.device)
            loss = loss + recipe.distill * self.teaching(embeddings, taught)
        return loss

    def _loss_of(self, embeddings: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        loss: Tensor = self.head(self.head_dropout(embeddings), labels.to(self.device))
        if self.teaching is not None and self.taught is not None:
            taught = self.taught[rows].to(self.device)
            loss = loss + self.recipe.distill * self.teaching(embeddings, taught)
        return loss

    @property
    def _teach_side(self) -> int:
        """Side of the crops that are shown to the teachers, 0 if none are."""
        return 0 if self.teachers is None else self.recipe.teach_side or 0

    def _identity(self) -> dict[str, Any]:
        facts = {
            "classes": list(self.dataset.classes),
            "pictures": self.dataset.digest(),
            "teacher": None,
        }
        if self.taught is not None:
            facts["teacher"] = _digest(self.taught.numpy())
        elif self.teachers is not None:
            facts["teacher"] = self.teachers.fingerprint
        return facts | self._weights

    def _parts(self) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module] = {"head": self.head}
        return parts if self.teaching is None else parts | {"teaching": self.teaching}


def _resized(pixels: Tensor, side: int) -> Tensor:
    """Scale square images (n, 3, h, h)."""
    if pixels.shape[-1] == side:
        return pixels
    return interpolate(pixels, (side, side), mode="bilinear", antialias=True)


def _embedded(teachers: Teachers, pixels: Tensor) -> Tensor:
    """Embed images (n, 3, h, w) with values from 0 to 255."""
    shown = pixels.permute(0, 2, 3, 1).round().clamp(0, 255).to("cpu", torch.uint8)
    return torch.from_numpy(teachers.embed(np.ascontiguousarray(shown.numpy())))


def _digest(array: Embeddings) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _file_digest(path: Path | None) -> str | None:
    if path is None:
        return None
    if not path.is_file():
        raise ModelError(f"{path}: expected a file of weights, found none there")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
