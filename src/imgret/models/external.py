"""Weights that an ONNX file keeps in other files.

A tensor whose ``data_location`` is ``EXTERNAL`` names, in ``external_data``, a file beside the
model (``location``), and the position of the numbers in it. `torch.onnx.export` writes such files
by default. They are as much a part of the model as the ``.onnx`` file is. Field numbers are those
of onnx.proto3 of the ONNX project.
"""

from __future__ import annotations

from pathlib import Path

from imgret.errors import ModelError
from imgret.models import protobuf

__all__ = ["external_data", "is_large", "locations", "weight_files"]

# For each kind of message, the numbers of the fields that may contain tensors, and the kinds of
# message in them.
_HOLDERS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_KEY, _VALUE = 1, 2
_LARGE = 2**26


def locations(model: bytes | memoryview) -> list[str]:
    """Return the names of the files in which a model keeps weights, each once, sorted.

    Parameters
    ----------
    model : bytes
        Contents of an ``.onnx`` file.

    Raises
    ------
    ValueError
        The bytes are not a model.
    """
    found: set[str] = set()
    if b"location" not in bytes(model):  # the key of every such tensor; most models have none
        return []
    waiting = [("model", memoryview(model))]
    while waiting:
        kind, message = waiting.pop()
        if kind == "tensor":
            if "location" in (where := external_data(message)):
                found.add(where["location"])
            continue
        holders = _HOLDERS[kind]
        waiting += [
            (holders[field.number], field.value)
            for field in protobuf.fields(message)
            if field.number in holders and field.value is not None
        ]
    return sorted(found)


def is_large(path: Path) -> bool:
    """Whether a model, with the files in which it keeps weights, has 64 MiB or more.

    Raises
    ------
    ModelError
        As for `weight_files`.
    """
    own = path.stat().st_size
    if own >= _LARGE:
        return True
    files = weight_files(path, path.read_bytes()).values()
    return own + sum(file.stat().st_size for file in files) >= _LARGE


def weight_files(path: Path, model: bytes | memoryview) -> dict[str, Path]:
    """Return the files in which a model keeps weights, by the names that it gives them.

    Parameters
    ----------
    path : Path
        Path of the model.
    model : bytes
        Contents of that file.

    Raises
    ------
    ModelError
        A file with weights is missing, or the model file is damaged.
    """
    try:
        names = locations(model)
    except ValueError as error:
        raise ModelError(f"{path}: expected an ONNX file, found damaged or other data") from error
    files = {name: path.parent / name for name in names}
    for name, file in files.items():
        if not file.is_file():
            raise ModelError(
                f"{path}: expected its weights in a second file, {file}, found none there; put it "
                f"beside the model as {name!r}, or export the model with its weights inside"
            )
    return files


def external_data(tensor: memoryview) -> dict[str, str]:
    """Return where a tensor's numbers are in another file; empty if they are not in one.

    Returns
    -------
    dict of str to str
        ``location``, and ``offset`` and ``length`` in bytes if they are given.
    """
    external, found = False, {}
    for field in protobuf.fields(tensor):
        if field.number == _DATA_LOCATION:
            external = field.integer == _EXTERNAL
        elif field.number == _EXTERNAL_DATA and field.value is not None:
            pair = {
                entry.number: bytes(entry.value).decode("utf-8", "surrogateescape")
                for entry in protobuf.fields(field.value)
                if entry.value is not None
            }
            found[pair.get(_KEY, "")] = pair.get(_VALUE, "")
    return found if external else {}
