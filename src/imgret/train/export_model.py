"""Export of a trained network of torch, timm or transformers to a model file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from imgret import images as im
from imgret.demo import samples
from imgret.embedders import OnnxEmbedder
from imgret.errors import InvalidInputError, ModelError
from imgret.models import Preprocess, write_bundle
from imgret.models.pooling import check_pooling
from imgret.train import onnx_graph
from imgret.train.export_report import ExportReport
from imgret.train.parity import cosines, same_nearest
from imgret.train.sources import SourceNetwork, find_source
from imgret.types import Embeddings, Image, ImageLike

__all__ = ["export"]

# Least cosines: with the network in torch, and with its own library's preparation of images, which
# rounds in other places.
_LEAST, _OWN_LEAST = 0.999, 0.99
_COMPARED, _CALIBRATED = 16, 128
_DRAWN = 16


def export(
    model: nn.Module | str,
    path: str | os.PathLike[str],
    *,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    processor: object = None,
    pretrained: bool = False,
    weights: str | os.PathLike[str] | None = None,
    size: int | None = None,
    output: str | int | None = None,
    pooling: str | None = None,
    images: Iterable[ImageLike] | None = None,
    int8: bool = False,
    name: str | None = None,
    licence: str | None = None,
    training_data: str = "unknown",
) -> ExportReport:
    """Write a network that is already trained to a model file, and compare the two.

    The file holds the network and how its images are prepared, so that its path is enough:
    ``Retriever(embedder="model.onnx")``. It is put in place only if its embeddings of real images
    are those of the network in torch.

    Parameters
    ----------
    model : nn.Module or str
        One of: the name of a network of timm (``"resnet50"`` or ``"timm:resnet50"``, extra
        ``timm``); a module that timm has made; a model of transformers that reads images, of which
        the image tower is taken; any other torch module, with ``preprocess``. A module is left as
        it is. The classifier of a timm network is left out.
    path : path
        The ``.onnx`` file to write.
    preprocess : Preprocess or mapping, optional
        Preprocessing of the images. By default that of timm's data config, or of the processor of
        transformers.
    processor : processor of transformers, path or mapping, optional
        Image processor of a transformers model, or the folder with its
        ``preprocessor_config.json``. By default that in the folder which the model was loaded from.
    pretrained : bool
        Whether timm downloads the weights of the named network. Nothing else uses the network.
    weights : path, optional
        File with the weights of the named network: ``.safetensors``, or ``.pth`` as torch saves a
        state dict.
    size : int, optional
        Side of the images in pixels. By default that of ``preprocess`` or of timm's data config.
    output : str or int, optional
        Name or position of the output, for a module that returns several.
    pooling : {"cls", "mean", "none"}, optional
        Pooling of an output of shape (n, tokens, dim) or (n, channels, h, w): the first token, or
        the mean.
    images : iterable of paths or arrays, optional
        Images to compare the network and its file on (the first 16), and to measure the ranges of
        the 8-bit file on (the first 128). By default 16 images of flowers that imgret draws; take
        your own for an 8-bit file.
    int8 : bool
        Whether to write an 8-bit file beside the other one: ``model.int8.onnx``.
    name : str, optional
        Name of the model. By default ``path`` without its suffix.
    licence : str, optional
        SPDX expression of the weights. By default that of the weights which timm has downloaded, or
        ``NOASSERTION``.
    training_data : str
        Description of the images it was trained on.

    Returns
    -------
    ExportReport

    Raises
    ------
    MissingExtraError
        torch or timm is not installed.
    UnknownNameError
        timm has no such network, or the model has no such output.
    InvalidInputError
        An argument is invalid, or goes with another kind of model.
    ModelError
        It is not known how images are prepared, the weights do not fit, the output is not one
        finite vector per image, torch cannot export the network, or the file's embeddings are
        different from the network's (a cosine below 0.999, or below 0.99 if the images are
        prepared by timm or transformers themselves).
    """
    path = _checked(Path(path))
    source = find_source(
        model,
        preprocess=preprocess,
        processor=processor,
        pretrained=pretrained,
        weights=None if weights is None else Path(weights),
        size=size,
        output=output,
        pooling=check_pooling(pooling),
    )
    _check_preprocess(source)
    photos = _load(images)
    compared = photos[:_COMPARED]
    expected = _embed(source, compared)
    graph, any_size = onnx_graph.foreign_to_onnx(
        source.network, source.name, side=source.preprocess.size, any_size=source.any_size
    )
    drawn = images is None
    facts: dict[str, Any] = {
        "name": name or path.stem,
        "source": f"imgret.train.export, {source.origin}",
        "licence": source.licence if licence is None else licence,
        "training_data": training_data,
    }
    scaling = source.preprocess.scaling
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        plain = Path(folder) / path.name
        _save(onnx_graph.with_pixels(graph, scaling), plain, source, precision="fp32", **facts)
        found = OnnxEmbedder(plain).embed(compared)
        parity = _parity(expected, found, source)
        own = _own_parity(found, compared, source)
        small, lost, same = None, None, None
        if int8:
            small = path.with_suffix(".int8.onnx")
            part = Path(folder) / small.name
            made = onnx_graph.quantised(graph, source.preprocess, photos)
            what = "images that imgret draws" if drawn else "images given to imgret.train.export"
            facts |= {"precision": "int8", "calibrated_on": f"{len(photos)} {what}"}
            _save(made, part, source, **facts)
            full = np.concatenate([found, OnnxEmbedder(plain).embed(photos[_COMPARED:])])
            less = OnnxEmbedder(part).embed(photos)
            lost, same = cosines(full, less), same_nearest(full, less)
            part.replace(small)
        plain.replace(path)
    return ExportReport(
        path=path,
        int8_path=small,
        name=facts["name"],
        origin=source.origin,
        parameters=onnx_graph.count_weights(graph),
        dim=expected.shape[1],
        preprocess=source.preprocess,
        any_size=any_size,
        n_images=len(photos),
        drawn=drawn,
        parity=float(parity.min()),
        own_parity=None if own is None else float(own.min()),
        int8_cosine=None if lost is None else float(lost.mean()),
        int8_least=None if lost is None else float(lost.min()),
        int8_same_nearest=same,
    )


def _checked(path: Path) -> Path:
    if path.suffix != ".onnx":
        raise InvalidInputError(f"path: expected the path of an .onnx file, found {path}")
    if not path.parent.is_dir():
        raise InvalidInputError(
            f"path: expected a folder {path.parent}, found none; create it first"
        )
    return path


def _check_preprocess(source: SourceNetwork) -> None:
    wanted = source.preprocess
    if wanted.layout != "NCHW" or wanted.dtype != "float32":
        raise InvalidInputError(
            f"preprocess: expected layout 'NCHW' and dtype 'float32', which torch modules take, "
            f"found {wanted.layout!r} and {wanted.dtype!r}; put the conversion into the module"
        )


def _load(given: Iterable[ImageLike] | None) -> list[Image]:
    """Return the images to compare on."""
    if given is None:
        species = samples.species()
        return [samples.draw(species[n % len(species)], n) for n in range(_DRAWN)]
    if isinstance(given, str | bytes | os.PathLike):
        raise InvalidInputError(f"images: expected several paths or arrays, found one: {given!r}")
    loaded = []
    for image in given:
        loaded.append(im.load(image))
        if len(loaded) == _CALIBRATED:
            break
    if not loaded:
        raise InvalidInputError("images: expected at least one image, found none")
    return loaded


def _embed(source: SourceNetwork, photos: Sequence[Image]) -> Embeddings:
    """Return the network's own embeddings, after checking that they are embeddings."""
    pixels = source.preprocess.prepare([photos[0], photos[-1]])
    with torch.no_grad():
        try:
            found = source.network(torch.from_numpy(pixels))
        except (LookupError, InvalidInputError):
            raise
        except Exception as error:  # each network has exceptions of its own
            raise ModelError(
                f"{source.name}: expected a network that takes pixels of shape "
                f"{pixels.shape}, found {type(error).__name__}: {error}; is the size in "
                f"preprocess= right?"
            ) from error
        if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != 2:
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise ModelError(
                f"{source.name}: expected an output of shape (2, dim) for two images, found "
                f"{shape}; {_advice(found)}"
            )
        rows = [
            source.network(torch.from_numpy(source.preprocess.prepare([photo]))).numpy()
            for photo in photos
        ]
    made: Embeddings = np.concatenate(rows).astype(np.float32)
    if not np.isfinite(made).all():
        raise ModelError(
            f"{source.name}: expected finite embeddings, found NaN or infinity; are the weights "
            f"and the scaling of preprocess= right?"
        )
    return made


def _advice(found: object) -> str:
    if isinstance(found, torch.Tensor) and found.ndim in {3, 4}:
        ways = "pooling='cls' (the first token) or " if found.ndim == 3 else ""
        return f"give {ways}pooling='mean'"
    if isinstance(found, torch.Tensor):
        return "wrap the module in one that returns one vector per image"
    return "wrap the module in one that returns a tensor"


def _save(model: onnx.ModelProto, path: Path, given: SourceNetwork, /, **facts: Any) -> None:
    try:
        onnx.save(model, path)
    except OSError as error:
        raise ModelError(f"{path.name}: cannot be written: {error.strerror}") from error
    except ValueError as error:  # of protobuf, above 2 GB
        raise ModelError(
            f"{given.name}: expected a network of less than 2 GB, which fits into one file, found "
            f"more"
        ) from error
    write_bundle(path, preprocess=onnx_graph.as_stored(given.preprocess), **facts)


def _parity(expected: Embeddings, found: Embeddings, source: SourceNetwork) -> Any:
    parity = cosines(expected, found)
    if not parity.min() >= _LEAST:
        raise ModelError(
            f"{source.name}: expected a file whose embeddings have a cosine of at least {_LEAST} "
            f"with those of the network in torch, found {parity.min():.4f}; nothing was written. "
            f"Some operation of it is exported wrongly, or depends on chance"
        )
    return parity


def _own_parity(found: Embeddings, photos: Sequence[Image], source: SourceNetwork) -> Any:
    """Compare with embeddings of images that the network's own library has prepared."""
    if source.prepare is None:
        return None
    with torch.no_grad():
        rows = [source.network(source.prepare(photo)).numpy() for photo in photos]
    parity = cosines(np.concatenate(rows).astype(np.float32), found)
    if not parity.min() >= _OWN_LEAST:
        raise ModelError(
            f"{source.name}: expected that images prepared by imgret and by the network's own "
            f"library give embeddings with a cosine of at least {_OWN_LEAST}, found "
            f"{parity.min():.4f}; nothing was written. Give preprocess= to say how images are "
            f"prepared"
        )
    return parity
