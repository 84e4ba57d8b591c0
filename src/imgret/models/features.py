"""The feature map behind a pooled embedding, and the contribution of each place in it.

If an embedding is a linear map of the mean over a feature map, it is the mean of the contributions
of the single places, so each place's share of it is exact. This is the mathematics of class
activation maps (B. Zhou et al., "Learning Deep Features for Discriminative Localization",
2016), with the embedding itself in place of a class. A power of the pooled channels in between, as
in ``general``, is handled by its derivative (R. Selvaraju et al., "Grad-CAM", 2017).

`FeatureModel.contributions` goes forward instead, and is exact also with a power: each channel of
the pooled map is divided among the places by what they add to it, and every later step is applied
to the parts. For a power of non-negative channels this is the integral of the gradient from an
empty map to the whole one (M. Sundararajan, A. Taly and Q. Yan, "Axiomatic Attribution for Deep
Networks", 2017).

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
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import ModelError
from imgret.models import protobuf
from imgret.models.external import external_data, read_weights
from imgret.models.model import Model
from imgret.models.session import Session
from imgret.types import Image

__all__ = ["Contributions", "FeatureModel"]

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


@dataclass(frozen=True, slots=True)
class _LessMean:
    """Subtraction of a share of the mean of a vector from each of its numbers."""

    share: float


_Step: TypeAlias = _Linear | _Shift | _Power | _LessMean


# Largest difference between an embedding and the sum of its parts, as a share of its length.
_EXACT = 1e-3
# Most tokens of a transformer that stand for no place: one for the class, and registers.
_MOST_EXTRA = 16


class Contributions(NamedTuple):
    """What each place of an image adds to its embedding; all parts together are the embedding.

    Attributes
    ----------
    places : float32 array of shape (h, w, dim)
        Contributions in the shape of the feature map, rows from the top.
    rest : float32 array of shape (dim,)
        Contribution of constants, and of tokens that stand for no place.
    """

    places: _Array
    rest: _Array


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
        self._steps: list[_Step] = []
        if model.pooling != "none":
            self._pool_outside(model)
            return
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

    def _pool_outside(self, model: Model) -> None:
        """Use the output itself, which is pooled by us, not by the graph."""
        if model.pooling != "mean":
            raise ModelError(
                f"{model.path}: expected an embedding that is the mean of a feature map, found "
                f"pooling {model.pooling!r}"
            )
        self._tensor, self._session = model.output, model.session

    def contributions(self, image: Image) -> Contributions:
        """Return how much each place adds to the embedding of an image.

        Parameters
        ----------
        image : uint8 array of shape (H, W, 3)
            RGB.

        Returns
        -------
        Contributions
            Checked: their sum is the embedding, up to 1/1000 of its length.

        Raises
        ------
        ModelError
            They do not add up to the embedding: the network does more after the pooling.
        """
        whole = self._model.run([image]).reshape(-1)
        features = self._session.run(self._model.preprocess.prepare([image]), self._tensor)[0]
        if features.ndim == 3:
            shape = features.shape[1:]
            parts = features.reshape(features.shape[0], -1).T
        elif features.ndim == 2:  # tokens, those of no place first
            side = math.isqrt(len(features))
            shape = (side, side)
            parts = features
        else:
            raise ModelError(
                f"{self._model.path}: expected a feature map {self._tensor!r} of shape (n, "
                f"channels, h, w) or (n, tokens, channels), found {features.shape} for an image"
            )
        n = shape[0] * shape[1]
        if not 0 <= len(parts) - n <= _MOST_EXTRA:
            raise ModelError(
                f"{self._model.path}: expected tokens of a square of places, found {len(parts)}"
            )
        # The last row is for constants.
        parts = np.concatenate([parts / len(parts), np.zeros_like(parts[:1])])
        try:
            parts = _applied(parts, self._steps)
            total = parts.sum(axis=0)
            product = float(whole @ total)
        except ValueError as error:  # lengths that do not fit, as with channels last
            raise ModelError(
                f"{self._model.path}: expected a feature map {self._tensor!r} that is averaged "
                f"over its last two axes, or over tokens, found another pooling: {error}"
            ) from error
        # Steps such as a division by the length only change the scale.
        scale = product / max(float(total @ total), 1e-30)
        gap = float(np.linalg.norm(scale * total - whole)) / max(
            float(np.linalg.norm(whole)), 1e-30
        )
        if not gap <= _EXACT:
            raise ModelError(
                f"{self._model.path}: expected parts that add up to the embedding, found a "
                f"difference of {gap:.2g} of its length; the network does more after the pooling"
            )
        parts = parts * np.float32(scale)
        places = parts[len(parts) - 1 - n : -1].reshape(*shape, -1)
        rest = parts[: len(parts) - 1 - n].sum(axis=0) + parts[-1]
        return Contributions(places, rest)

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


def _applied(parts: _Array, steps: list[_Step]) -> _Array:
    """Return what the parts of pooled channels become; the last row takes the constants.

    Parameters
    ----------
    parts : float32 array of shape (n + 1, channels)
    steps : list of step

    Returns
    -------
    float32 array of shape (n + 1, dim)
        Parts whose sum is the result of the steps for the sum of the parts given.
    """
    for step in steps:
        if isinstance(step, _Linear):
            parts = parts @ step.weight
        elif isinstance(step, _Shift):
            parts = parts.copy()
            parts[-1] += step.by
        elif isinstance(step, _LessMean):
            parts = _less_mean(parts, step.share)
        else:
            whole = parts.sum(axis=0)
            magnitude = np.maximum(np.abs(whole), np.float32(1e-12))
            parts = parts * magnitude ** np.float32(step.exponent - 1)
    return parts


def _gain(pooled: _Array, steps: list[_Step]) -> _Array:
    """Return the gradient, in the pooled channels, of half the squared length of the embedding."""
    befores, x = [], pooled
    for step in steps:
        befores.append(x)
        if isinstance(step, _Linear):
            x = x @ step.weight
        elif isinstance(step, _Shift):
            x = x + step.by
        elif isinstance(step, _LessMean):
            x = _less_mean(x, step.share)
        else:
            x = np.sign(x) * np.abs(x) ** np.float32(step.exponent)
    slope = x
    for step, before in zip(reversed(steps), reversed(befores), strict=True):
        if isinstance(step, _Linear):
            slope = step.weight @ slope
        elif isinstance(step, _LessMean):
            slope = _less_mean(slope, step.share)
        elif isinstance(step, _Power):
            # A channel that is zero everywhere has no share, whatever the slope.
            magnitude = np.maximum(np.abs(before), np.float32(1e-6))
            slope = slope * (step.exponent * magnitude ** (step.exponent - 1)).astype(np.float32)
    return slope


def _less_mean(x: _Array, share: float) -> _Array:
    less: _Array = x - np.float32(share) * x.mean(axis=-1, keepdims=True)
    return less


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
        steps += _steps(node, makers, constants)
        name = node.inputs[0]


def _steps(node: _Node, makers: dict[str, _Node], constants: dict[str, _Array]) -> list[_Step]:
    """Return what a node after the pooling does to its first input, the last step first."""
    if node.op in {"Gemm", "MatMul"}:
        weight = constants.get(node.inputs[1])
        if weight is None or weight.ndim != 2:
            raise ValueError(f"expected constant weights in {node.op} before {node.outputs[0]!r}")
        steps: list[_Step] = [_Linear(weight.T if node.integers.get("transB") else weight)]
        if node.op == "Gemm" and len(node.inputs) > 2 and node.inputs[2] in constants:
            steps.insert(0, _Shift(constants[node.inputs[2]]))
        return steps
    if node.op in {"Add", "Sub"} and node.inputs[1] in constants:
        by = constants[node.inputs[1]].ravel()
        return [_Shift(by if node.op == "Add" else -by)]
    if node.op == "Pow" and node.inputs[1] in constants:
        return [_Power(float(constants[node.inputs[1]].ravel()[0]))]
    share = _share_of_mean(node, makers, constants)
    if share is not None:
        return [_LessMean(share)]
    if node.op in _PASSED:
        return []
    raise ValueError(
        f"expected an embedding that is a linear map of a pooled feature map, found {node.op} "
        f"between {node.outputs[0]!r} and the pooling"
    )


def _share_of_mean(
    node: _Node, makers: dict[str, _Node], constants: dict[str, _Array]
) -> float | None:
    """Return the share if the node computes ``x - share * mean(x)``, as `general` does."""
    product = makers.get(node.inputs[1]) if node.op == "Sub" else None
    if product is None or product.op != "Mul" or product.inputs[1] not in constants:
        return None
    mean = makers.get(product.inputs[0])
    if mean is None or mean.op != "ReduceMean" or mean.inputs[0] != node.inputs[0]:
        return None
    return float(constants[product.inputs[1]].ravel()[0])


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
        data = read_weights(folder / where["location"], where, 4 * math.prod(dims))
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
