"""Execution providers by name, and the batch size that suits them."""

from pathlib import Path

import pytest

from imgret import OnnxEmbedder
from imgret.errors import ModelError
from imgret.models import external, session
from imgret.models.session import Session, batch_size, short_name

DATA = Path(__file__).parents[1] / "data"
NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "rocm": "ROCMExecutionProvider",
}


@pytest.mark.parametrize(("short", "provider"), NAMES.items())
def test_a_short_name_is_the_provider(short, provider, monkeypatch):
    """Each name reaches onnxruntime as the provider, and is given back as the short name."""
    given = {}

    class Fake(session.ort.InferenceSession):
        def __init__(self, model, options, providers):
            given.update(providers)
            self.patterns = options.enable_mem_pattern
            super().__init__(model, options, providers=["CPUExecutionProvider"])

        def get_providers(self):
            return list(given)

    monkeypatch.setattr(session, "available_providers", lambda: list(NAMES.values()))
    monkeypatch.setattr(session.ort, "InferenceSession", Fake)
    loaded = Session(DATA / "foreign.onnx", providers=[short.upper()])
    assert list(given) == loaded.providers == [provider]
    assert short_name(provider) == short
    # Lengths of batches vary, and cuDNN would time all its algorithms for each of them.
    searched = {"cudnn_conv_algo_search": "HEURISTIC"}
    assert given[provider] == (searched if short == "cuda" else {})
    assert loaded._session.patterns == (short != "directml")  # which DirectML does not support


@pytest.mark.parametrize("short", sorted(set(NAMES) - {"cpu"}))
def test_an_unavailable_provider_is_an_error_that_names_the_others(short, monkeypatch):
    monkeypatch.setattr(session, "available_providers", lambda: [NAMES["cpu"], "XProvider"])
    with pytest.raises(ModelError) as error:
        OnnxEmbedder("general", providers=["cpu", short])
    assert str(error.value).startswith(
        f"providers: expected some of CPUExecutionProvider (cpu), XProvider, found "
        f"{NAMES[short]} ({short});"
    )


def test_the_batch_suits_the_provider():
    assert batch_size(["cpu"]) == batch_size([NAMES["cpu"], NAMES["cuda"]]) == 1
    for short in ("cuda", "tensorrt", "rocm", "directml"):
        assert batch_size([short]) == batch_size([NAMES[short], NAMES["cpu"]]) == 32
    assert batch_size(["coreml"]) == batch_size(["openvino"]) == batch_size(["XProvider"]) == 16


def test_large_weights_on_the_cpu_are_read_for_several_images_at_once():
    assert batch_size(["cpu"], large=True) == 4
    assert batch_size(["cuda"], large=True) == 32


@pytest.mark.parametrize("name", ["vit/model.onnx", "dinov2-external/model.onnx"])
def test_weights_are_counted_in_all_files(name, monkeypatch):
    path = DATA / "models" / name
    size = sum(file.stat().st_size for file in path.parent.glob("model.onnx*"))
    for limit, batch in ((size, 4), (size + 1, 1)):
        monkeypatch.setattr(external, "_LARGE", limit)
        assert OnnxEmbedder(path.parent).batch_size == batch


def test_a_provider_without_a_short_name_keeps_its_own():
    assert short_name("AzureExecutionProvider") == "AzureExecutionProvider"


def test_an_embedder_takes_the_batch_of_its_provider(monkeypatch):
    assert OnnxEmbedder("general").batch_size == 1
    monkeypatch.setitem(session._BATCH, "CPUExecutionProvider", 32)
    assert OnnxEmbedder("general").batch_size == 32
    assert OnnxEmbedder("general", batch_size=4).batch_size == 4
    plain = {"size": 8, "scaling": None}
    assert OnnxEmbedder(DATA / "fixed.onnx", preprocess=plain).batch_size == 1


def test_custom_operators_are_not_loaded(tmp_path):
    graph = (DATA / "foreign.onnx").read_bytes()
    path = tmp_path / "custom.onnx"
    path.write_bytes(graph.replace(b"Flatten", b"Flatmap"))
    with pytest.raises(ModelError, match=r"custom\.onnx: .*Flatmap.*; .*standard ONNX operators"):
        Session(path)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_graph_for_text_is_no_model_of_images(name):
    path = DATA / "models" / name / "onnx" / "text_model.onnx"
    with pytest.raises(ModelError, match="it reads text: give the graph for images"):
        OnnxEmbedder(path, preprocess={"size": 64, "scaling": None})
