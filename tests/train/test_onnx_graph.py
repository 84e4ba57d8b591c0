"""From a network to ONNX: the same answers, in 32 bits and nearly so in 8."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from imgret import images
from imgret.demo import samples
from imgret.errors import TrainingError
from imgret.models import Preprocess
from imgret.models.session import Session
from imgret.train import onnx_graph
from imgret.train.networks import NETWORKS, build

PHOTOS = [
    images.resize(samples.draw(species, seed), 120, 100)
    for species in ("rose", "tulip")
    for seed in range(4)
]


@pytest.fixture(scope="module", params=["reference", "compact"])
def trained(request):
    """A network with the statistics of some images, its graph, and its preprocessing."""
    torch.manual_seed(0)
    network = build(request.param, dim=24).train()
    preprocess = Preprocess(size=64, scaling=NETWORKS[request.param].scaling)
    with torch.no_grad():
        for _ in range(20):
            network(torch.from_numpy(preprocess.prepare(PHOTOS)))
    whole = onnx_graph.finished(network, normalize=True)
    return whole, onnx_graph.to_onnx(whole), preprocess


def test_the_file_answers_as_the_network(trained, tmp_path):
    network, graph, preprocess = trained
    path = tmp_path / "model.onnx"
    onnx.save(onnx_graph.with_pixels(graph, preprocess.scaling), path)
    assert onnx_graph.agree(network, path, preprocess, PHOTOS) < 1e-4


def test_batch_normalisation_and_padding_are_folded(trained):
    _, graph, _ = trained
    kinds = {node.op_type for node in graph.graph.node}
    assert not kinds & {"BatchNormalization", "Pad"}


def test_any_batch_and_any_size(trained, tmp_path):
    network, graph, preprocess = trained
    path = tmp_path / "model.onnx"
    onnx.save(onnx_graph.with_pixels(graph, preprocess.scaling), path)
    session, stored = Session(path), onnx_graph.as_stored(preprocess)
    together = session.run(stored.prepare(PHOTOS), "embedding")
    assert together.shape == (len(PHOTOS), 24)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = [session.run(stored.prepare([photo]), "embedding")[0] for photo in PHOTOS]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    larger = preprocess.resized(96)
    assert onnx_graph.agree(network, path, larger, PHOTOS[:2]) < 1e-4


def test_eight_bits_stay_close(trained, tmp_path):
    _, graph, preprocess = trained
    path, int8 = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    onnx.save(onnx_graph.with_pixels(graph, preprocess.scaling), path)
    onnx.save(onnx_graph.quantised(graph, preprocess, PHOTOS), int8)
    assert int8.stat().st_size < 0.4 * path.stat().st_size
    batch = onnx_graph.as_stored(preprocess).prepare(PHOTOS)
    cosines = np.sum(
        Session(path).run(batch, "embedding") * Session(int8).run(batch, "embedding"), axis=1
    )
    # The embedding of random weights magnifies what small differences there are.
    assert cosines.min() > 0.8
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(int8).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    ]
    assert weights
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) <= 64  # 7 bits


def test_a_file_that_answers_otherwise_is_refused(trained, tmp_path):
    network, graph, preprocess = trained
    path = tmp_path / "model.onnx"
    broken = onnx.ModelProto()
    broken.CopyFrom(graph)
    for tensor in broken.graph.initializer:
        if len(tensor.dims) == 4:
            values = onnx.numpy_helper.to_array(tensor) * 1.05
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
            break
    onnx.save(onnx_graph.with_pixels(broken, preprocess.scaling), path)
    with pytest.raises(TrainingError, match=r"within 0.0001, found a difference of"):
        onnx_graph.agree(network, path, preprocess, PHOTOS)
