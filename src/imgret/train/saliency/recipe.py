"""Settings for training a saliency network that do not depend on the images."""

from __future__ import annotations

from dataclasses import dataclass, field

from imgret.train.schedule import Augmentation, Schedule, check_between

__all__ = ["SaliencyRecipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaliencyRecipe(Schedule):
    """Settings for training a saliency network, in addition to those of `Schedule`.

    Attributes
    ----------
    paste : float
        Share of the images whose subject is pasted, reduced, on an empty part of another image (G.
        Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method", 2021).
    threshold : float
        Smallest saliency, from 0 to 1, that belongs to the subject. It is stored in the file.
    """

    size: int = 256
    sides: tuple[tuple[float, int], ...] = ((0.0, 192), (0.6, 256))
    freeze: int = 2
    epochs: int = 20
    batch_size: int = 16
    lr: float = 2e-3
    backbone_lr: float = 0.25
    weight_decay: float = 0.02
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(smallest=0.5, turn=0.0, erase=0.0)
    )
    paste: float = 0.2
    threshold: float = 0.3

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        check_between("paste", self.paste, 0, 1)
        check_between("threshold", self.threshold, 0.01, 0.99)
