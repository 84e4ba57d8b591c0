"""A model file ready to run: graph, preprocessing and facts together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import ModelError
from imgret.models import bundle as bundles
from imgret.models.builtin import resolve
from imgret.models.bundle import Bundle, Kind
from imgret.models.preprocess import Preprocess
from imgret.types import Image

if TYPE_CHECKING:
    from imgret.models.session import Session

__all__ = ["Model"]

# Types of an output that can be an embedding or a map; 8-bit ones are those of quantised models.
_NUMBERS = {"float64", "float32", "float16", "int8", "uint8", "tensor(bfloat16)"}


@final
class Model:
    """A network that turns images into one of its outputs.

    Parameters
    ----------
    model : str or Path
        Name of a built-in model, or path of an ONNX file.
    kind : {"embedder", "saliency"}
        Kind that the model must have.
    size : int, optional
        Side of the input in pixels, if the graph takes any; by default the file's.
    preprocess : Preprocess or mapping, optional
        Preprocessing of the input; needed if the file does not describe it.
    output : str, optional
        Name of the output; by default the one that the file says, or its only numeric one.
    providers : sequence of str, optional
        Execution providers of onnxruntime; by default only the CPU's.

    Attributes
    ----------
    path : Path
    bundle : Bundle or None
        Facts in the file; None if it has none.
    preprocess : Preprocess
        Preprocessing of the images.
    output : str
        Name of the output that `run` returns.
    session : Session
    fingerprint : str
        sha256 of the file and of any other files that hold its weights, and the options that
        differ from the facts in the file. The version and provider of onnxruntime are not part of
        it: they change the last digits, not the embedding space.

    Raises
    ------
    ModelError
        The file cannot be used as asked.
    UnknownNameError
        No built-in model has the name.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        kind: Kind,
        size: int | None = None,
        preprocess: Preprocess | Mapping[str, Any] | None = None,
        output: str | None = None,
        providers: Sequence[str] | None = None,
    ) -> None:
        from imgret.models.session import Session  # noqa: PLC0415  # loads onnxruntime

        self.path = resolve(model)
        self.bundle = bundles.read(self.path)
        if self.bundle is not None and self.bundle.kind != kind:
            raise ModelError(
                f"{self.path}: expected a model of kind {kind!r}, found {self.bundle.kind!r}"
            )
        self.preprocess = _preprocess(self.path, self.bundle, preprocess)
        if size is not None:
            self.preprocess = self.preprocess.resized(size)
        self._digest = bundles.fingerprint(self.path)  # also finds out whether a file is missing
        # Weights in a file with facts cannot saturate; those in another file may.
        self.session: Session = Session(
            self.path, providers=providers, guard_int8=self.bundle is None
        )
        self._check_input()
        self.output = self._find_output(output)
        self.fingerprint = self._fingerprint()

    def run(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return the output for images of any sizes, as float32 of shape (n, ...)."""
        return self.session.run(self.preprocess.prepare(images), self.output)

    def _check_input(self) -> None:
        wanted = self.preprocess
        size, there = wanted.size, self.session.input
        shape = (None, 3, size, size) if wanted.layout == "NCHW" else (None, size, size, 3)
        fits = len(there.shape) == 4 and all(
            a is None or b is None or a == b for a, b in zip(there.shape, shape, strict=True)
        )
        if not fits or there.dtype != wanted.dtype or there.shape[0] == 0:
            raise ModelError(
                f"{self.path}: expected an input of {wanted.dtype} and shape "
                f"{_shown(shape)} ({wanted.layout}), found {there.dtype} of shape "
                f"{_shown(there.shape)}; change size, layout or dtype in preprocess="
            )

    def _find_output(self, asked: str | None) -> str:
        types = {tensor.name: tensor.dtype for tensor in self.session.outputs}
        names = [name for name, dtype in types.items() if dtype in _NUMBERS] or list(types)
        if asked is None and self.bundle is not None:
            asked = self.bundle.output
        if asked is None and len(names) == 1:
            asked = names[0]
        if asked not in types:
            found = "none" if asked is None else repr(asked)
            raise ModelError(
                f"{self.path}: output: expected one of {', '.join(names)}, found {found}"
            )
        if types[asked] not in _NUMBERS:
            others = [name for name in names if name != asked]
            raise ModelError(
                f"{self.path}: expected output {asked!r} of floating-point numbers, found "
                f"{types[asked]}{', such as class numbers' if 'int' in types[asked] else ''}; "
                + (
                    f"choose another with output=: {', '.join(others)}"
                    if others
                    else "export the model with the layer before it as its output"
                )
            )
        return asked

    def _fingerprint(self) -> str:
        chosen = self.preprocess.to_json() | {"output": self.output}
        if self.bundle is not None:
            told = self.bundle.input.to_json() | {"output": self.bundle.output}
            chosen = {name: fact for name, fact in chosen.items() if fact != told[name]}
        suffix = f" {json.dumps(chosen, sort_keys=True)}" if chosen else ""
        return f"sha256:{self._digest}{suffix}"


def _preprocess(
    path: Path, bundle: Bundle | None, given: Preprocess | Mapping[str, Any] | None
) -> Preprocess:
    if isinstance(given, Preprocess):
        return given
    if given is not None:
        return Preprocess.from_json(given)
    if bundle is None:
        raise ModelError(
            f"{path}: expected facts about its input under the metadata key {bundles.KEY!r}, "
            f"found none; give them, for example preprocess={{'size': 224, 'resize': 'crop', "
            f"'scaling': {{'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375]}}}}"
        )
    return bundle.input


def _shown(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in shape)})"
