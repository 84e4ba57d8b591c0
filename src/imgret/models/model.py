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
from imgret.models.folder import ModelFolder, read_folder
from imgret.models.pooling import Pooling, check_pooling, pool
from imgret.models.preprocess import Preprocess
from imgret.models.subgraph import cut_out, inputs_and_outputs
from imgret.types import Image

if TYPE_CHECKING:
    from imgret.models.session import Session

__all__ = ["Model", "images_of"]

# Types of an output that can be an embedding or a map; 8-bit ones are those of quantised models.
_NUMBERS = {"float64", "float32", "float16", "int8", "uint8", "tensor(bfloat16)"}


@final
class Model:
    """A network that turns images into one of its outputs.

    Parameters
    ----------
    model : str or Path
        Name of a built-in model, the path of an ONNX file, or a folder that holds one.
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
    pooling : {"cls", "mean", "none"}, optional
        Pooling of an output of several vectors per image.
    variant : str, optional
        File to use of several in a folder.
    text_folder : Path, optional
        Folder of the text tower, if it is not that of the image tower.

    Attributes
    ----------
    path : Path
    folder : ModelFolder or None
    pooling : str
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
        pooling: str | None = None,
        variant: str | None = None,
        text_folder: Path | None = None,
    ) -> None:
        from imgret.models.session import Session  # noqa: PLC0415  # loads onnxruntime

        self.path, self.folder = _found(model, variant, text_folder)
        if self.folder is not None and kind != "embedder":
            raise ModelError(
                f"{self.folder.path}: expected the ONNX file of a model of kind {kind!r}, found a "
                f"folder; give the file, such as {self.path}"
            )
        pooling = check_pooling(pooling)
        self.bundle = bundles.read(self.path)
        if self.bundle is not None and self.bundle.kind != kind:
            raise ModelError(
                f"{self.path}: expected a model of kind {kind!r}, found {self.bundle.kind!r}"
            )
        self._is_given = preprocess is not None
        self.preprocess = _preprocess(self.path, self.bundle, self.folder, preprocess)
        if size is not None:
            self.preprocess = self.preprocess.resized(size)
        self._digest = bundles.fingerprint(self.path)  # also finds out whether a file is missing
        # Weights in a file with facts cannot saturate; those in another file may.
        self.session: Session = Session(
            self.path,
            providers=providers,
            guard_int8=self.bundle is None,
            graph=None if self.folder is None else images_of(self.folder, output),
        )
        if self.folder is not None and not self._is_given:
            self._follow_input()
        self._check_input()
        self.output = self._find_output(output)
        self.pooling = self._find_pooling(pooling)
        self.fingerprint = self._fingerprint()

    def run(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return the output for images of any sizes, as float32 of shape (n, ...)."""
        found = self.session.run(self.preprocess.prepare(images), self.output)
        return found if self.pooling == "none" else pool(found, self.pooling)

    def _follow_input(self) -> None:
        """Take layout and type from the graph, where the folder does not say."""
        there, facts = self.session.input, self.preprocess.to_json()
        if len(there.shape) == 4 and there.shape[3] == 3 and there.shape[1] != 3:
            facts["layout"] = "NHWC"
        if there.dtype in {"float16", "uint8"}:
            facts["dtype"] = there.dtype
        if there.dtype == "uint8":
            facts["scaling"] = None  # done inside
        self.preprocess = Preprocess.from_json(facts)

    def _find_pooling(self, asked: Pooling | None) -> Pooling:
        shape = next(each.shape for each in self.session.outputs if each.name == self.output)
        if asked not in {None, "none"} and len(shape) not in {0, 3, 4}:  # 0: any
            raise ModelError(
                f"{self.path}: pooling: expected an output of several vectors per image with "
                f"{asked!r}, found {self.output!r} of shape {_shown(shape)}; leave pooling out"
            )
        if asked is not None:
            return asked
        if self.folder is None or len(shape) < 3:
            return "none"
        if len(shape) == 4:
            return "mean"
        if self.folder.kind or self.output == "last_hidden_state":
            return "cls"
        raise ModelError(
            f"{self.path}: expected an output of shape (n, dim), found {_shown(shape)} in "
            f"{self.output!r}; give pooling='cls' or pooling='mean'"
        )

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
                f"{_shown(there.shape)}; "
                + (
                    self.session.reads_text
                    if there.name == "input_ids"
                    else "change size, layout or dtype in preprocess="
                )
            )

    def _find_output(self, asked: str | None) -> str:
        types = {tensor.name: tensor.dtype for tensor in self.session.outputs}
        names = [name for name, dtype in types.items() if dtype in _NUMBERS] or list(types)
        if asked is None and self.bundle is not None:
            asked = self.bundle.output
        if asked is None and self.folder is not None:
            asked = next((name for name in self.folder.outputs if name in names), None)
        if asked is None and len(names) == 1:
            asked = names[0]
        if asked not in types:
            found = "none" if asked is None else repr(asked)
            raise ModelError(
                f"{self.path}: output: expected one of {', '.join(names)}, found {found}; give it "
                f"as output=, or write it into the file with imgret models bundle --tensor"
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
        if self.pooling != "none":
            chosen["pooling"] = self.pooling
        if self.bundle is not None:
            stored = self.bundle.input.to_json() | {"output": self.bundle.output}
            chosen = {name: fact for name, fact in chosen.items() if fact != stored.get(name)}
        suffix = f" {json.dumps(chosen, sort_keys=True)}" if chosen else ""
        return f"sha256:{self._digest}{suffix}"


def _found(
    model: str | Path, variant: str | None, text_folder: Path | None
) -> tuple[Path, ModelFolder | None]:
    """Return the graph that reads images, and the folder if one was given."""
    path = resolve(model)
    if path.is_dir():
        folder = read_folder(path, variant=variant, text_folder=text_folder)
        return folder.graph, folder
    if variant is not None or text_folder is not None:
        option = "variant" if variant is not None else "text_model"
        raise ModelError(f"{path}: {option}: expected it with the folder of a model, found a file")
    return path, None


def images_of(folder: ModelFolder, output: str | None) -> bytes | None:
    """Return the tower for images alone, where the graph holds both."""
    if not folder.combined:
        return None
    graph = folder.graph.read_bytes()
    _, outputs = inputs_and_outputs(graph)
    wanted = [name for name in ([output] if output else folder.outputs) if name in outputs]
    if not wanted:
        raise ModelError(
            f"{folder.graph}: expected an output for images among {', '.join(folder.outputs)}, "
            f"found {', '.join(outputs)}; choose one by output="
        )
    part = cut_out(graph, wanted[:1])
    needed = inputs_and_outputs(part)[0]
    if needed != ["pixel_values"]:
        raise ModelError(
            f"{folder.graph}: expected output {wanted[0]!r} to depend on images alone, found that "
            f"it needs {', '.join(needed)}; export the two towers as graphs of their own "
            f"(vision_model.onnx and text_model.onnx)"
        )
    return part


def _preprocess(
    path: Path,
    bundle: Bundle | None,
    folder: ModelFolder | None,
    given: Preprocess | Mapping[str, Any] | None,
) -> Preprocess:
    if isinstance(given, Preprocess):
        return given
    if given is not None:
        return Preprocess.from_json(given)
    if folder is not None and folder.preprocess is not None:
        return folder.preprocess
    if bundle is None and folder is not None:
        raise ModelError(
            f"{folder.path}: expected a file that says how images are prepared "
            f"(preprocessor_config.json, preprocess_cfg.json, open_clip_config.json or a "
            f"config.json of timm), found none; download it beside the model, or give preprocess="
        )
    if bundle is None:
        raise ModelError(
            f"{path}: expected facts about its input under the metadata key {bundles.KEY!r}, "
            f"found none; give them, for example preprocess={{'size': 224, 'resize': 'crop', "
            f"'scaling': {{'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375]}}}}"
        )
    return bundle.input


def _shown(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in shape)})"
