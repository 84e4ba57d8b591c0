"""A part of an ONNX graph: what some of its outputs need, and nothing else.

Exports of two-tower models hold both towers in one graph, with pixels and tokens as inputs and
the embeddings of both among the outputs. Each tower can be cut out, since neither needs the
other. The numbers of fields are those of onnx.proto3 of the ONNX project.
"""

from __future__ import annotations

from collections.abc import Iterable

from imgret.models import protobuf

__all__ = ["cut_out", "inputs_and_outputs"]

_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE = 1, 5, 11, 12, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPHS = (6, 11)
_TENSOR_NAME, _VALUE_NAME = 8, 1


def inputs_and_outputs(model: bytes | memoryview) -> tuple[list[str], list[str]]:
    """Return the names of the inputs that are not weights, and of the outputs.

    Raises
    ------
    ValueError
        The bytes are not a model.
    """
    parts = list(protobuf.fields(_graph(model)))
    weights = {_text(part.value, _TENSOR_NAME) for part in parts if part.number == _INITIALIZER}
    inputs = [_text(part.value, _VALUE_NAME) for part in parts if part.number == _INPUT]
    outputs = [_text(part.value, _VALUE_NAME) for part in parts if part.number == _OUTPUT]
    return [name for name in inputs if name not in weights], outputs


def cut_out(model: bytes | memoryview, outputs: Iterable[str]) -> bytes:
    """Return the model with what some outputs need: nodes, weights and inputs.

    Parameters
    ----------
    model : bytes
        Of an ``.onnx`` file.
    outputs : iterable of str
        Names of outputs of its graph.

    Raises
    ------
    ValueError
        The bytes are not a model, or an output is not there.
    """
    wanted = set(outputs)
    whole = list(protobuf.fields(memoryview(model)))
    parts = list(protobuf.fields(_graph(model)))
    known = {_text(part.value, _VALUE_NAME) for part in parts if part.number == _OUTPUT}
    if lost := wanted - known:
        raise ValueError(f"expected outputs among {sorted(known)}, found {sorted(lost)}")
    nodes = [
        (_names(part.value, _NODE_OUTPUT), _used(part.value), part)
        for part in parts
        if part.number == _NODE
    ]
    makers = {name: place for place, (made, _, _) in enumerate(nodes) for name in made}
    needed, kept, waiting = set(wanted), set[int](), list(wanted)
    while waiting:
        name = waiting.pop()
        place = makers.get(name)
        if place is None or place in kept:
            continue
        kept.add(place)
        new = nodes[place][1] - needed
        needed |= new
        waiting += new
    graph = []
    place = -1
    for part in parts:
        if part.number == _NODE:
            place += 1
            keep = place in kept
        elif part.number == _OUTPUT:
            keep = _text(part.value, _VALUE_NAME) in wanted
        elif part.number == _INPUT:
            keep = _text(part.value, _VALUE_NAME) in needed
        elif part.number == _INITIALIZER:
            keep = _text(part.value, _TENSOR_NAME) in needed
        else:
            keep = True
        if keep:
            graph.append(bytes(part.raw))
    return b"".join(
        protobuf.encode(_GRAPH, b"".join(graph)) if part.number == _GRAPH else bytes(part.raw)
        for part in whole
    )


def _graph(model: bytes | memoryview) -> memoryview:
    for part in protobuf.fields(memoryview(model)):
        if part.number == _GRAPH and part.value is not None:
            return part.value
    raise ValueError("expected a model with a graph")


def _text(message: memoryview | None, number: int) -> str:
    if message is None:
        return ""
    for part in protobuf.fields(message):
        if part.number == number and part.value is not None:
            return bytes(part.value).decode()
    return ""


def _names(message: memoryview | None, number: int) -> list[str]:
    if message is None:
        return []
    return [
        bytes(part.value).decode()
        for part in protobuf.fields(message)
        if part.number == number and part.value is not None
    ]


def _used(node: memoryview | None) -> set[str]:
    """Return the names that a node takes, those of graphs in its attributes included."""
    if node is None:
        return set()
    names = {name for name in _names(node, _NODE_INPUT) if name}
    for part in protobuf.fields(node):
        if part.number == _NODE_ATTRIBUTE and part.value is not None:
            for inner in protobuf.fields(part.value):
                if inner.number in _ATTRIBUTE_GRAPHS and inner.value is not None:
                    for each in protobuf.fields(inner.value):
                        if each.number == _NODE:
                            names |= _used(each.value)
    return names
