"""Embedder that runs a network in an ONNX file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from imgret.abc import Embedder
from imgret.errors import ModelError
from imgret.models.builtin import builtin_name
from imgret.models.model import Model
from imgret.models.preprocess import Preprocess
from imgret.support.checks import check_count
from imgret.types import Embeddings, Image, Json

__all__ = ["OnnxEmbedder"]

_CPU = "CPUExecutionProvider"


@final
class OnnxEmbedder(Embedder):
    """Embeds images with a neural network in an ONNX file.

    Parameters
    ----------
    model : str or Path
        Name of a built-in model (``"general"``), or path of an ONNX file with one input.
    size : int, optional
        Side of the input in pixels, if the graph takes any size; by default the size the model
        was made for. A larger input is slower and often gives better results.
    preprocess : Preprocess or mapping, optional
        Preprocessing of the input; needed for a file that does not describe it.
        A mapping has the keys of `imgret.models.Preprocess`.
    output : str, optional
        Name of the output that is the embedding; needed for a foreign file with several outputs.
    providers : sequence of str, optional
        Execution providers of onnxruntime, the preferred one first; by default only the CPU's.
    batch_size : int, optional
        Images per run of the network; by default 1 on the CPU and 16 elsewhere, or the batch size
        of a network exported for a fixed one, to which shorter batches are padded.

    Raises
    ------
    ModelError
        The file cannot be used as asked, or a provider is not available.
    UnknownNameError
        No built-in model has the name.

    Notes
    -----
    Each run takes one thread. To use more cores, call `embed` from several threads at once. The
    fingerprint covers the ``.onnx`` file, the files in which it keeps weights
    (``model.onnx.data``), the preprocessing and the output.

    Examples
    --------
    >>> embedder = OnnxEmbedder("general", size=288)
    >>> embedder = OnnxEmbedder(
    ...     "resnet50.onnx",
    ...     preprocess={
    ...         "size": 224,
    ...         "short_side": 256,
    ...         "scaling": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
    ...     },
    ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path = "general",
        *,
        size: int | None = None,
        preprocess: Preprocess | Mapping[str, Any] | None = None,
        output: str | None = None,
        providers: Sequence[str] | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._model = Model(
            model,
            kind="embedder",
            size=size,
            preprocess=preprocess,
            output=output,
            providers=providers,
        )
        builtin = builtin_name(self._model.path)
        self.name = builtin or "onnx"
        self._config: Json = {} if builtin else {"model": str(self._model.path.absolute())}
        if preprocess is not None:
            self._config["preprocess"] = self._model.preprocess.to_json()
        elif size is not None:
            self._config["size"] = size
        if output is not None:
            self._config["output"] = output
        if providers is not None:
            self._config["providers"] = list(providers)
        # On two cores the network alone is as fast with batches of 1 as of 4, and a fifth slower
        # with 16; a folder is added at 710 images/s with 1, at 665 with 4 (medians of 5 runs each).
        session = self._model.session
        self.batch_size = session.batch or (1 if session.providers[0] == _CPU else 16)
        if batch_size is not None:
            self._config["batch_size"] = self.batch_size = check_count(batch_size, "batch_size")
        self.min_side = self._model.preprocess.min_side
        self._dim = self._find_dim()

    @property
    def dim(self) -> int:
        """Dimension of the embedding."""
        return self._dim

    @property
    def path(self) -> Path:
        """Path of the model's file."""
        return self._model.path

    @property
    def fingerprint(self) -> str:
        """sha256 of the file, and the options that change the embedding."""
        return self._model.fingerprint

    def config(self) -> Json:
        """Return the keyword arguments, as JSON values, that recreate this embedder."""
        return dict(self._config)

    def _embed(self, images: Sequence[Image]) -> Embeddings:
        return self._model.run(images).reshape(len(images), -1)

    def _find_dim(self) -> int:
        size = self._model.preprocess.size
        shape = self._model.run([np.full((size, size, 3), 127, dtype=np.uint8)]).shape
        dim = math.prod(shape[1:])
        if len(shape) < 2 or shape[0] != 1 or dim != shape[1]:
            raise ModelError(
                f"{self._model.path}: expected output {self._model.output!r} of shape (n, dim), "
                f"found {shape} for one image; one vector per image is needed: choose another "
                f"with output=, or pool in the graph"
            )
        return dim
