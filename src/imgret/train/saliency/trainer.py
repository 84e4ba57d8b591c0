"""Training of a saliency network from masks, and its validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from imgret import images
from imgret.croppers.maps import subject_box
from imgret.models import Preprocess
from imgret.train.augment import augment
from imgret.train.course import Course, scaled
from imgret.train.data import unscaled
from imgret.train.networks.efficientnet import SCALING
from imgret.train.networks.saliency import Saliency, SaliencyNetwork
from imgret.train.saliency.data import MaskedImages, masked_batches
from imgret.train.saliency.recipe import SaliencyRecipe
from imgret.types import Box

__all__ = ["SaliencyTrainer", "measure"]

_BATCH = 16


class SaliencyTrainer(Course[SaliencyRecipe]):
    """State of the training of a saliency network.

    Parameters
    ----------
    recipe : SaliencyRecipe
    pairs : MaskedImages
        Training images and masks.
    device : torch.device
    seed : int
    threads : int
        Number of threads that load images.
    """

    def __init__(
        self,
        recipe: SaliencyRecipe,
        pairs: MaskedImages,
        *,
        device: torch.device,
        seed: int,
        threads: int,
    ) -> None:
        self.recipe, self.pairs, self.threads = recipe, pairs, threads
        torch.manual_seed(seed)
        network = SaliencyNetwork(freeze=recipe.freeze).to(
            device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]  # as torch documents
        super().__init__(
            recipe,
            network,
            [
                ([network.stages], recipe.lr * recipe.backbone_lr),
                (network.decoder, recipe.lr),
            ],
            n_images=len(pairs),
            device=device,
            seed=seed,
        )

    def averaged_network(self) -> SaliencyNetwork:
        """Return the network with the averaged weights, which is the one to use."""
        return cast("SaliencyNetwork", self.averaged())

    def _shown(
        self, order: NDArray[np.int64], side: int, seed: Sequence[int]
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        return masked_batches(
            self.pairs, order, side=side, recipe=self.recipe, seed=seed, threads=self.threads
        )

    def _loss(self, pixels: Tensor, given: NDArray[np.uint8], chance: torch.Generator) -> Tensor:
        """Return cross entropy plus one minus the soft intersection over union per image.

        X. Qin et al., "BASNet: Boundary-Aware Salient Object Detection" (2019).
        """
        x = augment(pixels, self.recipe.augmentation, chance)
        wanted = torch.from_numpy(given).to(self.device)[:, None].float() / 255
        logits = self.network(scaled(x, SCALING))
        logits = interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
        entropy = binary_cross_entropy_with_logits(logits, wanted)
        found = torch.sigmoid(logits)
        common = (found * wanted).sum((1, 2, 3))
        either = (found + wanted - found * wanted).sum((1, 2, 3))
        return entropy + 1 - ((common + 1) / (either + 1)).mean()

    def _identity(self) -> dict[str, Any]:
        return {"pictures": self.pairs.digest()}


def measure(
    network: SaliencyNetwork,
    pairs: MaskedImages,
    preprocess: Preprocess,
    threshold: float,
    *,
    device: torch.device,
    threads: int,
) -> dict[str, float]:
    """Measure the agreement of maps with masks.

    Returns
    -------
    dict of str to float
        ``mae``, the mean absolute difference, and ``box_iou``, the mean intersection over union
        of two boxes: that of the map at ``threshold``, and that of the mask at 0.5. Images whose
        mask has no box are left out of ``box_iou``.
    """
    raw = unscaled(preprocess)
    model = Saliency(network).eval()

    def load(start: int) -> tuple[Tensor, list[NDArray[np.uint8]]]:
        rows = range(start, min(start + _BATCH, len(pairs)))
        pixels = raw.prepare([pairs.load(row) for row in rows])
        return torch.from_numpy(pixels), [pairs.load_mask(row) for row in rows]

    errors, ious = [], []
    with ThreadPoolExecutor(threads) as pool, torch.no_grad():
        for pixels, masks in pool.map(load, range(0, len(pairs), _BATCH)):
            x = pixels.to(device).permute(0, 3, 1, 2).float()
            maps = model(scaled(x, preprocess.scaling or "per-image"))[:, 0].cpu().numpy()
            for values, mask in zip(maps, masks, strict=True):
                height, width = mask.shape
                shown = images.resize(values, width, height)
                errors.append(float(np.abs(shown - mask / np.float32(255)).mean()))
                true = subject_box((mask / 255).astype(np.float32), Box(0, 0, width, height), 0.5)
                if true is not None:
                    box = subject_box(shown, Box(0, 0, width, height), threshold)
                    ious.append((box or Box(0, 0, width, height)).iou(true))
    return {"mae": float(np.mean(errors)), "box_iou": float(np.mean(ious)) if ious else 0.0}
