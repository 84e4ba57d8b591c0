"""Make ``brightness.onnx``: a saliency model whose map is the brightness of the image.

Needs the ``onnx`` package: ``python tests/data/make_brightness.py``.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imgret.models import Bundle, Preprocess
from imgret.models import bundle as bundles
from imgret.models.bundle import Golden
from imgret.models.golden import draw

PATH = Path(__file__).with_name("brightness.onnx")
SIZE = 32


def constant(name, values, dtype):
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def make():
    nodes = [
        helper.make_node("Cast", ["picture"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "last"], ["map"], keepdims=0),
        helper.make_node("Unsqueeze", ["map", "first"], ["map_of_one_channel"]),
        helper.make_node("ReduceMean", ["map", "both"], ["vector"], keepdims=0),
        helper.make_node("Sub", ["map", "beyond"], ["negative"]),
        helper.make_node("Sqrt", ["negative"], ["nan"]),
    ]
    constants = [
        constant("last", [3], np.int64),
        constant("first", [1], np.int64),
        constant("both", [1, 2], np.int64),
        constant("beyond", 300.0, np.float32),
    ]
    shape = ["n", "height", "width"]
    outputs = {
        "map": shape,
        "map_of_one_channel": ["n", 1, *shape[1:]],
        "vector": ["n"],
        "nan": shape,
    }
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, [*shape, 3])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, PATH)
    bundle = Bundle(
        kind="saliency",
        name="brightness",
        version="1",
        input=Preprocess(size=SIZE, scaling=None, resize="squash", layout="NHWC", dtype="uint8"),
        output="map",
        threshold=0.6,
        precision="fp32",
        training_data="none",
        source="tests/data/make_brightness.py",
        licence="Apache-2.0",
        notice="",
        golden=Golden("golden-1", 0.999, draw("golden-1", SIZE).mean(axis=2).ravel()),
    )
    bundles.write(PATH, bundle)


if __name__ == "__main__":
    make()
