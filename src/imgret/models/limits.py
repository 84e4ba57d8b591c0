"""What a model file may hold, looked at before onnxruntime reads it.

onnxruntime takes some 450 bytes of memory for an empty message, which takes two in the file, and
makes a whole array of a sparse one. Field numbers are those of onnx.proto3 of the ONNX project.
"""

from __future__ import annotations

import math
from mmap import ACCESS_READ, mmap
from pathlib import Path

from imgret.errors import ModelError
from imgret.models import protobuf

__all__ = ["check_limits"]

# For each kind of message, the kinds of message in its fields.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "entry", 14: "entry", 20: "training", 25: "function", 26: "entry"},
    "training": {1: "graph", 2: "graph", 3: "entry", 4: "entry"},
    "graph": {
        1: "node",
        5: "tensor",
        11: "value",
        12: "value",
        13: "value",
        14: "annotation",
        15: "sparse",
        16: "entry",
    },
    "function": {7: "node", 9: "entry", 11: "attribute", 12: "value", 14: "entry"},
    "node": {5: "attribute", 9: "entry", 10: "annotation"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        14: "type",
        15: "type",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {3: "entry", 13: "entry", 16: "entry"},
    "value": {2: "type", 4: "entry"},
    "type": {1: "array", 4: "sequence", 5: "map", 8: "array", 9: "sequence"},
    "sequence": {1: "type"},
    "map": {2: "type"},
    "array": {2: "shape"},
    "shape": {1: "entry"},
    "annotation": {2: "entry"},
    "entry": {},
}
_SPARSE_DIMS = 3
_MOST_FIELDS = 1_000_000  # networks for images have some ten thousand
_MOST_VALUES = 2**28  # of a sparse array


def check_limits(path: Path, graph: bytes | None = None) -> None:
    """Raise an error if a model would take far more memory than its file has, before it runs.

    Parameters
    ----------
    path : Path
    graph : bytes, optional
        Contents to look at instead of those of the file.

    Raises
    ------
    ModelError
        It has too many parts, a sparse array is too large, or it is no ONNX file.
    """
    try:
        if graph is not None:
            _check(memoryview(graph))
        elif path.stat().st_size:
            with path.open("rb") as file:  # an error keeps parts of it mapped for a moment
                _check(memoryview(mmap(file.fileno(), 0, access=ACCESS_READ)))
    except ValueError as error:
        raise ModelError(
            f"{path}: imgret cannot load it: expected an ONNX file of a network, found {error}"
        ) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check(model: memoryview) -> None:
    waiting, count = [("model", model)], 0
    while waiting:
        kind, message = waiting.pop()
        inside, values = _INSIDE[kind], 1
        for field in protobuf.fields(message):
            count += 1
            if field.value is not None and field.number in inside:
                waiting.append((inside[field.number], field.value))
            elif kind == "sparse" and field.number == _SPARSE_DIMS:
                packed = [] if field.value is None else protobuf.integers(field.value)
                values *= math.prod(packed if field.integer is None else [field.integer])
        if count > _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS:,} fields")
        if values > _MOST_VALUES:
            raise ValueError(f"a sparse array of {values:,} values")
