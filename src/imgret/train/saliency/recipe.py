"""What is decided about the training of a saliency network before the images are seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from imgret.train.schedule import Augmentation, Schedule, check_between

__all__ = ["SaliencyRecipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaliencyRecipe(Schedule):
    """How to train a saliency network; the attributes of `Schedule` belong to it too.

    Attributes
    ----------
    paste : float
        Share of the images whose subject is shown small on an empty part of another one (G.
        Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method", 2021).
    threshold : float
        Least saliency, from 0 to 1, that belongs to the subject, for the facts in the file.
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
