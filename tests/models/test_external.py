"""Weights in second files, batches of one length, outputs of other types."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import OnnxEmbedder
from imgret.croppers import SaliencyCropper
from imgret.errors import ModelError
from imgret.models import bundle, describe, protobuf, resolve, write_bundle
from imgret.models.external import inlined, locations
from imgret.models.features import FeatureModel
from imgret.models.model import Model

PLAIN = {"size": 8, "scaling": None}


def pictures(n):
    return list(np.random.default_rng(7).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8))


# -- weights in second files ------------------------------------------------------------------


def tensor(name, *, external=True):
    entry = protobuf.encode(1, b"location") + protobuf.encode(2, name.encode())
    where = protobuf.encode_integer(14, 1) if external else b""
    return protobuf.encode(8, b"w") + protobuf.encode(13, entry) + where


def nested(path, message):
    """Put a message into others, by the numbers of the fields from the outermost to it."""
    for number in reversed(path):
        message = protobuf.encode(number, message)
    return message


# Model > graph > ...: see onnx.proto3.
PLACES = {
    "initializer": (7, 5),
    "attribute of a node": (7, 1, 5, 5),
    "list of an attribute": (7, 1, 5, 10),
    "graph of an attribute": (7, 1, 5, 6, 5),
    "graphs of an attribute": (7, 1, 5, 11, 1, 5, 5),
    "sparse initializer, values": (7, 15, 1),
    "sparse initializer, indices": (7, 15, 2),
    "sparse attribute": (7, 1, 5, 22, 1),
    "sparse attributes": (7, 1, 5, 23, 2),
    "function": (25, 7, 5, 5),
    "default of a function": (25, 11, 5),
    "training": (20, 1, 5),
}


@pytest.mark.parametrize("place", PLACES)
def test_second_files_are_found_wherever_a_tensor_stands(place):
    assert locations(nested(PLACES[place], tensor("a.bin"))) == ["a.bin"]
    assert locations(nested(PLACES[place], tensor("a.bin", external=False))) == []


@given(st.lists(st.tuples(st.sampled_from(list(PLACES)), st.sampled_from("abcdef"))))
def test_each_second_file_once_and_in_order(stands):
    model = b"".join(nested(PLACES[place], tensor(name)) for place, name in stands)
    assert locations(model) == sorted({name for _, name in stands})


def test_a_model_in_one_file_has_the_fingerprint_it_had(make_onnx, tmp_path):
    for path in (make_onnx(tmp_path / "m.onnx"), resolve("general"), resolve("saliency")):
        assert bundle.fingerprint(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_fingerprint_covers_second_files(make_onnx, tmp_path):
    model = make_onnx(tmp_path / "m.onnx", external="m.onnx.data")
    graph, weights = model.read_bytes(), tmp_path / "m.onnx.data"
    first = OnnxEmbedder(model, preprocess=PLAIN)
    assert describe(model)["fingerprint"] == first.fingerprint[: len("sha256:") + 64]
    expected = hashlib.sha256(hashlib.sha256(graph).digest() + b"m.onnx.data\0")
    expected.update(hashlib.sha256(weights.read_bytes()).digest())
    assert bundle.fingerprint(model) == expected.hexdigest()
    weights.write_bytes(np.ones((192, 5), "<f4").tobytes())  # the same graph, other weights
    second = OnnxEmbedder(model, preprocess=PLAIN)
    assert not np.allclose(first.embed(pictures(1)), second.embed(pictures(1)))
    assert first.fingerprint != second.fingerprint


def test_a_missing_second_file_is_named(make_onnx, tmp_path):
    model = make_onnx(tmp_path / "m.onnx", external="weights.bin")
    (tmp_path / "weights.bin").unlink()
    for use in (
        lambda: OnnxEmbedder(model, preprocess=PLAIN),
        lambda: describe(model),
        lambda: bundle.fingerprint(model),
        lambda: write_bundle(model, preprocess=PLAIN),
    ):
        with pytest.raises(ModelError, match=r"m\.onnx: .*weights\.bin"):
            use()


def test_the_map_behind_an_embedding_with_a_second_file(make_onnx, tmp_path, monkeypatch):
    """Its graph is given to onnxruntime as bytes, which come from no folder."""
    model = make_onnx(tmp_path / "m.onnx", external="m.onnx.data", outputs=["emb", "map"])
    monkeypatch.chdir("/")
    network = Model(model, kind="embedder", preprocess=PLAIN, output="emb")
    assert network.run(pictures(2)).shape == (2, 5)
    with pytest.raises(ModelError, match="pooled from a feature map"):  # as the weights are found
        FeatureModel(network)


# -- batches of one length --------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_batches_of_one_length_are_filled_up(make_onnx, tmp_path, length, n):
    fixed = OnnxEmbedder(make_onnx(tmp_path / "f.onnx", batch=length), preprocess=PLAIN)
    free = OnnxEmbedder(make_onnx(tmp_path / "n.onnx"), preprocess=PLAIN)
    assert (fixed.dim, fixed.batch_size) == (5, length)
    for batch_size in (None, 1, 3, 16):
        np.testing.assert_allclose(
            fixed.embed(pictures(n), batch_size=batch_size), free.embed(pictures(n)), rtol=1e-6
        )


def test_a_cropper_of_batches_of_one_length(make_onnx, tmp_path):
    fixed = SaliencyCropper(
        make_onnx(tmp_path / "f.onnx", batch=4, outputs=["map"]), preprocess=PLAIN
    )
    free = SaliencyCropper(make_onnx(tmp_path / "n.onnx", outputs=["map"]), preprocess=PLAIN)
    assert fixed.detect(pictures(6)) == free.detect(pictures(6))
    assert fixed.detect(pictures(1)) == free.detect(pictures(1))


# -- outputs of other types -------------------------------------------------------------------


def test_class_numbers_are_no_embedding(make_onnx, tmp_path):
    both = make_onnx(tmp_path / "both.onnx", outputs=["class", "emb"])
    alone = make_onnx(tmp_path / "alone.onnx", outputs=["class"])
    with pytest.raises(ModelError, match=r"'class' of floating-point.*int64.*class numbers.*layer"):
        OnnxEmbedder(alone, preprocess=PLAIN)
    with pytest.raises(ModelError, match=r"int64.*output=: emb"):
        OnnxEmbedder(both, preprocess=PLAIN, output="class")
    chosen = OnnxEmbedder(both, preprocess=PLAIN)  # the only one that can be meant
    assert chosen.fingerprint == OnnxEmbedder(both, preprocess=PLAIN, output="emb").fingerprint
    with pytest.raises(ModelError, match=r"'class' of floating-point"):
        SaliencyCropper(alone, preprocess=PLAIN)


def test_several_outputs_of_numbers_still_need_a_choice(make_onnx, tmp_path):
    model = make_onnx(tmp_path / "m.onnx", outputs=["class", "emb", "map"])
    with pytest.raises(ModelError, match="expected one of emb, map, found none"):
        OnnxEmbedder(model, preprocess=PLAIN)


def test_a_model_in_a_folder_whose_name_is_not_utf8(make_onnx, tmp_path):
    folder = tmp_path / os.fsdecode(b"f\xff")
    try:
        model = make_onnx(folder / "m.onnx")
    except OSError:
        pytest.skip("file names are Unicode here")
    expected = OnnxEmbedder(make_onnx(tmp_path / "m.onnx"), preprocess=PLAIN).embed(pictures(2))
    np.testing.assert_array_equal(
        OnnxEmbedder(model, preprocess=PLAIN).embed(pictures(2)), expected
    )
    with pytest.raises(ModelError, match="UTF-8"):
        OnnxEmbedder(make_onnx(folder / "two.onnx", external="two.data"), preprocess=PLAIN)


# -- bundles of models with second files -------------------------------------------------------


def test_a_bundle_takes_second_files_inside(make_onnx, tmp_path):
    model = make_onnx(tmp_path / "m.onnx", external="m.onnx.data")
    expected = OnnxEmbedder(model, preprocess=PLAIN).embed(pictures(3))
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "whole.onnx"
    write_bundle(model, target, preprocess=PLAIN)
    assert [file.name for file in target.parent.iterdir()] == ["whole.onnx"]
    assert locations(target.read_bytes()) == []
    np.testing.assert_array_equal(OnnxEmbedder(target).embed(pictures(3)), expected)
    write_bundle(model, preprocess=PLAIN)  # in place
    (tmp_path / "m.onnx.data").unlink()
    np.testing.assert_array_equal(OnnxEmbedder(model).embed(pictures(3)), expected)


def test_a_bundle_of_a_transformer(tmp_path):
    target = tmp_path / "dinov2.onnx"
    folder = Path(__file__).parents[1] / "data" / "models" / "dinov2-external"
    whole = inlined(folder / "model.onnx", (folder / "model.onnx").read_bytes())
    target.write_bytes(whole)
    options = {"preprocess": {"size": 64, "scaling": None}, "pooling": "cls"}
    np.testing.assert_array_equal(
        OnnxEmbedder(target, **options).embed(pictures(3)),
        OnnxEmbedder(folder / "model.onnx", **options).embed(pictures(3)),
    )


def test_a_bundle_above_the_limit_takes_second_files_along(make_onnx, tmp_path, monkeypatch):
    monkeypatch.setitem(write_bundle.__globals__, "_MOST", 100)
    model = make_onnx(tmp_path / "m.onnx", external="m.onnx.data")
    expected = OnnxEmbedder(model, preprocess=PLAIN).embed(pictures(3))
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "big.onnx"
    write_bundle(model, target, preprocess=PLAIN)
    assert {file.name for file in target.parent.iterdir()} == {"big.onnx", "m.onnx.data"}
    np.testing.assert_array_equal(OnnxEmbedder(target).embed(pictures(3)), expected)


def test_a_second_file_that_is_cut_off(make_onnx, tmp_path):
    model = make_onnx(tmp_path / "m.onnx", external="weights.bin")
    size = (tmp_path / "weights.bin").stat().st_size
    told = {b"location": b"weights.bin", b"offset": b"8", b"length": b"%d" % size}
    where = b"".join(
        protobuf.encode(13, protobuf.encode(1, key) + protobuf.encode(2, value))
        for key, value in told.items()
    )
    graph = nested(PLACES["initializer"], where + protobuf.encode_integer(14, 1))
    message = rf"weights\.bin: expected {size} bytes at 8, found {size - 8}; the file is cut off"
    with pytest.raises(ModelError, match=message):
        inlined(model, graph)


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/passwd", "a/../../b"])
def test_second_files_are_in_the_folder_of_the_model(make_onnx, tmp_path, name):
    model = make_onnx(tmp_path / "m.onnx")
    model.write_bytes(nested(PLACES["initializer"], tensor(name)))
    with pytest.raises(ModelError, match="expected its weights in files of its own folder"):
        bundle.fingerprint(model)


def test_a_folder_is_no_file(make_onnx, tmp_path):
    make_onnx(tmp_path / "onnx" / "model.onnx")
    with pytest.raises(ModelError, match=r"found a folder, with onnx/model\.onnx; give one of"):
        write_bundle(tmp_path, preprocess=PLAIN)
    with pytest.raises(ModelError, match=r"kind 'saliency', found a folder; give the file, such"):
        SaliencyCropper(tmp_path, preprocess=PLAIN)
    make_onnx(tmp_path / "other" / "u2net.onnx")
    with pytest.raises(ModelError, match=r"found a folder with other ONNX files \(u2net\.onnx\)"):
        SaliencyCropper(tmp_path / "other")


def test_pooling_of_a_single_vector_is_refused(make_onnx, tmp_path):
    model = make_onnx(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"pooling: expected an output of several vectors"):
        OnnxEmbedder(model, preprocess=PLAIN, pooling="cls")
    assert OnnxEmbedder(model, preprocess=PLAIN, pooling="none").dim == 5
