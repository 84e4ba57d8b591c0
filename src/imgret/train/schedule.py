"""Settings that all trainings share: epochs, learning rate, image sizes and augmentation."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, TypeAlias, get_args

from imgret.errors import InvalidInputError
from imgret.types import Json

__all__ = [
    "LEAST_SIDE",
    "Augmentation",
    "OptimizerName",
    "Schedule",
    "check_between",
    "check_one_of",
    "check_whole",
]

LEAST_SIDE = 64  # the reference network halves the side six times

OptimizerName: TypeAlias = Literal["adamw", "muon"]


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise unless a value is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInputError(
            f"{name}: expected a whole number of at least {least}, found {value!r}"
        )


def check_between(name: str, value: Any, least: float, most: float) -> None:
    """Raise unless a value is a number from ``least`` to ``most``."""
    if not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidInputError(
            f"{name}: expected a number from {least:g} to {most:g}, found {value!r}"
        )


def check_one_of(name: str, value: Any, kind: Any) -> None:
    """Raise unless a value is one of those of a ``Literal``."""
    if value not in get_args(kind):
        expected = ", ".join(map(repr, get_args(kind)))
        raise InvalidInputError(f"{name}: expected one of {expected}, found {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Random changes of an image each time it is shown.

    Attributes
    ----------
    smallest : float
        Smallest share of the image's area that the random crop keeps.
    stretch : float
        Largest ratio between the sides of the crop, at least 1.
    color : float
        Strength of the changes in brightness, contrast and saturation, 0 to 1. The hue changes by
        up to a tenth of a circle times this.
    turn : float
        Largest rotation, in degrees. The largest shear is half of it.
    erase : float
        Share of the images in which a rectangle of 5 to 25 % of the area is erased.
    mix : float
        Share of the batches in which images are mixed in pairs: at random either as a whole (H.
        Zhang et al., "mixup", 2018) or in a rectangle (S. Yun et al., "CutMix", 2019).
    """

    smallest: float = 0.3
    stretch: float = 4 / 3
    color: float = 0.3
    turn: float = 15.0
    erase: float = 0.2
    mix: float = 0.0

    def __post_init__(self) -> None:
        check_between("smallest", self.smallest, 0.01, 1)
        check_between("stretch", self.stretch, 1, 4)
        check_between("color", self.color, 0, 1)
        check_between("turn", self.turn, 0, 90)
        check_between("erase", self.erase, 0, 1)
        check_between("mix", self.mix, 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Settings of any training.

    Attributes
    ----------
    size : int
        Side of the finished network's input, in pixels, at least 64.
    sides : tuple of (float, int)
        Share of the epochs and side of the images shown in training from then on. Starting with
        small images is cheaper and no worse (M. Tan and Q. Le, "EfficientNetV2", 2021). They are
        smaller than ``size``, because a random crop enlarges objects (H. Touvron et al., "Fixing
        the train-test resolution discrepancy", 2019).
    freeze : int
        Number of first blocks that keep their pretrained weights.
    epochs : int
    batch_size : int
    optimizer : {"adamw", "muon"}
        AdamW (I. Loshchilov and F. Hutter, 2019), or Muon for the weights of dense convolutions
        and AdamW for all others. From random weights, Muon needs fewer epochs.
    lr : float
        Learning rate after the warm-up; from there it follows half a cosine to 0.
    backbone_lr : float
        Factor of ``lr`` for pretrained weights.
    weight_decay : float
    warmup_epochs : float
    clip : float
        Maximum norm of the gradient.
    ema : float
        Maximum decay per step of the running mean of the weights, which is the result of the
        training. The decay is smaller in the first steps.
    augmentation : Augmentation
    """

    size: int
    sides: tuple[tuple[float, int], ...]
    freeze: int = 0
    epochs: int = 30
    batch_size: int = 64
    optimizer: OptimizerName = "adamw"
    lr: float = 1e-3
    backbone_lr: float = 1.0
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    clip: float = 5.0
    ema: float = 0.998
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_whole("size", self.size, LEAST_SIDE)
        check_whole("epochs", self.epochs, 1)
        check_whole("batch_size", self.batch_size, 2)
        check_whole("freeze", self.freeze, 0)
        check_one_of("optimizer", self.optimizer, OptimizerName)
        for name in ("lr", "backbone_lr", "clip"):
            check_between(name, getattr(self, name), 1e-9, math.inf)
        for name in ("weight_decay", "warmup_epochs"):
            check_between(name, getattr(self, name), 0, math.inf)
        check_between("ema", self.ema, 0, 0.9999)
        starts = [start for start, _ in self.sides]
        if not starts or starts[0] != 0 or starts != sorted(starts) or starts[-1] >= 1:
            raise InvalidInputError(
                f"sides: expected pairs (share of the epochs, pixels), shares increasing from 0, "
                f"found {self.sides!r}"
            )
        for _, side in self.sides:
            check_whole("sides", side, LEAST_SIDE)

    def side(self, epoch: int) -> int:
        """Return the side of the images shown in an epoch, counted from 0."""
        done = epoch / self.epochs
        return [side for start, side in self.sides if start <= done][-1]

    def to_json(self) -> Json:
        """Return the attributes as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Json) -> Self:
        """Create an instance from the values that `to_json` returns."""
        given = {f.name: facts[f.name] for f in fields(cls) if f.name in facts}
        given["sides"] = tuple((float(start), int(side)) for start, side in given["sides"])
        return cls(**(given | {"augmentation": Augmentation(**given["augmentation"])}))
