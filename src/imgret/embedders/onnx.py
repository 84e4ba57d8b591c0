"""Embedder that runs a network in an ONNX file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from imgret.abc import Embedder
from imgret.errors import ModelError
from imgret.models.builtin import builtin_name
from imgret.models.bundle import fingerprint as fingerprint_of
from imgret.models.external import is_large
from imgret.models.model import Model
from imgret.models.preprocess import Preprocess
from imgret.support.checks import check_count
from imgret.support.lazy import cached_property
from imgret.support.locks import RLock
from imgret.types import Embeddings, Image, Json

if TYPE_CHECKING:
    from imgret.models.features import Contributions, FeatureModel
    from imgret.models.text import TextModel

__all__ = ["OnnxEmbedder"]


@final
class OnnxEmbedder(Embedder):
    """Embeds images with a neural network in an ONNX file.

    Parameters
    ----------
    model : str or Path
        Name of a built-in model (``"general"``), the path of an ONNX file with one input, or a
        folder as people download it: see `imgret.models.folder`.
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
    pooling : {"cls", "mean", "none"}, optional
        Pooling of an output of shape (n, tokens, dim) or (n, channels, height, width): the first
        token, or the mean of all. By default that of the kind of model in a folder.
    variant : str, optional
        File to use of several in a folder, such as ``"fp16"`` or ``"quantized"``.
    text_model : str or Path, optional
        Folder of the text tower, if it is not that of the image tower.
    text_output : str, optional
        Name of the output of the text tower; needed for a foreign file with several
        outputs.
    batch_size : int, optional
        Images per run of the network; by default 1 on the CPU (4 if the weights have 64 MB or
        more), 32 on a GPU and 16 elsewhere, or the batch size of a network exported for a fixed
        one, to which shorter batches are padded.

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
        pooling: str | None = None,
        variant: str | None = None,
        text_model: str | Path | None = None,
        text_output: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._model = Model(
            model,
            kind="embedder",
            size=size,
            preprocess=preprocess,
            output=output,
            providers=providers,
            pooling=pooling,
            variant=variant,
            text_folder=None if text_model is None else Path(text_model),
        )
        folder = self._model.folder
        builtin = builtin_name(self._model.path)
        self.name = builtin or "onnx"
        place = self._model.path if folder is None else folder.path
        self._config: Json = {} if builtin else {"model": str(place.absolute())}
        chosen = {"pooling": pooling, "variant": variant, "text_output": text_output}
        self._config |= {name: value for name, value in chosen.items() if value is not None}
        if text_model is not None:
            self._config["text_model"] = str(Path(text_model).absolute())
        self._text_output, self._providers = text_output, providers
        self._lock = RLock()
        self._text: TextModel | None = None
        self._with_features: FeatureModel | ModelError | None = None
        if preprocess is not None:
            self._config["preprocess"] = self._model.preprocess.to_json()
        elif size is not None:
            self._config["size"] = size
        if output is not None:
            self._config["output"] = output
        if providers is not None:
            self._config["providers"] = list(providers)
        self.batch_size = self._model.session.default_batch(large=is_large(self._model.path))
        self.min_batch = self._model.session.batch or 1
        if batch_size is not None:
            self._config["batch_size"] = self.batch_size = check_count(batch_size, "batch_size")
        self.min_side = self._model.preprocess.min_side
        self._dim = self._find_dim()

    @property
    def dim(self) -> int:
        """Dimension of the embedding."""
        return self._dim

    @property
    def network(self) -> Model:
        """Network with its preprocessing; ``network.session`` runs it on tensors."""
        return self._model

    @property
    def path(self) -> Path:
        """Path of the model's file."""
        return self._model.path

    @property
    def fingerprint(self) -> str:
        """sha256 of the file, and the options that change the embedding."""
        return f"{self._model.fingerprint}{self._text_fingerprint}"

    @cached_property
    def _text_fingerprint(self) -> str:
        facts = None if self._model.folder is None else self._model.folder.text
        if facts is None:
            return ""
        digest = hashlib.sha256(f"{fingerprint_of(facts.graph)}\n".encode())
        digest.update(facts.tokenizer.read_bytes())
        options = (facts.length, facts.pad_token, facts.fixed, facts.cleaning, self._text_output)
        digest.update(repr(options).encode())
        return f" text sha256:{digest.hexdigest()}"

    @property
    def former_fingerprint(self) -> str:
        """Fingerprint of galleries that were made before the tower for text was there."""
        return self._model.fingerprint

    @property
    def reads_text(self) -> bool:
        """Whether the model has a tower for text as well."""
        return self._model.folder is not None and self._model.folder.text is not None

    @property
    def no_text(self) -> str:
        """Why it has none, as the end of a sentence; empty if it has."""
        if self._model.folder is None:
            return f"{self._model.path} is a single graph"
        return self._model.folder.no_text

    def config(self) -> Json:
        """Return the keyword arguments, as JSON values, that recreate this embedder."""
        return dict(self._config)

    def contributions(self, image: Image) -> Contributions:
        """Return how much each place of an image adds to its embedding.

        The embedding must be the mean of a feature map, after which only linear maps, powers and
        scaling follow, as in most convolutional networks. It then is the sum of what the places
        add, up to 1/1000 of its length.

        Parameters
        ----------
        image : uint8 array of shape (H, W, 3)
            RGB.

        Returns
        -------
        Contributions
            ``places``: float32 array of shape (h, w, dim), in the shape of the feature map.
            ``rest``: float32 array of shape (dim,), what constants add.

        Raises
        ------
        ModelError
            The embedding is not of this kind.
        """
        return self._features().contributions(image)

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing of the images."""
        return self._model.preprocess

    def _features(self) -> FeatureModel:
        from imgret.models.features import FeatureModel  # noqa: PLC0415  # only for those who use it

        with self._lock:
            if self._with_features is None:
                try:
                    self._with_features = FeatureModel(self._model)
                except ModelError as error:
                    self._with_features = error
            if isinstance(self._with_features, ModelError):
                # A new one each time: it would keep the images of all calls in its traceback.
                raise ModelError(*self._with_features.args)
            return self._with_features

    def _embed(self, images: Sequence[Image]) -> Embeddings:
        found = self._model.run(images).reshape(len(images), -1)
        if self._model.preprocess.dtype == "float16" and not np.isfinite(found).all():
            raise ModelError(
                f"{self._model.path}: expected finite numbers, found NaN or infinity, as float16 "
                f"gives where numbers grow too large; use the file in float32"
            )
        return found

    def _embed_text(self, texts: Sequence[str]) -> Embeddings:
        found = self._text_tower().embed(texts)
        if found.shape[1] != self.dim:
            raise ModelError(
                f"{self._text_tower().facts.graph}: expected vectors of {self.dim} numbers, as "
                f"images have, found {found.shape[1]}; the two towers are not of one model, or "
                f"another output is needed (output=, text_output=)"
            )
        return found

    def _text_tower(self) -> TextModel:
        from imgret.models.text import TextModel  # noqa: PLC0415  # only for those who use it

        with self._lock:
            if self._text is None:
                facts = None if self._model.folder is None else self._model.folder.text
                if facts is None:  # `embed_text` has looked
                    raise ModelError(f"{self._model.path}: {self.no_text}")
                self._text = TextModel(facts, output=self._text_output, providers=self._providers)
            return self._text

    def _find_dim(self) -> int:
        size = self._model.preprocess.size
        shape = self._model.run([np.full((size, size, 3), 127, dtype=np.uint8)]).shape
        dim = math.prod(shape[1:])
        if len(shape) < 2 or shape[0] != 1 or dim != shape[1]:
            raise ModelError(
                f"{self._model.path}: expected output {self._model.output!r} of shape (n, dim), "
                f"found {shape} for one image; one vector per image is needed: choose "
                f"another with output=, or pool with pooling='cls' or pooling='mean'"
            )
        return dim
