"""Description of a model file, and writing of the facts into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgret.errors import ModelError
from imgret.models import bundle as bundles
from imgret.models import golden
from imgret.models.builtin import builtin_name, resolve
from imgret.models.bundle import Bundle, Golden, Kind
from imgret.models.external import inlined, weight_files
from imgret.models.folder import read_folder
from imgret.models.golden_check import check
from imgret.models.model import Model, images_of
from imgret.models.preprocess import Preprocess
from imgret.types import Json

__all__ = ["describe", "write_bundle"]

_IMAGE = "golden-1"
# Most bytes of one file: Protocol Buffers end at 2 GB.
_MOST = 2**31 - 2**20


def describe(model: str | os.PathLike[str]) -> Json:
    """Return the input, the outputs and the facts of a model file.

    Parameters
    ----------
    model : str or path-like
        Name of a built-in model, path of any ONNX file with one input, or folder of a model.

    Returns
    -------
    dict
        ``path``; ``fingerprint``, the sha256 of the file; ``input`` and ``outputs``, with name,
        dtype and shape (None along an axis of any length); ``bundle``, the facts without the
        golden check, or None if the file has none; ``providers``, those of this onnxruntime. For
        a folder also ``folder``, with its path, the kind of model, how images are prepared, and
        the graph for text or the reason why there is none.

    Raises
    ------
    ModelError
        The file cannot be read or run.
    UnknownNameError
        No built-in model has the name.
    """
    from imgret.models.session import Session, available_providers  # noqa: PLC0415  # onnxruntime

    path, graph = resolve(model), None
    folder = read_folder(path) if path.is_dir() else None
    if folder is not None:
        path, graph = folder.graph, images_of(folder, None)
    bundle = bundles.read(path)
    session = Session(path, graph=graph)
    facts = None if bundle is None else bundle.to_json()
    if facts is not None:
        del facts["golden"]
    of_folder: Json = {}
    if folder is not None:
        prepared = folder.preprocess
        of_folder["folder"] = {
            "path": str(folder.path),
            "kind": folder.kind or None,
            "input": None if prepared is None else prepared.to_json(),
            "text": None if folder.text is None else str(folder.text.graph),
            "no_text": folder.no_text or None,
        }
    return {
        "path": str(path),
        "fingerprint": f"sha256:{bundles.fingerprint(path)}",
        "input": session.input._asdict(),
        "outputs": [tensor._asdict() for tensor in session.outputs],
        "bundle": facts,
        "providers": available_providers(),
        **of_folder,
    }


def write_bundle(
    model: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    *,
    preprocess: Preprocess | Mapping[str, Any],
    kind: Kind = "embedder",
    threshold: float | None = None,
    calibrated: bool | None = None,
    name: str | None = None,
    version: str = "1",
    output: str | None = None,
    precision: str = "unknown",
    calibrated_on: str | None = None,
    training_data: str = "unknown",
    source: str = "unknown",
    licence: str = "NOASSERTION",
    notice: str = "",
) -> Bundle:
    """Write into a model's ONNX file how it is used, so that its path is enough to use it.

    The dimension, whether the vectors have length 1, and the output for a test image are found
    by running the model. The file is put in place only once it gives the same output as before.
    Weights that the model keeps in other files are put inside. If that would exceed 2 GB, the
    limit of an ONNX file, these files are copied beside the target instead.

    Parameters
    ----------
    model : path
        ONNX file with one input.
    target : path, optional
        File to write; by default the model's own.
    preprocess : Preprocess or mapping
        Preprocessing that the network expects.
    kind : {"embedder", "saliency"}
        Kind of the model.
    threshold : float, optional
        Saliency models only: minimum value of the subject, from 0 to 1.
    calibrated : bool, optional
        Saliency models only: whether the maps already run from 0 to 1; by default each one is
        scaled so that its extremes are 0 and 1.
    name : str, optional
        Short name; by default the target's file name without its suffix.
    version, precision, calibrated_on, training_data, source, licence, notice : str
        Facts described in `imgret.models.bundle`. The licence is an SPDX expression.
    output : str, optional
        Name of the output that is the embedding or map; needed if there are several.

    Returns
    -------
    Bundle
        The facts that were written.

    Raises
    ------
    ModelError
        The file cannot be used as asked, or has no output of shape (n, dim).
    InvalidInputError
        ``preprocess`` is invalid.
    """
    path = Path(model)
    target = path if target is None else Path(target)
    if builtin_name(target) is not None:
        raise ModelError(f"{target}: expected a file of your own, found a built-in model")
    if path.is_dir():
        files = ", ".join(sorted(str(file.relative_to(path)) for file in path.rglob("*.onnx")))
        raise ModelError(
            f"{path}: expected an ONNX file, found a folder, with {files or 'no ONNX file'}; give "
            f"one of its files, or use the folder as it is (embedder={str(path)!r})"
        )
    network = Model(path, kind=kind, preprocess=preprocess, output=output)
    image = golden.draw(_IMAGE, network.preprocess.min_side)
    answer = network.run([image])
    is_map = answer.ndim == 3 or (answer.ndim == 4 and answer.shape[1] == 1)
    if len(answer) != 1 or not (
        is_map if kind == "saliency" else answer.ndim > 1 and answer.size == answer.shape[1]
    ):
        wanted = "(n, h, w) or (n, 1, h, w)" if kind == "saliency" else "(n, dim)"
        raise ModelError(
            f"{path}: expected output {network.output!r} of shape {wanted}, found {answer.shape} "
            f"for one image; choose another with output=, or pool in the graph"
        )
    answer = answer.ravel()
    if not np.abs(answer).max() < np.finfo(np.float16).max:  # NaN as well
        raise ModelError(
            f"{path}: expected finite numbers below 65504 for the test image, found "
            f"larger ones or NaN; is the scaling in preprocess= right?"
        )
    mirrored = network.run([np.ascontiguousarray(image[:, ::-1])]).ravel()
    embeds = kind == "embedder"
    unit = bool(np.allclose([answer @ answer, mirrored @ mirrored], 1, atol=1e-3))
    bundle = Bundle(
        kind=kind,
        name=target.stem if name is None else name,
        version=version,
        input=network.preprocess,
        output=network.output,
        dim=answer.size if embeds else None,
        normalized=unit if embeds else None,
        threshold=threshold,
        calibrated=calibrated,
        precision=precision,
        calibrated_on=calibrated_on,
        training_data=training_data,
        source=source,
        licence=licence,
        notice=notice,
        golden=Golden(_IMAGE, 0.99, answer),
    )
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".bundle-") as folder:
            made = Path(folder) / target.name
            beside = _copy(path, made)
            bundles.write(made, bundle)
            _require_same(made, path)
            for file in beside:
                (target.parent / file.relative_to(folder)).parent.mkdir(exist_ok=True, parents=True)
                file.replace(target.parent / file.relative_to(folder))
            made.replace(target)
    except OSError as error:
        raise ModelError(f"{target}: cannot be written: {error}") from error
    return bundle


def _copy(path: Path, made: Path) -> list[Path]:
    """Copy a model with its weights inside; return the files beside it if they are too large."""
    data = path.read_bytes()
    files = weight_files(path, data)
    if not files:
        shutil.copyfile(path, made)
        return []
    if len(data) + sum(file.stat().st_size for file in files.values()) <= _MOST:
        made.write_bytes(inlined(path, data))
        return []
    shutil.copyfile(path, made)
    beside = []
    for name, file in files.items():
        copy = made.parent / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        beside.append(copy)
    return beside


def _require_same(made: Path, path: Path) -> None:
    try:
        result = check(made)
    except ModelError as error:
        raise ModelError(
            f"{path}: expected a file that runs on its own, found that a copy of it does not: "
            f"{error}"
        ) from error
    if not result.ok:
        raise ModelError(
            f"{path}: expected the same answer twice, found a cosine of {result.cosine:.4f}"
        )
