"""Networks that can be trained, by name."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from imgret.errors import InvalidInputError, UnknownNameError
from imgret.models import Scaling
from imgret.models.preprocess import PerImage
from imgret.models.processor import from_timm
from imgret.train.networks import backbones
from imgret.train.networks.compact import compact_blocks
from imgret.train.networks.efficientnet import SCALING, WEIGHTS_NOTICE, lite_blocks, weights_source
from imgret.train.networks.layers import EmbeddingNetwork, count_parameters, fold
from imgret.train.networks.residual import reference_blocks

__all__ = [
    "NETWORKS",
    "EmbeddingNetwork",
    "NetworkKind",
    "build",
    "count_parameters",
    "find_network",
    "fold",
]


@dataclass(frozen=True, slots=True)
class NetworkKind:
    """Properties of a network before it is built.

    Attributes
    ----------
    blocks : callable
        Function that makes the blocks, with pretrained weights if there are any.
    channels : int or None
        Number of output channels of the last block; None if its attribute ``channels`` says it.
    scaling : Scaling or {"per-image"}
        Scaling of the pixels, as in `imgret.models.Preprocess`.
    dense : bool
        See `EmbeddingNetwork`.
    pretrained : callable or None
        Function that returns the source of the pretrained weights.
    licence : str
        SPDX expression for what is trained from the pretrained weights.
    notice : str
        Licence notice of the pretrained weights; empty if there are none.
    size : int or None
        Side of the images in pixels, if the network takes only one size.
    weights : Path or None
        File of the pretrained weights, if the user gave one.
    normalize : bool
        Whether the finished model's embeddings have length 1.
    """

    blocks: Callable[[], Sequence[nn.Module]]
    channels: int | None
    scaling: Scaling | PerImage
    dense: bool
    pretrained: Callable[[], str] | None
    licence: str = "Apache-2.0"
    notice: str = WEIGHTS_NOTICE
    size: int | None = None
    weights: Path | None = None
    normalize: bool = True


def _lite(variant: int) -> NetworkKind:
    return NetworkKind(
        lambda: lite_blocks(variant),
        1280,
        SCALING,
        dense=False,
        pretrained=lambda: weights_source(variant),
    )


NETWORKS = {
    "reference": NetworkKind(
        reference_blocks,
        128,
        "per-image",
        dense=True,
        pretrained=None,
        licence="NOASSERTION",
        notice="",
        normalize=False,
    ),
    "compact": NetworkKind(
        compact_blocks, 1152, SCALING, dense=False, pretrained=lambda: weights_source(0)
    ),
    "lite0": _lite(0),
    "lite1": _lite(1),
    "lite2": _lite(2),
}


def find_network(name: str, *, weights: Path | None = None, size: int | None = None) -> NetworkKind:
    """Return a network's properties.

    Parameters
    ----------
    name : str
        One of `NETWORKS`, or ``timm:`` and the name of a network of timm.
    weights : Path, optional
        File of weights for a network of timm. By default they are random.
    size : int, optional
        Side of the images in pixels; by default that of the data config of timm.

    Raises
    ------
    UnknownNameError
        There is no such network.
    MissingExtraError
        timm is not installed.
    InvalidInputError
        ``weights`` are given for a network that has its own.
    """
    if name.startswith(backbones.PREFIX):
        return _timm(backbones.timm_name(name), weights, size)
    if name not in NETWORKS:
        message = f"network: no {name!r}; known: {', '.join(NETWORKS)}, timm:NAME"
        if near := difflib.get_close_matches(name, NETWORKS, n=1):
            message += f". Did you mean {near[0]!r}?"
        raise UnknownNameError(message)
    if weights is not None:
        raise InvalidInputError(
            f"weights: expected them for a network of timm (network='timm:NAME'), found {weights} "
            f"for {name!r}, whose weights are installed with imgret[train]"
        )
    return NETWORKS[name]


def build(
    network: str | NetworkKind, *, dim: int, dropout: float = 0.0, freeze: int = 0
) -> EmbeddingNetwork:
    """Build a network that outputs embeddings.

    Parameters
    ----------
    network : str or NetworkKind
        Name or properties of a network, see `find_network`.
    dim, dropout, freeze
        See `EmbeddingNetwork`.

    Raises
    ------
    UnknownNameError
        There is no such network.
    MissingExtraError
        Its pretrained weights are not installed.
    ModelError
        The weights that were given do not fit.
    """
    kind = find_network(network) if isinstance(network, str) else network
    blocks = kind.blocks()
    return EmbeddingNetwork(
        blocks,
        int(blocks[-1].channels) if kind.channels is None else kind.channels,  # type: ignore[arg-type]  # of a Backbone
        dim=dim,
        dropout=dropout,
        freeze=freeze,
        dense=kind.dense,
    )


def _timm(name: str, weights: Path | None, size: int | None) -> NetworkKind:
    config = backbones.data_config(name)
    side = config["input_size"][-1] if size is None else size
    scaling = from_timm(
        config | {"crop_mode": "center", "interpolation": "bicubic"}  # the recipe's are used
    ).scaling
    assert scaling is not None  # noqa: S101  # timm always scales
    # Loaded now, so that wrong weights are reported before any image is read.
    loaded = None if weights is None else backbones.create(name, size=side, weights=weights)
    return NetworkKind(
        lambda: [backbones.create(name, size=side) if loaded is None else copy.deepcopy(loaded)],
        None,
        scaling,
        dense=False,
        pretrained=None if weights is None else lambda: f"timm {name}, weights {weights.name}",
        licence="NOASSERTION",
        notice="",
        size=side if backbones.fixed_size(name) else None,
        weights=weights,
    )
