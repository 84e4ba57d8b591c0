"""Recipes: everything that is decided about a training before the pictures are seen."""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from imgret.errors import InvalidInputError, UnknownNameError
from imgret.types import Json

__all__ = ["RECIPES", "Augmentation", "Head", "Recipe", "find_recipe"]

Head: TypeAlias = Literal["arcface", "subcenter", "softmax"]

_LEAST_SIDE = 64  # which the six halvings of the reference network leave one pixel of


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInputError(
            f"{name}: expected a whole number of at least {least}, found {value!r}"
        )


def _between(name: str, value: Any, least: float, most: float) -> None:
    if not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidInputError(
            f"{name}: expected a number from {least:g} to {most:g}, found {value!r}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How a picture is changed each time it is shown.

    Attributes
    ----------
    smallest : float
        Least share of the picture's area that the random crop keeps.
    stretch : float
        Most that the crop's aspect ratio differs from a square, as a factor.
    color : float
        Strength of the changes in brightness, contrast and saturation, 0 to 1; hue turns by a
        tenth of a circle times this.
    turn : float
        Largest rotation, in degrees; shear goes up to half of it.
    erase : float
        Share of the pictures that lose a rectangle of 5 to 25 % of the area.
    mix : float
        Share of the batches in which pictures are mixed in pairs: by turns all over (H. Zhang
        et al., "mixup", 2018) and in a rectangle (S. Yun et al., "CutMix", 2019).
    """

    smallest: float = 0.3
    stretch: float = 4 / 3
    color: float = 0.3
    turn: float = 15.0
    erase: float = 0.2
    mix: float = 0.0

    def __post_init__(self) -> None:
        _between("smallest", self.smallest, 0.01, 1)
        _between("stretch", self.stretch, 1, 4)
        _between("color", self.color, 0, 1)
        _between("turn", self.turn, 0, 90)
        _between("erase", self.erase, 0, 1)
        _between("mix", self.mix, 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to train, and how.

    Attributes
    ----------
    name : str
    network : str
        ``"reference"``, ``"compact"``, ``"lite0"``, ``"lite1"`` or ``"lite2"``.
    size : int
        Side of the network's input in use, in pixels, at least 64.
    sides : tuple of (float, int)
        Side of the pictures shown in training, from each share of the epochs on: small ones
        first are cheaper, and no worse (M. Tan and Q. Le, "EfficientNetV2", 2021). Smaller than
        ``size``, as a random crop shows things larger (H. Touvron et al., "Fixing the
        train-test resolution discrepancy", 2019).
    dim : int
        Length of the embedding.
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
    head : {"arcface", "subcenter", "softmax"}
        ArcFace (J. Deng et al., 2019), sub-centre ArcFace (J. Deng et al., 2020), or a linear
        classifier with cross entropy.
    scale : float
        Of the cosines, for the ArcFace heads.
    margin : float
        Of the ArcFace heads, in degrees.
    margin_warmup : float
        Share of the epochs over which the margin grows from 0: random weights that meet the whole
        margin at once learn nothing for long.
    sub_centers : int
        Centres a class, of ``"subcenter"``.
    dropout : float
        Share of the pooled channels that are left out of the embedding.
    head_dropout : float
        Share of the embedding that is left out of the head.
    ema : float
        Most decay, a step, of the running mean of the weights, which is what is used; the first
        steps count for less.
    distill : float
        Weight of the teacher's loss, where there is a teacher.
    augmentation : Augmentation
    """

    name: str
    network: str
    size: int
    sides: tuple[tuple[float, int], ...]
    dim: int = 128
    freeze: int = 0
    epochs: int = 30
    batch_size: int = 64
    lr: float = 1e-3
    backbone_lr: float = 1.0
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    clip: float = 5.0
    head: Head = "arcface"
    scale: float = 30.0
    margin: float = 17.0
    margin_warmup: float = 0.0
    sub_centers: int = 3
    dropout: float = 0.25
    head_dropout: float = 0.0
    ema: float = 0.998
    distill: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        _whole("size", self.size, _LEAST_SIDE)
        for name in ("dim", "epochs", "batch_size", "sub_centers"):
            _whole(name, getattr(self, name), 1)
        if self.batch_size < 2:
            raise InvalidInputError("batch_size: expected at least 2, found 1")
        _whole("freeze", self.freeze, 0)
        for name in ("lr", "backbone_lr", "clip", "scale"):
            _between(name, getattr(self, name), 1e-9, math.inf)
        for name in ("weight_decay", "warmup_epochs", "distill"):
            _between(name, getattr(self, name), 0, math.inf)
        _between("margin_warmup", self.margin_warmup, 0, 1)
        for name in ("dropout", "head_dropout", "ema"):
            _between(name, getattr(self, name), 0, 0.9999)
        _between("margin", self.margin, 0, 90)
        if self.head not in get_args(Head):
            expected = ", ".join(map(repr, get_args(Head)))
            raise InvalidInputError(f"head: expected one of {expected}, found {self.head!r}")
        starts = [start for start, _ in self.sides]
        if not starts or starts[0] != 0 or starts != sorted(starts) or starts[-1] >= 1:
            raise InvalidInputError(
                f"sides: expected (share of the epochs, pixels) from share 0 on and rising, found "
                f"{self.sides!r}"
            )
        for _, side in self.sides:
            _whole("sides", side, _LEAST_SIDE)

    def side(self, epoch: int) -> int:
        """Return the side of the pictures shown in an epoch, counted from 0."""
        done = epoch / self.epochs
        return [side for start, side in self.sides if start <= done][-1]

    def margin_at(self, epoch: int) -> float:
        """Return the margin of an epoch, counted from 0, in degrees."""
        growing = self.margin_warmup * self.epochs
        return self.margin * min(1.0, epoch / growing) if growing else self.margin

    def to_json(self) -> Json:
        """Return the attributes as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Json) -> Recipe:
        """Make it from what `to_json` writes."""
        given = {f.name: facts[f.name] for f in fields(cls) if f.name in facts}
        given["sides"] = tuple((float(start), int(side)) for start, side in given["sides"])
        return cls(**(given | {"augmentation": Augmentation(**given["augmentation"])}))


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="reference",
            network="reference",
            size=384,
            sides=((0.0, 128), (0.8, 256), (0.95, 384)),
            epochs=60,
            lr=2e-3,
            margin_warmup=0.5,
            head_dropout=0.25,
            augmentation=Augmentation(smallest=0.4, erase=0.0),
        ),
        Recipe(
            name="compact",
            network="compact",
            size=224,
            sides=((0.0, 160), (0.5, 192), (0.9, 224)),
            freeze=6,
            epochs=30,
            backbone_lr=0.5,
            distill=5.0,
        ),
        Recipe(
            name="finetune",
            network="lite0",
            size=256,
            sides=((0.0, 160), (0.4, 192), (0.75, 224)),
            freeze=6,
            epochs=24,
            backbone_lr=0.3,
        ),
    )
}


def find_recipe(recipe: str | Recipe) -> Recipe:
    """Return the recipe of a name, or the recipe itself.

    Raises
    ------
    UnknownNameError
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        message = f"recipe: no {recipe!r}; known: {', '.join(RECIPES)}"
        if near := difflib.get_close_matches(str(recipe), RECIPES, n=1):
            message += f". Did you mean {near[0]!r}?"
        raise UnknownNameError(message)
    return RECIPES[recipe]
