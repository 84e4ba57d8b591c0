"""Networks of timm (https://github.com/huggingface/pytorch-image-models), by name.

No other module imports timm. Nothing is downloaded, unless pretrained weights are asked for.
"""

from __future__ import annotations

import difflib
import importlib.util
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imgret.errors import MissingExtraError, ModelError, TrainingError, UnknownNameError
from imgret.types import Image

__all__ = [
    "PREFIX",
    "Backbone",
    "create",
    "data_config",
    "fixed_size",
    "is_timm",
    "load_weights",
    "own_transform",
    "pads_by_size",
    "settings",
    "timm_name",
]

PREFIX = "timm:"

# Keys under which checkpoints keep their weights, the best first.
_STATES = ("state_dict_ema", "model_ema", "state_dict", "model")
_SHOWN = 3


class Backbone(nn.Module):
    """A network of timm without its classifier, with the pooling of its own.

    Parameters
    ----------
    network : nn.Module
        Network that timm has made.
    channels : int
        Number of pooled features.
    """

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        self.channels = channels

    def forward(self, pixels: Tensor) -> Tensor:
        """Map scaled pixels (n, 3, h, w) to features (n, channels)."""
        network: Any = self.network
        features: Tensor = network.forward_head(network.forward_features(pixels), pre_logits=True)
        return features.flatten(1) if features.ndim > 2 else features


def is_timm(module: object) -> bool:
    """Whether a module is a network of timm."""
    return isinstance(module, nn.Module) and all(
        hasattr(module, name) for name in ("pretrained_cfg", "forward_features", "forward_head")
    )


def timm_name(name: str) -> str:
    """Return the name of a network without the prefix ``timm:``, after looking it up.

    Raises
    ------
    MissingExtraError
        timm is not installed.
    UnknownNameError
        timm has no such network.
    """
    timm = _timm()
    name = name.removeprefix(PREFIX)
    known = timm.list_models()
    architecture, _, tag = name.partition(".")
    if architecture in known:
        tags = timm.list_pretrained(f"{architecture}.*")
        if tag and name not in tags:
            raise UnknownNameError(
                f"network: timm {timm.__version__} knows no weights {tag!r} of {architecture!r}; "
                f"known: {', '.join(tags) or 'none'}"
            )
        return name
    message = f"network: timm {timm.__version__} has no {name!r}"
    if near := difflib.get_close_matches(name, known, n=3, cutoff=0.7):
        message += f". Did you mean {' or '.join(map(repr, near))}?"
    raise UnknownNameError(f"{message}; timm.list_models() lists all names")


def data_config(network: nn.Module | str) -> dict[str, Any]:
    """Return how timm prepares images for a network, given as a module or by name.

    Returns
    -------
    dict
        ``input_size``, ``mean``, ``std``, ``interpolation``, ``crop_pct`` and ``crop_mode``.
    """
    timm = _timm()
    found: dict[str, Any] = timm.data.resolve_data_config(pretrained_cfg=settings(network))
    if found["input_size"][0] != 3:
        raise ModelError(
            f"{_called(network)}: expected a network for images of 3 channels, found one for "
            f"{found['input_size'][0]}; create it with in_chans=3"
        )
    return found


def fixed_size(network: nn.Module | str) -> bool:
    """Whether a network takes images of one size only."""
    return bool(settings(network).get("fixed_input_size"))


def pads_by_size(network: nn.Module) -> bool:
    """Whether convolutions pad by the size of their input, as TensorFlow's do.

    A graph of these for any size takes minutes to trace, and computes the padding in every run.
    """
    return any(type(part).__name__.endswith("Same") for part in network.modules())


def own_transform(config: dict[str, Any]) -> Callable[[Image], Tensor]:
    """Return a function that prepares one image as timm does, as pixels (1, 3, h, w).

    Parameters
    ----------
    config : dict
        Return value of `data_config`.
    """
    transform = _timm().data.create_transform(**config, is_training=False)
    from torchvision.transforms.functional import to_pil_image  # noqa: PLC0415  # comes with timm

    def prepare(image: Image) -> Tensor:
        found: Tensor = transform(to_pil_image(image))[None]
        return found

    return prepare


def create(
    name: str,
    *,
    size: int | None = None,
    weights: Path | None = None,
    pretrained: bool = False,
) -> Backbone:
    """Make a network of timm.

    Parameters
    ----------
    name : str
        Name, with or without the prefix ``timm:``.
    size : int, optional
        Side of the images in pixels; by default that of its data config.
    weights : Path, optional
        File of weights, see `load_weights`. By default they are random.
    pretrained : bool
        Whether timm may download its weights.

    Raises
    ------
    UnknownNameError
        timm has no such network.
    ModelError
        It cannot be made for this size, or the weights do not fit.
    """
    timm, name = _timm(), timm_name(name)
    usual = data_config(name)["input_size"][-1]
    size = usual if size is None else size
    options: dict[str, Any] = {"num_classes": 0}
    if size != usual and fixed_size(name):
        options["img_size"] = size
    try:
        network = timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # each network has exceptions of its own
        if pretrained:
            raise ModelError(
                f"{name}: expected weights from Hugging Face, found {_first_line(error)}; give "
                f"weights=FILE for weights that you have"
            ) from error
        raise ModelError(
            f"{name}: expected a network for images of {size} px, found {_first_line(error)}; "
            f"its own size is {usual}"
        ) from error
    if weights is not None:
        load_weights(network, weights, name)
    return Backbone(network, _channels(network, name, size))


def load_weights(network: nn.Module, path: Path, name: str) -> None:
    """Load weights from a file of timm (``.safetensors``, ``.pth``, ``.pt`` or ``.bin``).

    Those of a classifier are left out. All others must be there and fit.

    Raises
    ------
    ModelError
        The file cannot be read, or has weights of a different network.
    """
    given = _read(path)
    module = sys.modules.get(type(network).__module__)
    # Files of other projects have other names, which timm converts; sizes are adapted as well.
    convert = getattr(module, "checkpoint_filter_fn", None)
    try:
        converted: Mapping[str, Tensor] = given if convert is None else convert(given, network)
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError):
        converted = given
    mine = network.state_dict()
    fitting = {
        key: value
        for key, value in converted.items()
        if key in mine and mine[key].shape == value.shape
    }
    needed = {key for key, _ in network.named_parameters()}
    needed |= {key for key in mine if key.endswith(("running_mean", "running_var"))}
    if missing := [key for key in mine if key in needed and key not in fitting]:
        wrong = [
            f"{key} of shape {tuple(converted[key].shape)} instead of {tuple(mine[key].shape)}"
            if key in converted
            else key
            for key in missing[:_SHOWN]
        ]
        raise ModelError(
            f"{path}: expected weights of {name}, found {len(needed) - len(missing)} of "
            f"{len(needed)} that fit; missing: {', '.join(wrong)}"
            f"{', ...' if len(missing) > _SHOWN else ''}; name the network that they were made for"
        )
    network.load_state_dict(fitting, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    """Return the weights in a file by name, without running code that it may hold."""
    if not path.is_file():
        raise ModelError(f"{path}: expected a file of weights, found none there")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # noqa: PLC0415  # comes with timm

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path}: expected weights as .safetensors or as torch saves a state_dict, found "
            f"something else ({_first_line(error)})"
        ) from error
    except Exception as error:  # safetensors has an exception of its own
        raise ModelError(
            f"{path}: expected a file of safetensors, found damage or other data: {error}"
        ) from error
    for key in _STATES:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    state = {
        str(key).removeprefix("module."): value
        for key, value in (found.items() if isinstance(found, dict) else ())
        if isinstance(value, Tensor)
    }
    if not state:
        raise ModelError(
            f"{path}: expected weights by name, found none in a {type(found).__name__}"
        )
    return state


def _channels(network: nn.Module, name: str, size: int) -> int:
    """Return the number of pooled features, found by running the network once."""
    mode = network.training
    try:
        with torch.no_grad():
            found = Backbone(network.eval(), 0)(torch.zeros(1, 3, size, size))
    except Exception as error:
        raise ModelError(
            f"{name}: expected a network that takes images of {size} px, found "
            f"{_first_line(error)}; use the size of its data config, "
            f"{data_config(network)['input_size'][-1]}"
        ) from error
    network.train(mode)
    return int(found.shape[1])


def settings(network: nn.Module | str) -> dict[str, Any]:
    """Return what timm says of a network's weights (``pretrained_cfg``); empty if nothing."""
    if isinstance(network, str):
        found = _timm().get_pretrained_cfg(network, allow_unregistered=True)
        return {} if found is None else dict(found.to_dict())
    return dict(network.pretrained_cfg or {})  # type: ignore[arg-type]  # nn.Module knows no attributes


def _called(network: nn.Module | str) -> str:
    return network if isinstance(network, str) else type(network).__name__


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"


def _timm() -> Any:
    if importlib.util.find_spec("timm") is None:
        raise MissingExtraError.of("a network of timm", extra="timm")
    try:
        import timm  # noqa: PLC0415  # only for those who use it
        import timm.data  # noqa: PLC0415
    except Exception as error:
        raise TrainingError(
            f"timm: expected an installation that can be imported, found {_first_line(error)}; "
            f"timm needs the build of torchvision that belongs to torch {torch.__version__}: "
            f"install both from one index, as https://pytorch.org/get-started tells"
        ) from error
    return timm
