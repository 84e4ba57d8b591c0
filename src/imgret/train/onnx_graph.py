"""Export of a trained network to ONNX in 32 and 8 bits, with a check of the outputs."""

from __future__ import annotations

import imgret.models.session  # noqa: F401  # first: it switches off onnxruntime's telemetry

# isort: split
import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import Tensor, nn

from imgret.errors import ModelError, TrainingError
from imgret.models import Preprocess, Scaling
from imgret.models.session import Session
from imgret.train.data import unscaled
from imgret.train.networks import EmbeddingNetwork, fold
from imgret.train.networks.saliency import Saliency, SaliencyNetwork
from imgret.train.parity import cosines
from imgret.types import Image

__all__ = [
    "EMBEDDING",
    "MAP",
    "agree",
    "as_stored",
    "count_weights",
    "finished",
    "finished_map",
    "foreign_to_onnx",
    "quantised",
    "to_onnx",
    "with_pixels",
]

# Versions that onnxruntime 1.20, the oldest supported release, can read.
_OPSET, _IR = 18, 10
_PIXELS, _IMAGE = "pixels", "image"
# Names that no value inside a network has, so that the exporter does not give one name twice.
_TRACED_INPUT, _TRACED_OUTPUT = "imgret_input", "imgret_output"
EMBEDDING, MAP = "embedding", "saliency"
# Values between the input and the scaled pixels.
_FRONT = ("planes", "levels", "centred", "pixel_mean", "pixel_std")
_GRAPHS = {EMBEDDING: "embedder", MAP: "saliency"}
_QUANTISED = ("Conv", "Clip", "Relu", "Add", "MaxPool")
_QUANTISED_PRODUCTS = ("Conv", "MatMul", "Gemm")
_TOLERANCE = 1e-4
# Pixels by which a second size differs, and the least cosine there.
_OTHER_SIZE, _SAME = 32, 0.999


class _Normalized(nn.Module):
    """The network with embeddings of length 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return nn.functional.normalize(self.network(pixels), dim=1)


def finished(network: EmbeddingNetwork, *, normalize: bool) -> nn.Module:
    """Return a copy for inference: batch normalisation folded, float32, on the CPU."""
    network = copy.deepcopy(network).cpu().eval()
    network.use_bfloat16 = False
    fold(network)
    _not_in_place(network)
    return _Normalized(network).eval() if normalize else network


def finished_map(network: SaliencyNetwork) -> nn.Module:
    """Return a copy for inference: batch normalisation folded, on the CPU, maps from 0 to 1."""
    network = copy.deepcopy(network).cpu().eval()
    fold(network)
    _not_in_place(network)
    return Saliency(network).eval()


def _not_in_place(network: nn.Module) -> None:
    """Let activations return new tensors: torch traces those that change one four times slower."""
    for module in network.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6 | nn.Hardtanh | nn.SiLU | nn.Hardswish):
            module.inplace = False


def to_onnx(
    network: nn.Module, output: str = EMBEDDING, *, side: int = 64, any_size: bool = True
) -> onnx.ModelProto:
    """Return the graph from scaled pixels, float32 (N, 3, H, W), to the network's output.

    Parameters
    ----------
    network : nn.Module
    output : str
        Name of the output.
    side : int
        Side of the images that the network is traced with, in pixels.
    any_size : bool
        Whether the graph takes images of any size; otherwise only of ``side``.
    """
    any_length = torch.export.Dim.DYNAMIC
    lengths = {0: any_length} | ({2: any_length, 3: any_length} if any_size else {})
    with _quiet():
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, side, side),),
            dynamo=True,
            opset_version=_OPSET,
            input_names=[_TRACED_INPUT],
            output_names=[_TRACED_OUTPUT],
            dynamic_shapes=(lengths,),
            verbose=False,
        )
    assert program is not None  # noqa: S101  # only None if a path is given
    made = program.model_proto
    _rename(made.graph, output)
    given = made.graph.output[0].type.tensor_type.shape.dim
    shape = ["N", *(d.dim_value or f"axis{n}" for n, d in enumerate(given[1:], 1))]
    return _model(
        made.graph.node, made.graph.initializer, output, shape, side=None if any_size else side
    )


def foreign_to_onnx(
    network: nn.Module, name: str, *, side: int, any_size: bool
) -> tuple[onnx.ModelProto, bool]:
    """Return the graph of a network that others have written, and whether it takes any size.

    Parameters
    ----------
    network : nn.Module
        Network from scaled pixels to embeddings.
    name : str
        Name for the message.
    side : int
        Side of the images in pixels.
    any_size : bool
        Whether to try a graph for images of any size first.

    Raises
    ------
    ModelError
        torch cannot export the network.
    """
    if any_size:
        with contextlib.suppress(Exception):  # for example if a size is fixed inside
            model = to_onnx(network, side=side)
            if _same_at(model, network, side + _OTHER_SIZE):
                return model, True
    try:
        return to_onnx(network, side=side, any_size=False), False
    except Exception as error:  # torch, onnxscript and the network have exceptions of their own
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise ModelError(
            f"{name}: expected a network that torch {torch.__version__} exports to ONNX, found "
            f"{type(error).__name__}: {reason.strip()}; torch.onnx.export(..., dynamo=True, "
            f"report=True) tells which operation it is"
        ) from error


def _same_at(model: onnx.ModelProto, network: nn.Module, side: int) -> bool:
    """Whether a graph and its network agree on noise of a size other than that of the trace."""
    pixels = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels)).numpy()
    found = Session(Path(), graph=model.SerializeToString()).run(pixels, EMBEDDING)
    return bool(expected.shape == found.shape and cosines(expected, found).min() >= _SAME)


def count_weights(model: onnx.ModelProto) -> int:
    """Return the number of floating-point constants in a graph."""
    return sum(
        int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    )


def as_stored(preprocess: Preprocess) -> Preprocess:
    """Return the preprocessing of the stored graph, which does scaling by constants itself."""
    if not isinstance(preprocess.scaling, Scaling):
        return preprocess
    return unscaled(preprocess)


def with_pixels(model: onnx.ModelProto, scaling: Any) -> onnx.ModelProto:
    """Prepend an input of uint8 (N, H, W, 3) and the scaling, if it is by constants."""
    if not isinstance(scaling, Scaling):
        return model
    front = [
        helper.make_node("Transpose", [_IMAGE], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["levels"], "levels", to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["levels", "pixel_mean"], ["centred"], "centred"),
        helper.make_node("Div", ["centred", "pixel_std"], [_PIXELS], _PIXELS),
    ]
    constants = [
        numpy_helper.from_array(np.array(values, np.float32).reshape(3, 1, 1), name)
        for name, values in (("pixel_mean", scaling.mean), ("pixel_std", scaling.std))
    ]
    return _model(
        [*front, *model.graph.node],
        [*constants, *model.graph.initializer],
        *_output(model),
        takes_image=True,
        side=_side(model),
    )


def quantised(
    model: onnx.ModelProto, preprocess: Preprocess, photos: Sequence[Image]
) -> onnx.ModelProto:
    """Return the network quantised statically to 8 bits, with quantise-dequantise pairs.

    Weights are signed, with a scale per output channel. Activations are unsigned, with ranges
    measured on the photos. The mean over the image and everything after it stay in float. Weights
    use only 7 bits: with 8, the AVX2 and AVX-512 kernels of processors without VNNI saturate when
    they add two products, which changes the embedding.

    Of a network with most weights in matrix products, such as a transformer, these products are
    quantised as well, except for the last one, and sums are not: the sums of a transformer have
    outliers that 8 bits cannot tell from the rest. Ranges are not measured per batch, which would
    be more precise but would let an embedding depend on the images beside it.

    Parameters
    ----------
    model : onnx.ModelProto
        Model from `to_onnx`.
    preprocess : Preprocess
        Preprocessing with the scaling used in training.
    photos : sequence of uint8 arrays of shape (H, W, 3)
        Images to measure the ranges on.
    """
    scaling = preprocess.scaling
    # With one mean and one std for all channels, quantising the 8-bit pixels is exact.
    exact = False
    options: dict[str, Any] = {}
    if (
        isinstance(scaling, Scaling)
        and len({*scaling.mean}) == len({*scaling.std}) == 1
        and scaling.mean[0] in range(256)  # a level
        and [node.op_type for node in model.graph.node if _PIXELS in node.input] == ["Conv"]
    ):
        exact = True
        step = {
            "scale": np.array(1 / scaling.std[0], np.float32),
            "zero_point": np.array(scaling.mean[0], np.uint8),
        }
        options["TensorQuantOverrides"] = {_PIXELS: [step]}
    kinds, left_out = list(_QUANTISED), []
    if products := _weighty_products(model):
        kinds, left_out = list(_QUANTISED_PRODUCTS), products[-1:]
        options["MatMulConstBOnly"] = True
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            _Photos(photos, preprocess),
            op_types_to_quantize=kinds,
            nodes_to_exclude=left_out,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=options,
        )
        made = onnx.load(target)
    if not exact:
        return with_pixels(
            _model(made.graph.node, made.graph.initializer, *_output(model), side=_side(model)),
            scaling,
        )
    nodes = list(made.graph.node)
    (first,) = (node for node in nodes if _PIXELS in node.input)
    nodes[nodes.index(first)] = helper.make_node(
        "Transpose", [_IMAGE], [first.output[0]], "planes", perm=[0, 3, 1, 2]
    )
    return _model(
        nodes, made.graph.initializer, *_output(model), takes_image=True, side=_side(model)
    )


def agree(network: nn.Module, path: Path, preprocess: Preprocess, photos: Sequence[Image]) -> float:
    """Return the largest difference between the outputs of the network and its file.

    Raises
    ------
    TrainingError
        The difference is above 1e-4.
    """
    stored, worst = as_stored(preprocess), 0.0
    session = Session(path)
    for photo in photos:
        with torch.no_grad():
            expected = network(torch.from_numpy(preprocess.prepare([photo]))).numpy()
        found = session.run(stored.prepare([photo]), session.outputs[0].name)
        worst = max(worst, float(np.abs(found - expected).max()))
    if not worst <= _TOLERANCE:
        raise TrainingError(
            f"{path}: expected the same output as that of the network within {_TOLERANCE:g}, "
            f"found a difference of {worst:.2g}; the network is kept in the checkpoint"
        )
    return worst


class _Photos(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Provides images to the quantiser, one at a time."""

    def __init__(self, photos: Sequence[Image], preprocess: Preprocess) -> None:
        self._batches: Iterator[NDArray[Any]] = (preprocess.prepare([photo]) for photo in photos)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {_PIXELS: batch}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the internal messages of the exporter and the quantiser."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


def _rename(graph: onnx.GraphProto, output: str) -> None:
    """Give input and output their names, and other names to values inside that have the same."""
    names = {_TRACED_INPUT: _PIXELS, _TRACED_OUTPUT: output}
    names |= {name: f"inner_{name}" for name in (*_FRONT, _PIXELS, _IMAGE, output)}
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, output)  # branches of an If use values from outside


def _model(
    nodes: Any,
    constants: Any,
    output: str,
    shape: Sequence[Any],
    *,
    takes_image: bool = False,
    side: int | None = None,
) -> onnx.ModelProto:
    """Make a model with one output, and one input of any size or of ``side`` pixels."""
    sides: list[Any] = ["H", "W"] if side is None else [side, side]
    given = (
        helper.make_tensor_value_info(_IMAGE, onnx.TensorProto.UINT8, ["N", *sides, 3])
        if takes_image
        else helper.make_tensor_value_info(_PIXELS, onnx.TensorProto.FLOAT, ["N", 3, *sides])
    )
    made = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, list(shape))
    nodes, constants = copy.deepcopy(list(nodes)), copy.deepcopy(list(constants))
    for part in [*nodes, *constants]:  # drop references to the Python source
        del part.metadata_props[:]
        part.doc_string = ""
    graph = helper.make_graph(nodes, _GRAPHS[output], [given], [made], constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR
    )
    model.producer_name = "imgret.train"
    onnx.checker.check_model(model, full_check=True)
    return model


def _weighty_products(model: onnx.ModelProto) -> list[str]:
    """Return the matrix products by weights, in order, if most of the model's weights are there."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    weights: dict[str, int] = {"Conv": 0, "MatMul": 0, "Gemm": 0}
    products = []
    for node in model.graph.node:
        if node.op_type in weights and node.input[1] in sizes:
            weights[node.op_type] += sizes[node.input[1]]
            if node.op_type != "Conv":
                products.append(node.name)
    return products if weights["MatMul"] + weights["Gemm"] > weights["Conv"] else []


def _side(model: onnx.ModelProto) -> int | None:
    """Return the side of the images that a model of scaled pixels takes; None if any."""
    return model.graph.input[0].type.tensor_type.shape.dim[2].dim_value or None


def _output(model: onnx.ModelProto) -> tuple[str, list[Any]]:
    """Return the name and shape of a model's output."""
    output = model.graph.output[0]
    return output.name, [d.dim_value or d.dim_param for d in output.type.tensor_type.shape.dim]
