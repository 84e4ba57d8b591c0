"""Recipes: the settings of a training that do not depend on the images."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from imgret.errors import UnknownNameError
from imgret.train.schedule import (
    LEAST_SIDE,
    Augmentation,
    Schedule,
    check_between,
    check_one_of,
    check_whole,
)

__all__ = ["RECIPES", "Augmentation", "Head", "Recipe", "find_recipe", "on_network"]

_TIMM_LR = 0.1

Head: TypeAlias = Literal["arcface", "subcenter", "softmax"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Schedule):
    """Settings for training an embedder, in addition to those of `Schedule`.

    Attributes
    ----------
    name : str
    network : str
        ``"reference"``, ``"compact"``, ``"lite0"``, ``"lite1"``, ``"lite2"``, or ``timm:`` and the
        name of a network of timm, such as ``"timm:resnet18"``. The latter counts as one block for
        ``freeze``.
    dim : int
        Length of the embedding.
    head : {"arcface", "subcenter", "softmax"}
        ArcFace (J. Deng et al., 2019), sub-centre ArcFace (J. Deng et al., 2020), or a linear
        classifier with cross entropy.
    scale : float
        Scale of the cosines, for the ArcFace heads.
    margin : float
        Margin of the ArcFace heads, in degrees.
    margin_warmup : float
        Share of the epochs over which the margin grows from 0. With the full margin from the
        start, random weights learn nothing for a long time.
    sub_centers : int
        Number of centres per class, for ``"subcenter"``.
    dropout : float
        Dropout rate of the pooled channels, before the embedding.
    head_dropout : float
        Dropout rate of the embedding, before the head.
    distill : float
        Weight of the teacher's loss, if there is a teacher.
    teach_side : int, optional
        Side in pixels at which the teacher embeds the same random crops as the network, each time
        they are shown, at least 64. By default (None) it embeds each whole image once, which takes
        no time in training. A network that starts from random weights learns more from crops.
    """

    name: str
    network: str
    dim: int = 128
    head: Head = "arcface"
    scale: float = 30.0
    margin: float = 17.0
    margin_warmup: float = 0.0
    sub_centers: int = 3
    dropout: float = 0.25
    head_dropout: float = 0.0
    distill: float = 1.0
    teach_side: int | None = None

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        for name in ("dim", "sub_centers"):
            check_whole(name, getattr(self, name), 1)
        if self.teach_side is not None:
            check_whole("teach_side", self.teach_side, LEAST_SIDE)
        check_between("scale", self.scale, 1e-9, math.inf)
        check_between("distill", self.distill, 0, math.inf)
        check_between("margin_warmup", self.margin_warmup, 0, 1)
        for name in ("dropout", "head_dropout"):
            check_between(name, getattr(self, name), 0, 0.9999)
        check_between("margin", self.margin, 0, 90)
        check_one_of("head", self.head, Head)

    def margin_at(self, epoch: int) -> float:
        """Return the margin in an epoch, counted from 0, in degrees."""
        growing = self.margin_warmup * self.epochs
        return self.margin * min(1.0, epoch / growing) if growing else self.margin


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="reference",
            network="reference",
            size=224,
            sides=((0.0, 64), (0.48, 96), (0.7, 128), (0.85, 176)),
            epochs=75,
            optimizer="muon",
            lr=2e-3,
            # From random weights a smaller scale learns faster, and so does a teacher that is
            # followed more closely than the labels.
            scale=16.0,
            margin_warmup=0.5,
            dropout=0.1,
            head_dropout=0.1,
            distill=40.0,
            teach_side=160,
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


def on_network(recipe: Recipe, network: str, *, size: int | None = None) -> Recipe:
    """Return a recipe for a different network.

    Parameters
    ----------
    recipe : Recipe
    network : str
        As in `Recipe`.
    size : int, optional
        Side of the images in pixels, if the network takes only one size.
    """
    if network == recipe.network:
        return recipe
    changed = replace(recipe, network=network)
    if network.startswith("timm:"):
        # Pretrained weights of any kind, transformers among them: these are lost at a higher rate.
        changed = replace(changed, freeze=0, backbone_lr=min(recipe.backbone_lr, _TIMM_LR))
    return changed if size is None else replace(changed, size=size, sides=((0.0, size),))


def find_recipe(recipe: str | Recipe) -> Recipe:
    """Return the recipe with a name, or the recipe itself.

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
