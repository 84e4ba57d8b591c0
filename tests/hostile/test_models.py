"""Model files made to take memory or time without end."""

import time

import numpy as np
import pytest

from imgret.errors import ModelError
from imgret.models import bundle, external, limits, protobuf, session
from imgret.models.protobuf import encode, encode_integer

FLOAT, INT64, BOOL = 1, 7, 9


@pytest.mark.slow
def test_a_file_of_empty_graphs_is_refused_soon(tmp_path):
    path = tmp_path / "empty.onnx"
    path.write_bytes(b"\x3a\x00" * (8 << 20))
    started = time.process_time()
    with pytest.raises(ModelError, match=r"empty\.onnx: expected an ONNX file"):
        bundle.read(path)
    assert time.process_time() - started < 5


@pytest.mark.slow
def test_a_message_has_a_limited_number_of_fields():
    assert sum(1 for _ in protobuf.fields(memoryview(b"\x3a\x00" * 100_000))) == 100_000
    with pytest.raises(ValueError, match="more than 100,000 fields"):
        list(protobuf.fields(memoryview(b"\x3a\x00" * 100_001)))


def test_empty_graphs_below_graphs_are_refused(tmp_path, monkeypatch):
    """16 MB of them take onnxruntime 3.7 GB and a minute, however they are nested."""
    monkeypatch.setattr(limits, "_MOST_FIELDS", 10_000)  # of a million: each takes 3 us
    path = tmp_path / "empty.onnx"
    some = encode(7, encode(1, encode(5, b"\x5a\x00" * 900)))
    path.write_bytes(encode_integer(1, 8) + some * 84)
    with pytest.raises(ModelError, match=r"empty\.onnx: .* more than 10,000 fields"):
        session.Session(path)


def test_a_sparse_array_that_is_far_larger_than_the_file_is_refused(tmp_path):
    dims = encode_integer(3, 1 << 20) + encode_integer(3, 1 << 20)
    path = tmp_path / "sparse.onnx"
    for sparse in (dims, encode(3, encode_integer(1, 1 << 20)[1:] * 2)):
        path.write_bytes(encode_integer(1, 8) + encode(7, encode(15, sparse)))
        with pytest.raises(ModelError, match=r"a sparse array of 1,099,511,627,776 values"):
            session.Session(path)


def test_messages_in_messages_are_limited_as_well(monkeypatch):
    monkeypatch.setattr(external, "_MOST_MESSAGES", 300)
    graph = encode(7, b"\x0a\x00" * 100)  # of empty nodes
    with pytest.raises(ValueError, match="more than 300 messages"):
        external.locations(4 * graph + encode(2, b"location"))


def value(name, kind, shape):
    dims = b"".join(encode(1, encode_integer(1, n)) for n in shape)
    tensor = encode_integer(1, kind) + encode(2, dims)
    return encode(1, name) + encode(2, encode(1, tensor))


def node(kind, inputs, outputs, *attributes):
    return encode(
        1,
        b"".join(encode(1, each) for each in inputs)
        + b"".join(encode(2, each) for each in outputs)
        + encode(4, kind)
        + b"".join(encode(5, each) for each in attributes),
    )


def endless(path):
    """A graph whose loop has the condition "true" and no number of turns."""
    body = (
        node(b"Identity", [b"go"], [b"go_on"])
        + node(b"Identity", [b"x"], [b"x_next"])
        + encode(2, b"body")
        + encode(11, value(b"turn", INT64, ()))
        + encode(11, value(b"go", BOOL, ()))
        + encode(11, value(b"x", FLOAT, (1, 4)))
        + encode(12, value(b"go_on", BOOL, ()))
        + encode(12, value(b"x_next", FLOAT, (1, 4)))
    )
    attribute = encode(1, b"body") + encode(6, body) + encode_integer(20, 5)
    true = encode_integer(2, BOOL) + encode(8, b"true") + encode(9, b"\1")
    graph = (
        node(b"Loop", [b"", b"true", b"input"], [b"output"], attribute)
        + encode(2, b"graph")
        + encode(5, true)
        + encode(11, value(b"input", FLOAT, (1, 4)))
        + encode(12, value(b"output", FLOAT, (1, 4)))
    )
    path.write_bytes(
        encode_integer(1, 8) + encode(7, graph) + encode(8, encode(1, b"") + encode_integer(2, 17))
    )
    return path


def test_a_loop_without_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_RUN_SECONDS", 0.3)
    monkeypatch.setattr(session, "_LOOK_SECONDS", 0.05)
    model = session.Session(endless(tmp_path / "endless.onnx"))
    rows = np.zeros((1, 4), np.float32)
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(ModelError, match=r"runs in less than 0\.3 seconds.*never ends"):
            model.run(rows, "output")
        assert time.monotonic() - started < 30
        time.sleep(0.2)  # until the watch has gone to sleep
    assert not session._watch._until
