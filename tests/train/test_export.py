"""A network that is already trained, written to a file by one call."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from imgret import OnnxEmbedder, Retriever, images, models
from imgret.demo import samples
from imgret.errors import InvalidInputError, ModelError, UnknownNameError
from imgret.models import Preprocess
from imgret.train import ExportReport, export

PHOTOS = [
    samples.draw(species, seed, size=(150, 110))
    for species in ("daisy", "rose", "tulip")
    for seed in range(2)
]
PREPROCESS = {
    "size": 32,
    "short_side": 40,
    "interpolation": "bicubic",
    "rounding": "even",
    "scaling": {"mean": [100, 110, 120], "std": [50, 60, 70]},
}


class Plain(nn.Module):
    """A small network with what exporters and copies can trip over.

    Its own values have the names of the graph's input and output, and dropout and batch
    normalisation answer in another way while it is trained.
    """

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.embedding = nn.Embedding(8, 16)
        self.drop = nn.Dropout(0.5)
        with torch.no_grad():
            self.norm.running_mean += torch.rand(8)

    def forward(self, pixels):
        planes = torch.relu(self.norm(self.image(pixels))).mean((2, 3))
        embedding = planes @ self.embedding(torch.arange(8))
        return self.drop(embedding)


class Answers(nn.Module):
    """A network that answers what a function makes of the pixels."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, pixels):
        return self.answer(pixels)


def flat(pixels):
    return nn.functional.avg_pool2d(pixels, 8).flatten(1)


@pytest.fixture(scope="module")
def from_timm(weights, tmp_path_factory):
    """The export of a convolutional network of timm by its name, in 32 and 8 bits."""
    path = tmp_path_factory.mktemp("timm") / "resnet.onnx"
    report = export(
        "timm:test_resnet",
        path,
        weights=weights("test_resnet"),
        images=PHOTOS,
        int8=True,
        licence="MIT",
        training_data="nothing",
    )
    return path, report


def test_the_file_is_an_embedder_at_once(from_timm, timm, weights):
    path, report = from_timm
    retriever = Retriever(embedder=str(path))
    retriever.add(PHOTOS, keys=[str(n) for n in range(len(PHOTOS))])
    assert retriever.search(PHOTOS[3][:, 2:-2], k=1)[0].key == "3"
    # What timm itself makes of the same photo.
    network = timm.create_model("test_resnet", num_classes=0).eval()
    state = torch.load(weights("test_resnet"), weights_only=True)
    network.load_state_dict(
        {key: value for key, value in state.items() if key in network.state_dict()}
    )
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    pil = pytest.importorskip("PIL.Image")
    with torch.no_grad():
        expected = network(transform(pil.fromarray(PHOTOS[0]))[None])[0].numpy()
    (found,) = OnnxEmbedder(path).embed([PHOTOS[0]])
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    assert report.own_parity > 0.999


def test_the_file_says_how_images_are_prepared(from_timm):
    path, _ = from_timm
    for file, precision in ((path, "fp32"), (path.with_suffix(".int8.onnx"), "int8")):
        facts = models.describe(file)["bundle"]
        assert facts["input"]["size"] == 160
        assert facts["input"]["short_side"] == 168
        assert facts["input"]["interpolation"] == "bilinear"
        assert facts["input"]["rounding"] == "even"
        assert facts["dim"] == 96
        assert facts["precision"] == precision
        assert facts["licence"] == "MIT"
        assert facts["training_data"] == "nothing"
        assert "timm test_resnet, weights test_resnet.pth" in facts["source"]
        assert models.check(file).ok
    assert facts["calibrated_on"] == "6 images given to imgret.train.export"


def test_the_report_states_what_was_measured(from_timm, tmp_path):
    path, report = from_timm
    assert isinstance(report, ExportReport)
    assert report.parity > 0.9999
    full, less = (OnnxEmbedder(file).embed(PHOTOS) for file in (path, report.int8_path))
    cosines = (full * less).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(less, axis=1)
    assert report.int8_cosine == pytest.approx(cosines.mean(), abs=1e-6)
    assert report.int8_least == pytest.approx(cosines.min(), abs=1e-6)
    assert 0.95 < report.int8_least < 1  # 8 bits do change something
    assert report.int8_path.stat().st_size < 0.4 * path.stat().st_size
    text = str(report)
    assert "dimension 96" in text
    assert f"(int8, 0.4 MB): cosine with fp32 {report.int8_cosine:.4f} on average" in text
    report.save(tmp_path / "report.json")
    facts = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert facts["preprocess"]["size"] == 160
    assert facts["int8_cosine"] == report.int8_cosine


def test_a_convolutional_network_takes_other_sizes(from_timm):
    path, report = from_timm
    assert report.any_size
    assert OnnxEmbedder(path, size=96).embed(PHOTOS[:1]).shape == (1, 96)


def test_a_transformer_of_timm_takes_one_size(timm, tmp_path):
    torch.manual_seed(3)
    network = timm.create_model("test_vit").train()
    report = export(network, tmp_path / "vit.onnx", images=PHOTOS[:2])
    assert network.training  # left as it was
    assert (report.dim, report.any_size) == (64, False)
    assert report.preprocess.interpolation == "bicubic"
    with torch.no_grad():
        pixels = torch.from_numpy(report.preprocess.prepare(PHOTOS))
        network.eval()
        expected = network.forward_head(network.forward_features(pixels), pre_logits=True).numpy()
    found = OnnxEmbedder(tmp_path / "vit.onnx").embed(PHOTOS)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(ModelError, match="expected an input of"):
        OnnxEmbedder(tmp_path / "vit.onnx", size=128)


def test_a_module_with_its_preprocessing(tmp_path):
    network = Plain().train()
    for number, photo in enumerate(PHOTOS):
        (tmp_path / f"{number}.png").write_bytes(images.encode(photo, "png"))
    report = export(
        network,
        tmp_path / "plain.onnx",
        preprocess=PREPROCESS,
        images=sorted(tmp_path.glob("*.png")),
        name="mine",
    )
    assert report.n_images == len(PHOTOS)
    assert report.own_parity is None
    embedder = OnnxEmbedder(tmp_path / "plain.onnx")
    with torch.no_grad():
        pixels = Preprocess.from_json(PREPROCESS).prepare(PHOTOS)
        expected = network.eval()(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(embedder.embed(PHOTOS), expected, atol=1e-5)
    facts = models.describe(tmp_path / "plain.onnx")["bundle"]
    assert facts["name"] == "mine"
    assert facts["licence"] == "NOASSERTION"
    assert {file.suffix for file in tmp_path.iterdir()} == {".png", ".onnx"}


def test_a_module_of_one_size_is_exported_for_it(tmp_path):
    fixed = Answers(lambda pixels: pixels.reshape(pixels.shape[0], 3, 32, 32).mean(3).flatten(1))
    report = export(fixed, tmp_path / "m.onnx", preprocess=PREPROCESS)
    assert not report.any_size
    assert report.drawn
    assert "drawn by imgret" in str(report)
    with pytest.raises(ModelError, match="expected an input of"):
        OnnxEmbedder(tmp_path / "m.onnx", size=64)


def test_a_file_that_answers_otherwise_is_not_written(tmp_path):
    def changed(pixels):
        return flat(pixels.abs() if torch.compiler.is_exporting() else pixels)

    with pytest.raises(ModelError, match=r"at least 0\.999 .*found -?0\.\d+; nothing was written"):
        export(Answers(changed), tmp_path / "m.onnx", preprocess=PREPROCESS, images=PHOTOS)
    assert list(tmp_path.iterdir()) == []


def vision(answer, place=""):
    """Stand in for a model of transformers."""
    network = Answers(None)
    network.forward = lambda **given: answer(given["pixel_values"])
    network.config = SimpleNamespace(model_type="vit", _name_or_path=str(place))
    return network


FACTS = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
}


class Processor:
    """Stand in for a processor of transformers."""

    def __init__(self, sign):
        self.sign = sign

    def to_json_string(self):
        return json.dumps(FACTS)

    def __call__(self, images, return_tensors):
        wanted = Preprocess(
            size=32,
            resize="squash",
            interpolation="bicubic",
            scaling={"mean": [127.5] * 3, "std": [127.5] * 3},
        )
        return {"pixel_values": self.sign * torch.from_numpy(wanted.prepare(images))}


def test_images_that_the_library_prepares_otherwise_are_noticed(tmp_path):
    report = export(vision(flat), tmp_path / "m.onnx", processor=Processor(1), images=PHOTOS)
    assert report.own_parity > 0.999
    assert report.preprocess.resize == "squash"
    before = (tmp_path / "m.onnx").read_bytes()
    with pytest.raises(ModelError, match=r"images prepared by imgret and .* found -.*Give preproc"):
        export(vision(flat), tmp_path / "m.onnx", processor=Processor(-1), images=PHOTOS)
    assert (tmp_path / "m.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("answer", "options", "told"),
    [
        (lambda x: x.flatten(2), {}, r"found \(2, 3, 1024\); give pooling='cls' .* or pooling="),
        (lambda x: x, {}, r"shape \(2, dim\) for two images, found \(2, 3, 32, 32\); give pooling"),
        (lambda x: x, {"pooling": "cls"}, r"found \(2, 3, 32, 32\); give pooling='mean'"),
        (lambda x: x.sum(), {}, r"found \(\); wrap the module"),
        (lambda x: "flower", {}, "found str; wrap the module in one that returns a tensor"),
        (lambda x: flat(x) * torch.nan, {}, "expected finite embeddings, found NaN"),
        (lambda x: x.reshape(-1, 7), {}, r"takes pixels of shape \(2, 3, 32, 32\), found Runtime"),
    ],
)
def test_an_output_that_is_no_embedding_is_refused(answer, options, told, tmp_path):
    with pytest.raises(ModelError, match=f"Answers: .*{told}"):
        export(Answers(answer), tmp_path / "m.onnx", preprocess=PREPROCESS, **options)
    assert list(tmp_path.iterdir()) == []


def test_one_of_several_outputs_is_chosen(tmp_path):
    several = Answers(lambda x: {"logits": x.sum((1, 2, 3)), "tokens": x.flatten(2).mT})
    with pytest.raises(UnknownNameError, match="output: expected one of logits, tokens, found Non"):
        export(several, tmp_path / "m.onnx", preprocess=PREPROCESS)
    with pytest.raises(UnknownNameError, match="position of one of the 2 outputs, found 2"):
        export(Answers(lambda x: (x, x)), tmp_path / "m.onnx", preprocess=PREPROCESS, output=2)
    options = {"preprocess": PREPROCESS, "images": PHOTOS, "output": "tokens", "pooling": "mean"}
    export(several, tmp_path / "m.onnx", **options)
    found = OnnxEmbedder(tmp_path / "m.onnx").embed(PHOTOS)
    expected = Preprocess.from_json(PREPROCESS).prepare(PHOTOS).mean((2, 3))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_is_needed_is_asked_for(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(ModelError, match=r"Plain: expected preprocess=.*'short_side': 256"):
        export(Plain(), path)
    with pytest.raises(ModelError, match=r"processor of the model, found none; give processor="):
        export(vision(flat), path)
    with pytest.raises(ModelError, match=rf"found none in {tmp_path}; give processor="):
        export(vision(flat, tmp_path), path)


def test_the_processor_is_read_from_the_model_s_folder(tmp_path):
    from imgret.train.sources import find_source

    (tmp_path / "preprocessor_config.json").write_text(json.dumps(FACTS), encoding="utf-8")
    for network, processor in (
        (vision(flat, tmp_path), None),
        (vision(flat), tmp_path),
        (vision(flat), FACTS),
    ):
        source = find_source(
            network,
            processor=processor,
            preprocess=None,
            pretrained=False,
            weights=None,
            size=None,
            output=None,
            pooling=None,
        )
        assert source.preprocess.interpolation == "bicubic"
        assert source.preprocess.scaling.mean == (127.5, 127.5, 127.5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"preprocess": PREPROCESS | {"layout": "NHWC"}}, "layout 'NCHW' and dtype 'float32'"),
        ({"preprocess": PREPROCESS, "pooling": "max"}, "pooling: expected 'cls'"),
        ({"preprocess": PREPROCESS, "weights": "w.pth"}, "weights: .* name of a network of timm"),
        ({"preprocess": PREPROCESS, "pretrained": True}, "pretrained: .* which has its weights"),
        ({"preprocess": PREPROCESS, "processor": FACTS}, "processor: .* plain torch module"),
        ({"preprocess": PREPROCESS, "images": []}, "at least one image, found none"),
        ({"preprocess": PREPROCESS, "images": "a.jpg"}, "several paths or arrays, found one"),
        ({"preprocess": {"size": 32}}, "scaling, which is missing"),
    ],
)
def test_arguments_are_checked(options, told, tmp_path):
    with pytest.raises(InvalidInputError, match=told):
        export(Plain(), tmp_path / "m.onnx", **options)


def test_paths_and_models_are_checked(timm, weights, tmp_path):
    with pytest.raises(InvalidInputError, match=r"an \.onnx file, found .*m\.pt"):
        export(Plain(), tmp_path / "m.pt", preprocess=PREPROCESS)
    with pytest.raises(InvalidInputError, match="a folder .*nowhere, found none"):
        export(Plain(), tmp_path / "nowhere" / "m.onnx", preprocess=PREPROCESS)
    with pytest.raises(InvalidInputError, match="name of a network of timm, found int"):
        export(3, tmp_path / "m.onnx")
    with pytest.raises(InvalidInputError, match="either weights=FILE or pretrained=True.*neither"):
        export("test_resnet", tmp_path / "m.onnx")
    with pytest.raises(InvalidInputError, match="either weights=FILE or pretrained=True.*both"):
        export("resnet18", tmp_path / "m.onnx", pretrained=True, weights=weights("test_resnet"))
    with pytest.raises(InvalidInputError, match="pooling: expected none for a network of timm"):
        export(timm.create_model("test_vit"), tmp_path / "m.onnx", pooling="mean")
    with pytest.raises(UnknownNameError, match="has no 'resnet-18'"):
        export("resnet-18", tmp_path / "m.onnx", pretrained=True)
    assert list(tmp_path.iterdir()) == []


def test_the_image_tower_of_clip_is_taken(timm, tmp_path):
    transformers = pytest.importorskip("transformers")
    tower = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2}
    tower["num_attention_heads"] = 2
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=tower | {"vocab_size": 64, "max_position_embeddings": 8, "eos_token_id": 1},
        vision_config=tower | {"image_size": 64, "patch_size": 16},
        projection_dim=24,
    )
    network = transformers.CLIPModel(config)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 72}, crop_size=64)
    report = export(network, tmp_path / "clip.onnx", processor=processor, images=PHOTOS)
    assert report.own_parity > 0.999
    assert report.dim == 24
    with torch.no_grad():
        pixels = processor(images=PHOTOS, return_tensors="pt")["pixel_values"]
        expected = network.eval().get_image_features(pixel_values=pixels)
        expected = getattr(expected, "pooler_output", expected).numpy()
    found = OnnxEmbedder(tmp_path / "clip.onnx").embed(PHOTOS)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_the_function_is_not_hidden_by_a_module():
    import importlib

    import imgret.train

    for name in ("export_model", "export_report", "onnx_graph", "finish", "saliency.finish"):
        importlib.import_module(f"imgret.train.{name}")
    assert imgret.train.export is export
    assert callable(imgret.train.export)
