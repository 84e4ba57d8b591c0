import hashlib
from pathlib import Path

import pytest

from imgret.errors import ModelError, UnknownNameError
from imgret.models import available, check, golden, resolve
from imgret.models.bundle import read, write
from imgret.models.model import Model
from imgret.models.session import Session

DATA = Path(__file__).parents[1] / "data"


def test_every_builtin_model_says_what_it_is():
    models = available()
    assert "general" in models
    for name, bundle in models.items():
        assert bundle.name == name
        for fact in (bundle.source, bundle.licence, bundle.training_data, bundle.notice):
            assert fact


@pytest.mark.parametrize("name", available())
def test_every_builtin_model_answers_as_it_did(name):
    result = check(name)
    assert result.ok
    assert result.cosine <= 1 + 1e-6


def test_general_carries_its_notice_and_stays_small():
    bundle = available()["general"]
    assert "Copyright (c) 2020, ML Illustrated" in bundle.notice
    assert "Changes:" in bundle.notice
    assert (bundle.kind, bundle.dim, bundle.precision) == ("embedder", 1280, "int8")
    assert resolve("general").stat().st_size < 4.2e6


@pytest.mark.parametrize(("name", "megabytes"), [("flowers102", 8), ("flowers102-large", 6)])
def test_flower_models_say_where_they_come_from_and_stay_small(name, megabytes):
    bundle = available()[name]
    assert "Copyright (c) 2020, ML Illustrated" in bundle.notice
    assert "Changes:" in bundle.notice
    assert (bundle.kind, bundle.dim, bundle.normalized) == ("embedder", 128, True)
    assert "Oxford 102 Flowers" in bundle.training_data
    assert resolve(name).stat().st_size < megabytes * 1e6


def test_the_reference_network_starts_from_no_other_and_stays_small():
    bundle = available()["flowers102-resnet"]
    assert "starting from" not in bundle.source
    assert "taught by flowers102" in bundle.source
    assert (bundle.kind, bundle.dim, bundle.precision) == ("embedder", 128, "int8")
    assert bundle.input.size >= 224
    assert "Oxford 102 Flowers" in bundle.training_data
    assert resolve("flowers102-resnet").stat().st_size < 3e6


def test_a_changed_answer_fails_the_check(tmp_path):
    path = tmp_path / "general.onnx"
    path.write_bytes(resolve("general").read_bytes())
    bundle = read(path)
    bundle.golden.output[:] = bundle.golden.output[::-1].copy()
    write(path, bundle)
    assert not check(path).ok


def test_a_file_without_facts_cannot_be_checked():
    with pytest.raises(ModelError, match="expected a golden check"):
        check(DATA / "foreign.onnx")


def test_golden_picture_never_changes():
    digest = hashlib.sha256(golden.draw("golden-1", 256).tobytes()).hexdigest()
    assert digest.startswith("7a5a24d6afb5a337")
    with pytest.raises(UnknownNameError, match="known: golden-1"):
        golden.draw("golden-0", 256)


def test_names_and_paths():
    assert resolve("general") == resolve(resolve("general"))
    with pytest.raises(UnknownNameError, match=r"known: .*general.*Did you mean 'general'"):
        resolve("genral")
    for path in ("none.onnx", "some/model", Path("model")):
        with pytest.raises(ModelError, match="expected an ONNX file, found none there"):
            resolve(path)


def test_providers_that_are_not_there_are_refused():
    with pytest.raises(ModelError, match=r"CPUExecutionProvider.*found NoProvider"):
        Model("general", kind="embedder", providers=["CPUExecutionProvider", "NoProvider"])
    with pytest.raises(ModelError, match="found none"):
        Model("general", kind="embedder", providers=[])
    with pytest.raises(ValueError, match="expected a list of names"):
        Model("general", kind="embedder", providers="CPUExecutionProvider")


def test_a_provider_that_does_not_start_is_no_silent_fall_back(monkeypatch):
    monkeypatch.setattr("onnxruntime.InferenceSession.get_providers", lambda _: ["Other"])
    with pytest.raises(ModelError, match=r"CPUExecutionProvider is part of .* does not start"):
        Session(DATA / "foreign.onnx", providers=["CPUExecutionProvider"])


def test_kind_mismatch_is_told():
    with pytest.raises(ModelError, match="kind 'saliency', found 'embedder'"):
        Model("general", kind="saliency")


def test_a_graph_that_cannot_be_loaded(tmp_path):
    path = tmp_path / "damaged.onnx"
    data = bytearray(resolve("general").read_bytes())
    data[1000:1200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(ModelError, match="cannot load it"):
        Session(path)


def test_several_inputs_are_refused():
    with pytest.raises(ModelError, match="expected one input, found 2: planes, more"):
        Session(DATA / "two_inputs.onnx")
