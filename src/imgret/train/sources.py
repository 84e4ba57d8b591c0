"""Networks of timm, of transformers and of one's own, as sources of a model file."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from imgret.errors import InvalidInputError, ModelError, UnknownNameError
from imgret.models import Preprocess
from imgret.models.folder import IMAGE_OUTPUTS, UNTRAINED_POOLERS, read_preprocess
from imgret.models.pooling import Pooling
from imgret.models.processor import from_hugging_face, from_timm
from imgret.train.networks import backbones
from imgret.types import Image

__all__ = ["SourceNetwork", "find_source"]

_TOKENS = "last_hidden_state"
# Licences of timm's weights as SPDX expressions.
_LICENCES = {"apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-nc-4.0": "CC-BY-NC-4.0"}


@dataclass(frozen=True, kw_only=True)
class SourceNetwork:
    """A network and how its images are prepared.

    Attributes
    ----------
    network : nn.Module
        A copy for inference, from scaled pixels (n, 3, h, w) to its output.
    preprocess : Preprocess
    name : str
    origin : str
        Origin of the weights, to be stored in the file.
    licence : str
        SPDX expression.
    any_size : bool
        Whether the network may take images of any size.
    prepare : callable or None
        Function that prepares one image as the network's own library does, as pixels (1, 3, h, w);
        None if that is not known.
    """

    network: nn.Module
    preprocess: Preprocess
    name: str
    origin: str
    licence: str
    any_size: bool
    prepare: Callable[[Image], Tensor] | None


def find_source(
    model: nn.Module | str,
    *,
    preprocess: Preprocess | Mapping[str, Any] | None,
    processor: object,
    pretrained: bool,
    weights: Path | None,
    size: int | None,
    output: str | int | None,
    pooling: Pooling | None,
) -> SourceNetwork:
    """Find out what a model is and how its images are prepared; see `imgret.train.export`.

    Raises
    ------
    InvalidInputError
        The arguments do not go together.
    ModelError
        It is not known how images are prepared.
    """
    if isinstance(preprocess, Mapping):
        preprocess = Preprocess.from_json(preprocess)
    if not isinstance(model, nn.Module | str):
        raise InvalidInputError(
            f"model: expected a torch module, a model of transformers, or the name of a network "
            f"of timm, found {type(model).__name__}"
        )
    if isinstance(model, nn.Module) and (pretrained or weights is not None):
        raise InvalidInputError(
            f"{'pretrained' if pretrained else 'weights'}: expected it with the name of a network "
            f"of timm, found {type(model).__name__}, which has its weights"
        )
    if isinstance(model, str) or backbones.is_timm(model):
        for option, value in (("output", output), ("pooling", pooling), ("processor", processor)):
            if value is not None:
                raise InvalidInputError(
                    f"{option}: expected none for a network of timm, which pools by itself and "
                    f"says how images are prepared, found {value!r}; give "
                    f"timm.create_model(..., global_pool='avg') for another pooling"
                )
        return _of_timm(model, preprocess, pretrained=pretrained, weights=weights, size=size)
    if isinstance(getattr(getattr(model, "config", None), "model_type", None), str):
        return _of_transformers(
            model, preprocess, processor, size=size, output=output, pooling=pooling
        )
    if processor is not None:
        raise InvalidInputError(
            "processor: expected it with a model of transformers, found a plain torch module; give "
            "preprocess="
        )
    if preprocess is None:
        raise ModelError(
            f"{type(model).__name__}: expected preprocess=, because a torch module does not say "
            f"how its images are prepared, found none; give for example preprocess={{'size': 224, "
            f"'short_side': 256, 'resize': 'crop', 'interpolation': 'bilinear', 'rounding': "
            f"'even', 'scaling': {{'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, "
            f"57.375]}}}}"
        )
    return SourceNetwork(
        network=_copied(_Embedding(model, output, pooling)),
        preprocess=preprocess if size is None else preprocess.resized(size),
        name=type(model).__name__,
        origin=f"torch module {type(model).__name__}",
        licence="NOASSERTION",
        any_size=True,
        prepare=None,
    )


def _of_timm(
    model: Any,
    given: Preprocess | None,
    *,
    pretrained: bool,
    weights: Path | None,
    size: int | None,
) -> SourceNetwork:
    licence = "NOASSERTION"
    if isinstance(model, str):
        name = backbones.timm_name(model)
        if pretrained == (weights is not None):
            found = "both" if pretrained else "neither; embeddings of random weights are useless"
            raise InvalidInputError(
                f"{name}: expected either weights=FILE or pretrained=True, which downloads them, "
                f"found {found}"
            )
        network = backbones.create(name, size=size, weights=weights, pretrained=pretrained).network
        origin = f"timm {name}, " + (f"weights {weights.name}" if weights else "its own weights")
        if pretrained:
            stated = backbones.settings(network).get("license")
            licence = _LICENCES.get(str(stated).lower(), "NOASSERTION")
    else:
        network, name = model, _timm_name_of(model)
        origin = f"timm {name}"
    config = backbones.data_config(network)
    if size is not None:
        config |= {"input_size": (3, size, size)}
    prepare = None
    if given is None:
        try:
            given = from_timm(config)
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from error
        prepare = backbones.own_transform(config)
    elif size is not None:
        given = given.resized(size)
    return SourceNetwork(
        network=_copied(backbones.Backbone(network, 0)),
        preprocess=given,
        name=name,
        origin=origin,
        licence=licence,
        any_size=not (backbones.fixed_size(network) or backbones.pads_by_size(network)),
        prepare=prepare,
    )


def _timm_name_of(network: Any) -> str:
    settings = backbones.settings(network)
    tag = settings.get("tag")
    name = str(settings.get("architecture") or type(network).__name__)
    return f"{name}.{tag}" if tag else name


def _of_transformers(
    model: Any,
    given: Preprocess | None,
    processor: Any,
    *,
    size: int | None,
    output: str | int | None,
    pooling: Pooling | None,
) -> SourceNetwork:
    config = model.config
    place = str(getattr(config, "_name_or_path", "") or "")
    prepare = None
    if given is None:
        given = _read_processor(processor, place, type(model).__name__)
        if size is None and callable(inner := getattr(processor, "image_processor", processor)):
            prepare = _own_processor(inner)
    if size is not None:
        given = given.resized(size)
    return SourceNetwork(
        network=_copied(_Embedding(_ImageTower(model), output, pooling, kind=config.model_type)),
        preprocess=given,
        name=Path(place).name or type(model).__name__,
        origin=f"transformers {type(model).__name__}" + (f", {Path(place).name}" if place else ""),
        licence="NOASSERTION",
        any_size=False,  # position embeddings are those of one size
        prepare=prepare,
    )


def _read_processor(processor: Any, place: str, name: str) -> Preprocess:
    """Return the preprocessing that a processor, or the folder of one, describes."""
    if processor is None or isinstance(processor, str | os.PathLike):
        folder = place if processor is None else os.fspath(processor)
        found = read_preprocess(Path(folder)) if folder and Path(folder).is_dir() else None
        if found is None:
            raise ModelError(
                f"{name}: expected the processor of the model, found none"
                f"{f' in {folder}' if folder else ''}; give processor=, as "
                f"transformers.AutoImageProcessor.from_pretrained returns it, or a folder with "
                f"its preprocessor_config.json, or preprocess="
            )
        return found
    inner = getattr(processor, "image_processor", processor)
    if isinstance(inner, Mapping):
        facts = dict(inner)
    elif hasattr(inner, "to_json_string"):
        facts = json.loads(inner.to_json_string())
    else:
        raise InvalidInputError(
            f"processor: expected a processor of transformers, a folder with one, or its facts, "
            f"found {type(processor).__name__}"
        )
    kind = str(facts.get("image_processor_type") or "")
    try:
        return from_hugging_face(facts | {"image_processor_type": kind.removesuffix("Pil")})
    except ModelError as error:
        raise ModelError(f"processor: {error}") from error


def _own_processor(processor: Any) -> Callable[[Image], Tensor]:
    def prepare(image: Image) -> Tensor:
        found: Tensor = processor(images=[image], return_tensors="pt")["pixel_values"]
        return found

    return prepare


class _ImageTower(nn.Module):
    """The part of a transformers model that reads images, with all of its outputs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Any:
        """Map pixels (n, 3, h, w) to an embedding, or to several outputs by name."""
        features = getattr(self.model, "get_image_features", None)
        if features is None:
            return self.model(pixel_values=pixels)
        found = features(pixel_values=pixels)
        # From version 5 on, the projected embedding is returned as the pooled output.
        return found if isinstance(found, Tensor) else {"image_embeds": found["pooler_output"]}


class _Embedding(nn.Module):
    """A module whose output is one vector per image.

    Parameters
    ----------
    module : nn.Module
    output : str or int, optional
        Name or position of the output, if there are several.
    pooling : {"cls", "mean", "none"}, optional
    kind : str, optional
        ``model_type`` of a transformers model, of which the output and pooling are known.
    """

    def __init__(
        self,
        module: nn.Module,
        output: str | int | None,
        pooling: Pooling | None,
        *,
        kind: str | None = None,
    ) -> None:
        super().__init__()
        self.module, self.output, self.pooling, self.kind = module, output, pooling, kind

    def forward(self, pixels: Tensor) -> Any:
        """Map scaled pixels (n, 3, h, w) to embeddings (n, dim), if the options are right."""
        found = self._choose(self.module(pixels))
        if not isinstance(found, Tensor) or found.ndim < 3 or self.pooling == "none":
            return found
        if found.ndim == 4 and found.shape[2:] == (1, 1):
            return found.flatten(1)
        pooling = self.pooling
        if pooling is None and self.kind is not None:
            pooling = "cls" if found.ndim == 3 else "mean"
        if pooling == "cls" and found.ndim == 3:
            return found[:, 0]
        if pooling == "mean":
            return found.mean(1) if found.ndim == 3 else found.flatten(2).mean(2)
        return found

    def _choose(self, found: Any) -> Any:
        if isinstance(found, Tensor):
            return found
        output = self.output
        if isinstance(found, Mapping):
            if output is None and self.kind is not None:
                names = (*IMAGE_OUTPUTS, _TOKENS)
                if self.kind in UNTRAINED_POOLERS:
                    names = (_TOKENS, *IMAGE_OUTPUTS)
                output = next((name for name in names if found.get(name) is not None), None)
            if output not in found:
                raise UnknownNameError(
                    f"output: expected one of {', '.join(map(str, found))}, found {output!r}"
                )
            return found[output]
        if isinstance(found, tuple | list):
            if not isinstance(output, int) or not -len(found) <= output < len(found):
                raise UnknownNameError(
                    f"output: expected the position of one of the {len(found)} outputs, found "
                    f"{output!r}"
                )
            return found[output]
        return found


def _copied(network: nn.Module) -> nn.Module:
    """Return a copy for inference, float32 and on the CPU; the original stays as it is."""
    return copy.deepcopy(network).cpu().float().eval()
