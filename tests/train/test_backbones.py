"""Networks of timm: names, weights, sizes, and how images are prepared for them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from imgret.demo import samples
from imgret.errors import (
    InvalidInputError,
    MissingExtraError,
    ModelError,
    UnknownNameError,
)
from imgret.models.processor import from_timm
from imgret.train import RECIPES, train
from imgret.train.networks import backbones, build, find_network, fold
from imgret.train.recipes import on_network

pytestmark = pytest.mark.usefixtures("timm")
PHOTO = samples.draw("rose", 1, size=(230, 170))


def features(network, pixels):
    """The pooled features, as timm's own documentation takes them."""
    with torch.no_grad():
        return network.eval().forward_head(network.forward_features(pixels), pre_logits=True)


def test_an_unknown_name_gets_near_ones():
    with pytest.raises(UnknownNameError, match=r"has no 'resnett18'.*'resnet18'.*list_models"):
        find_network("timm:resnett18")
    with pytest.raises(
        UnknownNameError, match=r"no weights 'mine' of 'resnet18'; known: .*a1_in1k"
    ):
        find_network("timm:resnet18.mine")
    with pytest.raises(UnknownNameError, match="has no 'hf-hub:timm/resnet18'"):
        find_network("timm:hf-hub:timm/resnet18")


def test_weights_are_for_timm_only(tmp_path):
    with pytest.raises(InvalidInputError, match=r"network='timm:NAME'.*for 'lite0'"):
        find_network("lite0", weights=tmp_path / "x.pth")


@pytest.mark.parametrize("form", ["pth", "safetensors", "wrapped"])
def test_weights_come_from_a_file(form, timm, weights, tmp_path):
    path = weights("test_resnet")
    state = torch.load(path, weights_only=True)
    if form == "safetensors":
        from safetensors.torch import save_file

        path = tmp_path / "model.safetensors"
        save_file(state, path)
    elif form == "wrapped":  # a checkpoint of a training on several devices
        path = tmp_path / "model.pth.tar"
        moved = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "state_dict": moved}, path)
    original = timm.create_model("test_resnet")
    original.load_state_dict(state)
    made = backbones.create("timm:test_resnet", weights=path).eval()
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(made(x), features(original, x))
    assert made.channels == 96
    assert not any("fc" in key for key in made.network.state_dict())


def test_weights_of_another_network_are_refused(weights, tmp_path):
    with pytest.raises(
        ModelError, match=r"test_vit\.pth: expected weights of test_resnet, found 0 of \d+ that fit"
    ):
        backbones.create("test_resnet", weights=weights("test_vit"))
    state = torch.load(weights("test_resnet"), weights_only=True)
    name = next(key for key in state if key.endswith("conv1.weight"))
    state[name] = state[name][:, :1]
    torch.save(state, tmp_path / "narrow.pth")
    with pytest.raises(ModelError, match=rf"missing: {name} of shape .* instead of .*; name the"):
        backbones.create("test_resnet", weights=tmp_path / "narrow.pth")


def test_files_that_are_no_weights_are_refused(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    for name, told in (
        ("nowhere.pth", "found none there"),
        ("text.pth", "found something else"),
        ("list.pth", "weights by name"),
        (broken.name, "damage or other data"),
    ):
        if name == "text.pth":
            (tmp_path / name).write_text("weights", encoding="utf-8")
        if name == "list.pth":
            torch.save([torch.zeros(3)], tmp_path / name)
        with pytest.raises(ModelError, match=rf"{name}: expected .*{told}"):
            backbones.create("test_resnet", weights=tmp_path / name)


class Opens:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_file_of_weights_is_not_run(tmp_path):
    torch.save({"state_dict": Opens(str(tmp_path / "made"))}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match=r"evil\.pth: expected weights"):
        backbones.create("test_resnet", weights=tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()


def test_a_transformer_takes_one_size(weights):
    kind = find_network("timm:test_vit", weights=weights("test_vit"))
    assert kind.size == 160
    assert find_network("timm:test_resnet").size is None
    other = backbones.create("test_vit", size=96, weights=weights("test_vit"))
    assert other(torch.zeros(1, 3, 96, 96)).shape == (1, 64)
    with pytest.raises(ModelError, match=r"test_vit: expected .* images of 97 px"):
        backbones.create("test_vit", size=97)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "resnet10t"])
def test_images_are_prepared_as_timm_does(name):
    config = backbones.data_config(name)
    preprocess = from_timm(config)
    std, mean = (np.array(config[key]).reshape(3, 1, 1) for key in ("std", "mean"))
    levels = (
        (255 * (pixels * std + mean))
        for pixels in (
            preprocess.prepare([PHOTO])[0],
            backbones.own_transform(config)(PHOTO)[0].numpy(),
        )
    )
    difference = np.abs(np.subtract(*levels))
    assert difference.max() < 3
    assert difference.mean() < 0.3


def test_the_scaling_is_that_of_the_data_config():
    scaling = find_network("timm:resnet10t").scaling
    assert scaling.mean == pytest.approx((123.675, 116.28, 103.53))
    assert scaling.std == pytest.approx((58.395, 57.12, 57.375))


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:test_vit", "timm:test_efficientnet"])
def test_a_head_goes_on_the_pooled_features(name, weights):
    kind = find_network(name, weights=weights(name.removeprefix("timm:")))
    network = build(kind, dim=16).eval()
    x = torch.randn(3, 3, 160, 160)
    with torch.no_grad():
        before = network(x)
        pooled = network.trained[0](x)
        expected = network.norm(network.embedding(pooled))
        fold(network)  # of these networks nothing is folded here
        after = network(x)
    assert before.shape == (3, 16)
    torch.testing.assert_close(before, expected)
    torch.testing.assert_close(after, before)


def test_a_frozen_backbone_keeps_its_weights(weights):
    kind = find_network("timm:test_resnet", weights=weights("test_resnet"))
    network = build(kind, dim=16, freeze=1).train()
    before = {name: value.clone() for name, value in network.frozen.state_dict().items()}
    network(torch.randn(4, 3, 64, 64)).square().sum().backward()
    assert before.keys()
    for name, value in network.frozen.state_dict().items():
        assert torch.equal(value, before[name]), name  # running statistics as well
    assert all(p.grad is None for p in network.frozen.parameters())
    assert network.embedding.weight.grad is not None


def test_a_recipe_for_another_network():
    recipe = on_network(RECIPES["finetune"], "timm:test_resnet")
    assert (recipe.network, recipe.freeze, recipe.size) == ("timm:test_resnet", 0, 256)
    assert recipe.backbone_lr == 0.1
    fixed = on_network(RECIPES["finetune"], "timm:test_vit", size=160)
    assert (fixed.size, fixed.sides) == (160, ((0.0, 160),))
    own = on_network(RECIPES["finetune"], "lite1")
    assert own == replace(RECIPES["finetune"], network="lite1")
    assert on_network(RECIPES["finetune"], "lite0") is RECIPES["finetune"]


def test_several_sizes_are_refused_where_one_is_possible(flowers, tmp_path):
    recipe = replace(RECIPES["finetune"], network="timm:test_vit", freeze=0)
    with pytest.raises(InvalidInputError, match=r"one size for timm:test_vit, found .*160, 192"):
        train(flowers, tmp_path / "m.onnx", recipe=recipe)
    assert list(tmp_path.iterdir()) == []


def test_wrong_weights_leave_nothing_behind(flowers, weights, tmp_path):
    with pytest.raises(ModelError, match="expected weights of test_resnet"):
        train(flowers, tmp_path / "m.onnx", network="timm:test_resnet", weights=weights("test_vit"))
    assert list(tmp_path.iterdir()) == []


def test_without_timm_the_install_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"timm needs .*pip install 'imgret\[timm\]'"):
        find_network("timm:resnet18")


def test_a_timm_that_cannot_be_imported_is_told(tmp_path):
    (tmp_path / "timm.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')", encoding="utf-8"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from imgret.train.networks import find_network\n"
        "find_network('timm:resnet18')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    told = done.stderr.splitlines()[-1]
    assert told.startswith("imgret.errors.TrainingError: timm: expected an installation that can")
    assert "torchvision::nms does not exist" in told
    assert torch.__version__ in told
