"""Make the ONNX files of `tests/models` and `tests/embedders` that say nothing of themselves.

Needs the ``onnx`` package: ``python tests/data/make_foreign.py``.

``foreign.onnx``  float32 (n, 3, H, W) -> ``flat`` (n, 3 H W), ``mean`` (n, 3, 1, 1), ``map``
``fixed.onnx``    float32 (1, 3, 8, 8) -> ``flat`` (1, 192), the input itself
``two_inputs.onnx``
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

FOLDER = Path(__file__).parent


def save(name, nodes, inputs, outputs):
    def info(tensors):
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in tensors.items()]

    graph = helper.make_graph(nodes, name, info(inputs), info(outputs))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, FOLDER / f"{name}.onnx")


flat = helper.make_node("Flatten", ["planes"], ["flat"])
mean = helper.make_node("GlobalAveragePool", ["planes"], ["mean"])
same = helper.make_node("Identity", ["planes"], ["map"])
total = helper.make_node("Add", ["planes", "more"], ["map"])
any_size = ["n", 3, "height", "width"]

save(
    "foreign",
    [flat, mean, same],
    {"planes": any_size},
    {"flat": ["n", "pixels"], "mean": ["n", 3, 1, 1], "map": any_size},
)
save("fixed", [flat], {"planes": [1, 3, 8, 8]}, {"flat": [1, 192]})
save("two_inputs", [total], {"planes": any_size, "more": any_size}, {"map": any_size})
