"""What all trainings have in common: how long, how fast, on images how large and how changed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from imgret.errors import InvalidInputError
from imgret.types import Json

__all__ = ["Augmentation", "Schedule", "check_between", "check_whole"]

_LEAST_SIDE = 64  # which the six halvings of the reference network leave one pixel of


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How an image is changed each time it is shown.

    Attributes
    ----------
    smallest : float
        Least share of the image's area that the random crop keeps.
    stretch : float
        Most that the crop's aspect ratio differs from a square, as a factor.
    color : float
        Strength of the changes in brightness, contrast and saturation, 0 to 1; hue turns by a
        tenth of a circle times this.
    turn : float
        Largest rotation, in degrees; shear goes up to half of it.
    erase : float
        Share of the images that lose a rectangle of 5 to 25 % of the area.
    mix : float
        Share of the batches in which images are mixed in pairs: by turns all over (H. Zhang
        et al., "mixup", 2018) and in a rectangle (S. Yun et al., "CutMix", 2019).
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
    """What a training takes, whatever it is for.

    Attributes
    ----------
    size : int
        Side of the network's input in use, in pixels, at least 64.
    sides : tuple of (float, int)
        Side of the images shown in training, from each share of the epochs on: small ones
        first are cheaper, and no worse (M. Tan and Q. Le, "EfficientNetV2", 2021). Smaller than
        ``size``, as a random crop shows things larger (H. Touvron et al., "Fixing the
        train-test resolution discrepancy", 2019).
    freeze : int
        First blocks that keep their pretrained weights.
    epochs : int
    batch_size : int
    lr : float
        Of AdamW (I. Loshchilov and F. Hutter, 2019), after the warm-up; then half a cosine to 0.
    backbone_lr : float
        Factor on ``lr`` for pretrained weights.
    weight_decay : float
    warmup_epochs : float
    clip : float
        Most that the norm of the gradient may be.
    ema : float
        Most decay, a step, of the running mean of the weights, which is what is used; the first
        steps count for less.
    augmentation : Augmentation
    """

    size: int
    sides: tuple[tuple[float, int], ...]
    freeze: int = 0
    epochs: int = 30
    batch_size: int = 64
    lr: float = 1e-3
    backbone_lr: float = 1.0
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    clip: float = 5.0
    ema: float = 0.998
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_whole("size", self.size, _LEAST_SIDE)
        check_whole("epochs", self.epochs, 1)
        check_whole("batch_size", self.batch_size, 2)
        check_whole("freeze", self.freeze, 0)
        for name in ("lr", "backbone_lr", "clip"):
            check_between(name, getattr(self, name), 1e-9, math.inf)
        for name in ("weight_decay", "warmup_epochs"):
            check_between(name, getattr(self, name), 0, math.inf)
        check_between("ema", self.ema, 0, 0.9999)
        starts = [start for start, _ in self.sides]
        if not starts or starts[0] != 0 or starts != sorted(starts) or starts[-1] >= 1:
            raise InvalidInputError(
                f"sides: expected (share of the epochs, pixels) from share 0 on and rising, found "
                f"{self.sides!r}"
            )
        for _, side in self.sides:
            check_whole("sides", side, _LEAST_SIDE)

    def side(self, epoch: int) -> int:
        """Return the side of the images shown in an epoch, counted from 0."""
        done = epoch / self.epochs
        return [side for start, side in self.sides if start <= done][-1]

    def to_json(self) -> Json:
        """Return the attributes as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Json) -> Self:
        """Make it from what `to_json` writes."""
        given = {f.name: facts[f.name] for f in fields(cls) if f.name in facts}
        given["sides"] = tuple((float(start), int(side)) for start, side in given["sides"])
        return cls(**(given | {"augmentation": Augmentation(**given["augmentation"])}))
