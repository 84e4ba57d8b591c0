"""Losses of embeddings, with respect to labels and to a teacher's embeddings."""

from __future__ import annotations

import math
from typing import cast

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from imgret.train.recipes import Recipe

__all__ = ["Teaching", "make_head", "set_margin"]


class Softmax(nn.Module):
    """A linear classifier with cross entropy."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, classes)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss."""
        return cross_entropy(self.linear(embeddings), labels)


def make_head(recipe: Recipe, classes: int) -> nn.Module:
    """Return the head of a recipe, a module that maps embeddings and labels to the loss."""
    if recipe.head == "softmax":
        return Softmax(classes, recipe.dim)
    options = {
        "num_classes": classes,
        "embedding_size": recipe.dim,
        "margin": recipe.margin,
        "scale": recipe.scale,
    }
    if recipe.head == "subcenter":
        return cast(
            "nn.Module", losses.SubCenterArcFaceLoss(sub_centers=recipe.sub_centers, **options)
        )
    return cast("nn.Module", losses.ArcFaceLoss(**options))


def set_margin(head: nn.Module, degrees: float) -> None:
    """Set the margin of an ArcFace head; other heads have none and are left unchanged."""
    if isinstance(head, losses.ArcFaceLoss | losses.SubCenterArcFaceLoss):
        head.margin = math.radians(degrees)  # the head stores radians


class Teaching(nn.Module):
    """Distance of embeddings, after a learned linear map, from a teacher's embeddings.

    With the map, the student may have a different dimension and different axes than the teacher.
    If the dimensions agree, the map starts as the identity. It is discarded after training.
    """

    def __init__(self, dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim, teacher_dim, bias=False)
        nn.init.eye_(self.map.weight) if dim == teacher_dim else nn.init.orthogonal_(
            self.map.weight
        )

    def forward(self, embeddings: Tensor, taught: Tensor) -> Tensor:
        """Return one minus the mean cosine similarity."""
        return 1 - torch.mean(cosine_similarity(self.map(embeddings), taught))
