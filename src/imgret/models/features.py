"""The feature map behind a pooled embedding, and the contribution of each place in it.

If an embedding is a linear map of the mean over a feature map, it is the mean of the contributions
of the single places, so each place's share of it is exact. This is the mathematics of class
activation maps (B. Zhou et al., "Learning Deep Features for Discriminative Localization",
2016), with the embedding itself in place of a class. A power of the pooled channels in between, as
in ``general``, is handled by its derivative (R. Selvaraju et al., "Grad-CAM", 2017).

A model file needs no extra facts for this. The graph is followed back from the embedding to the
pooling in the bytes of the file (field numbers as in onnx.proto3 of the ONNX project), and a second
session also returns the map. This works for every file that pools, including older ones, and costs
nothing if it is not used.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import ModelError
from imgret.models import protobuf
from imgret.models.external import external_data
from imgret.models.model import Model
from imgret.models.session import Session
from imgret.types import Image

__all__ = ["FeatureModel"]

_Array: TypeAlias = NDArray[np.float32]

# Fields of onnx.ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto.
_GRAPH = 7
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12
_FROM, _TO, _OP, _ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER = 1, 3
_DIMS, _DATA_TYPE, _FLOATS, _TENSOR_NAME, _RAW = 1, 2, 4, 8, 9
_FLOAT = 1

_POOLING = {"GlobalAveragePool", "ReduceMean"}
# Operators that do not change the direction of the vector, or its numbers.
_PASSED = {
    "Cast",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Flatten",
    "Identity",
    "LpNormalization",
    "QuantizeLinear",
    "Reshape",
    "Squeeze",
}


@dataclass(frozen=True, slots=True)
class _Node:
    op: str
    inputs: list[str]
    outputs: list[str]
    integers: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Linear:
    """Multiplication by a matrix of shape (length before, length after)."""

    weight: _Array


@dataclass(frozen=True, slots=True)
class _Shift:
    by: _Array


@dataclass(frozen=True, slots=True)
class _Power:
    exponent: float


_Step: TypeAlias = _Linear | _Shift | _Power


@final
class FeatureModel:
    """An embedder that reports how much each place of an image adds to the embedding.

    Parameters
    ----------
    model : Model
        Model of kind ``"embedder"``.

    Raises
    ------
    ModelError
        Its embedding is not a linear map, or power, of the mean over a feature map.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        try:
            tensor, self._steps = _follow(model.path, model.output)
            data = _with_output(model.path.read_bytes(), tensor)
        except (KeyError, OSError, ValueError, struct.error) as error:
            raise ModelError(f"{model.path}: {error}") from error
        self._tensor = tensor
        self._session = Session(
            model.path,
            providers=model.session.providers,
            guard_int8=model.bundle is None,
            graph=data,
        )

    def shares(self, image: Image) -> _Array:
        """Return how much each place adds to the squared length of an image's embedding.

        Parameters
        ----------
        image : uint8 array of shape (H, W, 3)
            RGB.

        Returns
        -------
        float32 array of shape (h, w)
            Shares, in the shape of the feature map; negative where a place works against the
            whole. With only linear steps, their mean is the squared length before it is scaled to
            1, except for what constants add.
        """
        features = self._session.run(self._model.preprocess.prepare([image]), self._tensor)
        if features.ndim != 4:
            raise ModelError(
                f"{self._model.path}: expected a feature map {self._tensor!r} of shape (n, "
                f"channels, h, w), found {features.shape}"
            )
        channels = features[0].reshape(features.shape[1], -1)
        gain = _gain(channels.mean(axis=1), self._steps)
        shares: _Array = (gain @ channels).reshape(features.shape[2:])
        return shares


def _gain(pooled: _Array, steps: list[_Step]) -> _Array:
    """Return the gradient, in the pooled channels, of half the squared length of the embedding."""
    befores, x = [], pooled
    for step in steps:
        befores.append(x)
        if isinstance(step, _Linear):
            x = x @ step.weight
        elif isinstance(step, _Shift):
            x = x + step.by
        else:
            x = np.sign(x) * np.abs(x) ** np.float32(step.exponent)
    slope = x
    for step, before in zip(reversed(steps), reversed(befores), strict=True):
        if isinstance(step, _Linear):
            slope = step.weight @ slope
        elif isinstance(step, _Power):
            # A channel that is zero everywhere has no share, whatever the slope.
            magnitude = np.maximum(np.abs(before), np.float32(1e-6))
            slope = slope * (step.exponent * magnitude ** (step.exponent - 1)).astype(np.float32)
    return slope


def _follow(path: Path, output: str) -> tuple[str, list[_Step]]:
    """Follow the embedding back to the pooling; return the map's name, and the steps after it."""
    nodes, constants = _parts(path)
    makers = {name: node for node in nodes for name in node.outputs}
    steps: list[_Step] = []
    name = output
    while True:
        if name not in makers:
            raise ValueError(
                f"expected an embedding that is pooled from a feature map, found no pooling "
                f"between {output!r} and {name!r}"
            )
        node = makers[name]
        if node.op in _POOLING:
            return node.inputs[0], steps[::-1]
        if node.op in {"Gemm", "MatMul"}:
            weight = constants.get(node.inputs[1])
            if weight is None or weight.ndim != 2:
                raise ValueError(f"expected constant weights in {node.op} before {name!r}")
            if node.op == "Gemm" and len(node.inputs) > 2 and node.inputs[2] in constants:
                steps.append(_Shift(constants[node.inputs[2]]))
            steps.append(_Linear(weight.T if node.integers.get("transB") else weight))
        elif node.op in {"Add", "Sub"} and node.inputs[1] in constants:
            by = constants[node.inputs[1]].ravel()
            steps.append(_Shift(by if node.op == "Add" else -by))
        elif node.op == "Pow" and node.inputs[1] in constants:
            steps.append(_Power(float(constants[node.inputs[1]].ravel()[0])))
        elif node.op not in _PASSED:
            raise ValueError(
                f"expected an embedding that is a linear map of a pooled feature map, found "
                f"{node.op} between {name!r} and the pooling"
            )
        name = node.inputs[0]


def _parts(path: Path) -> tuple[list[_Node], dict[str, _Array]]:
    """Return the nodes of a graph, and its constants that are float32."""
    nodes: list[_Node] = []
    constants: dict[str, _Array] = {}
    for part in protobuf.fields(memoryview(path.read_bytes())):
        if part.number != _GRAPH or part.value is None:
            continue
        for field in protobuf.fields(part.value):
            if field.value is None:
                continue
            if field.number == _NODE:
                nodes.append(_node(field.value))
            elif field.number == _INITIALIZER:
                name, array = _tensor(field.value, path.parent)
                if array is not None:
                    constants[name] = array
    return nodes, constants


def _node(message: memoryview) -> _Node:
    inputs, outputs, op, integers = [], [], "", {}
    for field in protobuf.fields(message):
        if field.value is None:
            continue
        if field.number == _FROM:
            inputs.append(bytes(field.value).decode())
        elif field.number == _TO:
            outputs.append(bytes(field.value).decode())
        elif field.number == _OP:
            op = bytes(field.value).decode()
        elif field.number == _ATTRIBUTE:
            given = list(protobuf.fields(field.value))
            named = (f.value for f in given if f.number == _ATTRIBUTE_NAME)
            name = next(bytes(value).decode() for value in named if value is not None)
            for value in given:
                if value.number == _ATTRIBUTE_INTEGER and value.integer is not None:
                    integers[name] = value.integer
    return _Node(op, inputs, outputs, integers)


def _tensor(message: memoryview, folder: Path) -> tuple[str, _Array | None]:
    dims: list[int] = []
    name, kind = "", 0
    data: Any = None
    for field in protobuf.fields(message):
        if field.number == _DIMS:
            dims += [field.integer] if field.integer is not None else []
            dims += protobuf.integers(field.value) if field.value is not None else []
        elif field.number == _DATA_TYPE:
            kind = field.integer or 0
        elif field.number == _TENSOR_NAME and field.value is not None:
            name = bytes(field.value).decode()
        elif field.number in {_RAW, _FLOATS} and field.value is not None:
            data = field.value
    if kind == _FLOAT and (where := external_data(message)):
        with (folder / where["location"]).open("rb") as file:
            file.seek(int(where.get("offset", 0)))
            data = file.read(int(where["length"]) if "length" in where else 4 * math.prod(dims))
    if kind != _FLOAT or data is None:
        return name, None
    return name, np.frombuffer(data, dtype="<f4").reshape(dims)


def _with_output(data: bytes, tensor: str) -> bytes:
    """Return a model that also outputs one of its float tensors."""
    kind = protobuf.encode(1, protobuf.encode_integer(1, _FLOAT))  # TypeProto.Tensor.elem_type
    output = protobuf.encode(1, tensor.encode()) + protobuf.encode(2, kind)
    made = []
    for part in protobuf.fields(memoryview(data)):
        if part.number == _GRAPH and part.value is not None:
            made.append(
                protobuf.encode(_GRAPH, bytes(part.value) + protobuf.encode(_OUTPUT, output))
            )
        else:
            made.append(bytes(part.raw))
    return b"".join(made)
