"""Muon: steps of equal size in every direction of a weight matrix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Muon", "is_dense_convolution"]

# Coefficients of the Newton-Schulz iteration (K. Jordan et al.). Five rounds bring the singular
# values to between about 0.7 and 1.2, which is near enough to 1.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


class Muon(Optimizer):
    """Momentum whose steps are made orthogonal.

    A gradient has few directions that are much larger than the others. Muon replaces its running
    mean by the nearest matrix with all singular values equal (K. Jordan et al., "Muon: An
    optimizer for hidden layers in neural networks", 2024), so that the rare directions are
    learned too. Steps have the size of those of AdamW at the same learning rate, and weights decay
    as there (J. Liu et al., "Muon is Scalable for LLM Training", 2025). ``torch.optim.Muon`` takes
    matrices only, no convolutions.

    Parameters
    ----------
    params : iterable
        Weights of at least two dimensions, or groups of them. All dimensions but the first
        count as one: a convolution is a matrix of output channels by inputs.
    lr : float
    momentum : float
        Decay per step of the running mean of gradients, which looks ahead by one step (Nesterov).
    weight_decay : float
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change the weights by their gradients; ``closure`` computes them again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for shape, weights in alike.items():  # together, as each of them is small
                means = [self._ahead(weight, group["momentum"]) for weight in weights]
                steps = _orthogonal(torch.stack(means).flatten(2))
                # The root mean square of an entry is then 0.2, as AdamW's is on average.
                size = group["lr"] * 0.2 * max(steps.shape[1:]) ** 0.5
                for weight, change in zip(weights, steps, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.sub_(change.reshape(shape), alpha=size)
        return loss

    def _ahead(self, weight: Tensor, momentum: float) -> Tensor:
        """Add the gradient of a weight to its running mean; return the mean one step ahead."""
        state = self.state[weight]
        if not state:
            state["mean"] = torch.zeros_like(weight)
        state["mean"].lerp_(weight.grad, 1 - momentum)
        ahead: Tensor = weight.grad.lerp(state["mean"], momentum)  # type: ignore[union-attr]
        return ahead


def is_dense_convolution(weight: Tensor) -> bool:
    """Whether a weight mixes channels in a convolution, so that `Muon` suits it.

    A depthwise convolution is no matrix: each of its filters stands for itself.
    """
    return weight.ndim == 4 and weight.shape[1] > 1


def _orthogonal(matrices: Tensor) -> Tensor:
    """Move the singular values of matrices (n, rows, columns) close to 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.transpose(1, 2) if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(1e-12)
    for _ in range(_ROUNDS):
        square = x @ x.transpose(1, 2)
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x.transpose(1, 2) if tall else x
