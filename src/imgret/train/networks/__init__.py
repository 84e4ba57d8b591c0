"""Networks that can be trained, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from imgret.errors import UnknownNameError
from imgret.models import Scaling
from imgret.models.preprocess import PerImage
from imgret.train.networks.compact import compact_blocks
from imgret.train.networks.efficientnet import SCALING, WEIGHTS_NOTICE, lite_blocks, weights_source
from imgret.train.networks.layers import EmbeddingNetwork, count_parameters, fold
from imgret.train.networks.residual import reference_blocks

__all__ = ["NETWORKS", "EmbeddingNetwork", "NetworkKind", "build", "count_parameters", "fold"]


@dataclass(frozen=True, slots=True)
class NetworkKind:
    """Properties of a network before it is built.

    Attributes
    ----------
    blocks : callable
        Function that makes the blocks, with pretrained weights if there are any.
    channels : int
        Number of output channels of the last block.
    scaling : Scaling or {"per-image"}
        Scaling of the pixels, as in `imgret.models.Preprocess`.
    dense : bool
        See `EmbeddingNetwork`.
    pretrained : callable or None
        Function that returns the source of the pretrained weights.
    """

    blocks: Callable[[], Sequence[nn.Module]]
    channels: int
    scaling: Scaling | PerImage
    dense: bool
    pretrained: Callable[[], str] | None

    @property
    def notice(self) -> str:
        """Licence notice of the pretrained weights; empty if there are none."""
        return WEIGHTS_NOTICE if self.pretrained else ""


def _lite(variant: int) -> NetworkKind:
    return NetworkKind(
        lambda: lite_blocks(variant),
        1280,
        SCALING,
        dense=False,
        pretrained=lambda: weights_source(variant),
    )


NETWORKS = {
    "reference": NetworkKind(reference_blocks, 128, "per-image", dense=True, pretrained=None),
    "compact": NetworkKind(
        compact_blocks, 1152, SCALING, dense=False, pretrained=lambda: weights_source(0)
    ),
    "lite0": _lite(0),
    "lite1": _lite(1),
    "lite2": _lite(2),
}


def build(name: str, *, dim: int, dropout: float = 0.0, freeze: int = 0) -> EmbeddingNetwork:
    """Build a network that outputs embeddings.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    dim, dropout, freeze
        See `EmbeddingNetwork`.

    Raises
    ------
    UnknownNameError
        There is no such network.
    MissingExtraError
        Its pretrained weights are not installed.
    """
    if name not in NETWORKS:
        message = f"network: no {name!r}; known: {', '.join(NETWORKS)}"
        if near := difflib.get_close_matches(name, NETWORKS, n=1):
            message += f". Did you mean {near[0]!r}?"
        raise UnknownNameError(message)
    kind = NETWORKS[name]
    return EmbeddingNetwork(
        kind.blocks(),
        kind.channels,
        dim=dim,
        dropout=dropout,
        freeze=freeze,
        dense=kind.dense,
    )
