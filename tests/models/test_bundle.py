import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret.errors import InvalidInputError, ModelError
from imgret.models import Bundle, Preprocess, protobuf
from imgret.models.bundle import Golden, fingerprint, read, write

DATA = Path(__file__).parents[1] / "data"
BUNDLE = Bundle(
    kind="embedder",
    name="tiny",
    version="1",
    input=Preprocess(size=8, scaling={"mean": [1, 2, 3], "std": [4, 5, 6]}),
    output="flat",
    dim=192,
    normalized=False,
    precision="fp32",
    training_data="none",
    source="tests",
    licence="Apache-2.0",
    notice="© nobody",
    golden=Golden("golden-1", 0.99, np.arange(192, dtype=np.float32)),
)


@pytest.fixture
def path(tmp_path):
    return Path(shutil.copy(DATA / "foreign.onnx", tmp_path))


def written(path, **changes):
    """Write facts that `Bundle` itself would refuse."""
    facts = BUNDLE.to_json() | changes
    facts = {name: fact for name, fact in facts.items() if fact != "left out"}
    entry = protobuf.encode(1, b"imgret") + protobuf.encode(2, json.dumps(facts).encode())
    path.write_bytes((DATA / "foreign.onnx").read_bytes() + protobuf.encode(14, entry))
    return path


def test_a_foreign_file_has_no_facts(path):
    assert read(path) is None


def test_what_was_written_is_read(path):
    write(path, BUNDLE)
    found = read(path)
    assert found == BUNDLE
    np.testing.assert_array_equal(found.golden.output, BUNDLE.golden.output)


def test_onnxruntime_reads_the_same_metadata(path):
    ort = pytest.importorskip("onnxruntime")
    write(path, BUNDLE)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["imgret"]) == BUNDLE.to_json()


def test_writing_again_replaces_and_keeps_the_rest(path):
    other = protobuf.encode(14, protobuf.encode(1, b"author") + protobuf.encode(2, b"someone"))
    path.write_bytes(path.read_bytes() + other)
    write(path, replace(BUNDLE, version="1"))
    once = fingerprint(path)
    write(path, replace(BUNDLE, version="2"))
    assert read(path).version == "2"
    assert other in path.read_bytes()
    assert path.read_bytes().count(b'"format": 1') == 1
    write(path, replace(BUNDLE, version="1"))
    assert fingerprint(path) == once


def test_fingerprint_is_the_sha256_of_the_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert fingerprint(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_facts_of_a_later_version_are_passed_over(path):
    assert read(written(path, invented="later")) == BUNDLE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "at most 1, found 2; the model needs a newer imgret"),
        ({"format": "1"}, "format: expected 1, found '1'"),
        ({"licence": "left out"}, "expected the key 'licence', which is missing"),
        ({"name": 3}, "name: expected text, found 3"),
        ({"kind": "segmenter"}, "'embedder', 'saliency', found 'segmenter'"),
        ({"dim": None}, "dim: expected a whole number"),
        ({"input": {"size": 8}}, "scaling, which is missing"),
        ({"golden": {"picture": "golden-1"}}, "which is missing"),
        ({"golden": {"picture": "a", "cosine_at_least": 1, "output": "*"}}, "base64"),
    ],
)
def test_facts_that_cannot_be_used(path, changes, message):
    with pytest.raises(ModelError, match=message) as caught:
        read(written(path, **changes))
    assert str(path) in str(caught.value)


def test_metadata_that_is_no_json_object(path):
    for text in (b"{", b"[1]", b"\xff"):
        entry = protobuf.encode(1, b"imgret") + protobuf.encode(2, text)
        path.write_bytes((DATA / "foreign.onnx").read_bytes() + protobuf.encode(14, entry))
        if text == b"\xff":  # no text at all: not taken for an entry of ours
            assert read(path) is None
        else:
            with pytest.raises(ModelError, match="metadata 'imgret'"):
                read(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        read(tmp_path / "none.onnx")


def facts_or_error(path):
    try:
        return read(path)
    except ModelError as error:
        return str(error)


@given(st.binary(max_size=200))
def test_other_bytes_are_not_onnx(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "other.onnx"
    path.write_bytes(data)
    found = facts_or_error(path)
    # A few short messages do pass for a graph, one without facts.
    assert found is None or "expected an ONNX file" in found


def test_a_truncated_file_has_no_facts(path):
    write(path, BUNDLE)
    data = path.read_bytes()
    found = set()
    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        found.add(facts_or_error(path))
    assert found == {
        None,  # cut between two fields, before the facts
        f"{path}: expected an ONNX file, found damaged or other data",
        f"{path}: expected an ONNX file, found one without a graph",
    }


@given(st.integers(1, 2**29 - 1), st.binary(max_size=300))
def test_an_encoded_field_is_read_back(number, value):
    (field,) = protobuf.fields(memoryview(protobuf.encode(number, value)))
    assert (field.number, bytes(field.value)) == (number, value)


def test_numbers_are_stepped_over():
    message = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + b"\x22\x01a"
    found = [
        (number, value and bytes(value))
        for number, value, *_ in protobuf.fields(memoryview(message))
    ]
    assert found == [(1, None), (2, None), (3, None), (4, b"a")]


def test_dim_and_kind_belong_together():
    with pytest.raises(InvalidInputError, match="null for"):
        replace(BUNDLE, kind="saliency")


def test_a_threshold_belongs_to_a_saliency_model():
    saliency = replace(BUNDLE, kind="saliency", dim=None, threshold=0.3)
    assert Bundle.from_json(saliency.to_json()) == saliency
    for changes in ({"threshold": 0}, {"threshold": 1.5}, {"threshold": "0.3"}):
        with pytest.raises(ModelError, match="threshold: expected a number over 0"):
            Bundle.from_json(saliency.to_json() | changes)
    with pytest.raises(InvalidInputError, match="threshold"):
        replace(BUNDLE, threshold=0.3)


def test_what_may_be_null_may_be_left_out():
    facts = BUNDLE.to_json()
    del facts["threshold"], facts["calibrated_on"]
    assert Bundle.from_json(facts) == BUNDLE
