"""Weights that an ONNX file keeps in other files.

A tensor whose ``data_location`` is ``EXTERNAL`` names, in ``external_data``, a file beside the
model (``location``), and the position of the numbers in it. `torch.onnx.export` writes such files
by default. They are as much a part of the model as the ``.onnx`` file is. Field numbers are those
of onnx.proto3 of the ONNX project.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from imgret.errors import ModelError
from imgret.models import protobuf

__all__ = ["external_data", "inlined", "is_large", "locations", "read_weights", "weight_files"]

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
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 9, 13, 14, 1
_KEY, _VALUE = 1, 2
_LARGE = 2**26
_MOST_MESSAGES = 300_000  # graphs, nodes and tensors; networks have some thousand


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
    waiting, seen = [("model", memoryview(model))], 0
    while waiting:
        kind, message = waiting.pop()
        seen += 1
        if seen > _MOST_MESSAGES:
            raise ValueError(f"more than {_MOST_MESSAGES:,} messages")
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
        A file with weights is missing or outside the model's folder, or the model file is damaged.
    """
    try:
        names = locations(model)
    except ValueError as error:
        raise ModelError(f"{path}: expected an ONNX file, found damaged or other data") from error
    files = {name: path.parent / name for name in names}
    for name, file in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ModelError(
                f"{path}: expected its weights in files of its own folder, found {name!r}; a model "
                f"may not read other files"
            )
        if not file.is_file():
            raise ModelError(
                f"{path}: expected its weights in a second file, {file}, found none there; put it "
                f"beside the model as {name!r}, or export the model with its weights inside"
            )
    return files


def inlined(path: Path, model: bytes | memoryview) -> bytes:
    """Return a model with all its weights inside; at most 2 GB, the limit of Protocol Buffers.

    Parameters
    ----------
    path : Path
        Path of the model.
    model : bytes
        Contents of that file.

    Raises
    ------
    ModelError
        A file with weights is missing or too short.
    """
    files = weight_files(path, model)

    def tensor(message: memoryview) -> bytes:
        where = external_data(message)
        if "location" not in where:
            return bytes(message)
        weights = read_weights(files[where["location"]], where)
        kept = [
            bytes(field.raw)
            for field in protobuf.fields(message)
            if field.number not in {_EXTERNAL_DATA, _DATA_LOCATION}
        ]
        return b"".join(kept) + protobuf.encode(_RAW_DATA, weights)

    def rebuilt(kind: str, message: memoryview) -> bytes:
        if kind == "tensor":
            return tensor(message)
        inside = _HOLDERS[kind]
        return b"".join(
            bytes(field.raw)
            if field.value is None or field.number not in inside
            else protobuf.encode(field.number, rebuilt(inside[field.number], field.value))
            for field in protobuf.fields(message)
        )

    return rebuilt("model", memoryview(model))


def read_weights(file: Path, where: dict[str, str], size: int | None = None) -> bytes:
    """Return the numbers of a tensor from another file.

    Parameters
    ----------
    file : Path
    where : dict of str to str
        As `external_data` returns it.
    size : int, optional
        Size in bytes, if ``where`` has no length; by default all bytes from the offset on.

    Raises
    ------
    ModelError
        The file is too short.
    """
    offset = int(where.get("offset", 0))
    wanted = int(where["length"]) if "length" in where else size
    with file.open("rb") as opened:
        opened.seek(offset)
        weights = opened.read(-1 if wanted is None else wanted)
    if wanted is not None and len(weights) < wanted:
        raise ModelError(
            f"{file}: expected {wanted} bytes at {offset}, found {len(weights)}; the file is cut "
            f"off"
        )
    return weights


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
