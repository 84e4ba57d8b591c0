"""Folders as people download them, beside what `transformers` says of the same images."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from imgret.embedders import OnnxEmbedder
from imgret.errors import ModelError, UnsupportedError
from imgret.models.folder import read_folder

MODELS = Path(__file__).parents[1] / "data" / "models"
REFERENCE = np.load(MODELS / "reference.npz")
TEXTS = json.loads(str(REFERENCE["texts"]))


@pytest.fixture(scope="session")
def photos():
    """Twenty photos, whole and in parts."""
    place = Path(__file__).with_name("reference_images.py")
    spec = importlib.util.spec_from_file_location("reference_images", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.reference_images().values())


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def copied(tmp_path, *names, **renamed):
    """A folder of some files of the models, under other names."""
    for name in names:
        target = tmp_path / Path(name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODELS / name, target)
    for new, name in renamed.items():
        target = tmp_path / new.replace("__", "/").replace("_dot_", ".")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODELS / name, target)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["fast", "pil"])
@pytest.mark.parametrize(
    ("folder", "options", "kind", "least"),
    [
        ("clip", {}, "clip", 0.9999),
        ("clip-combined", {}, "clip", 0.9999),
        ("clip", {"variant": "fp16"}, "clip", 0.9999),
        ("clip", {"variant": "quantized"}, "clip", 0.999),
        ("siglip", {}, "siglip", 0.9999),
        ("dinov2", {}, "dinov2", 0.9999),
        ("dinov2-external", {}, "dinov2", 0.9999),
        ("vit", {}, "vit", 0.9999),
    ],
)
def test_images_are_embedded_as_by_transformers(photos, folder, options, kind, least, processor):
    embedder = OnnxEmbedder(MODELS / folder, **options)
    expected = REFERENCE[f"{kind}/image/{processor}"]
    assert embedder.dim == expected.shape[1]
    assert cosines(embedder.embed(photos), expected).min() >= least


@pytest.mark.parametrize("folder", ["clip", "clip-combined", "siglip"])
@pytest.mark.filterwarnings("ignore:text. expected at most")
def test_texts_are_embedded_as_by_transformers(folder):
    embedder = OnnxEmbedder(MODELS / folder)
    assert embedder.reads_text
    kind = folder.removesuffix("-combined")
    together = embedder.embed_text(TEXTS)
    assert cosines(together, REFERENCE[f"{kind}/text"]).min() >= 0.99999
    alone = np.concatenate([embedder.embed_text([text]) for text in TEXTS])
    assert cosines(alone, together).min() >= 0.99999


def test_pooling(photos):
    mean = OnnxEmbedder(MODELS / "dinov2", pooling="mean")
    assert cosines(mean.embed(photos), REFERENCE["dinov2/mean"]).min() >= 0.9999
    assert mean.fingerprint != OnnxEmbedder(MODELS / "dinov2").fingerprint
    with pytest.raises(ModelError, match=r"shape \(n, dim\).*pooling='cls'"):
        OnnxEmbedder(MODELS / "dinov2", pooling="none")
    with pytest.raises(ValueError, match="pooling: expected 'cls', 'mean' or 'none', found 'max'"):
        OnnxEmbedder(MODELS / "dinov2", pooling="max")


# -- layouts -----------------------------------------------------------------------------------


def test_open_clip(tmp_path, photos):
    folder = copied(
        tmp_path,
        "clip/tokenizer.json",
        "clip/tokenizer_config.json",
        visual_dot_onnx="clip/onnx/vision_model.onnx",
        textual_dot_onnx="clip/onnx/text_model.onnx",
    )
    facts = {
        "model_cfg": {"text_cfg": {"context_length": 77}},
        "preprocess_cfg": {
            "size": [64, 64],
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(facts))
    embedder = OnnxEmbedder(folder)
    # It cuts out the middle at the nearest even pixel, and so half a pixel off at times.
    found = cosines(embedder.embed(photos), REFERENCE["clip/image/pil"])
    assert np.median(found) >= 0.9999
    assert cosines(embedder.embed_text(["a red rose"]), REFERENCE["clip/text"][:1]) >= 0.99999


def test_immich(tmp_path, photos):
    folder = copied(
        tmp_path,
        visual__model_dot_onnx="clip/onnx/vision_model.onnx",
        textual__model_dot_onnx="clip/onnx/text_model.onnx",
        textual__tokenizer_dot_json="clip/tokenizer.json",
        textual__tokenizer_config_dot_json="clip/tokenizer_config.json",
    )
    preprocess = {
        "size": 64,
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    (folder / "visual" / "preprocess_cfg.json").write_text(json.dumps(preprocess))
    (folder / "config.json").write_text(json.dumps({"text_cfg": {"context_length": 77}}))
    embedder = OnnxEmbedder(folder)
    assert embedder.embed(photos).shape == (20, 24)
    assert cosines(embedder.embed_text(["a red rose"]), REFERENCE["clip/text"][:1]) >= 0.99999


def test_a_folder_for_each_tower(tmp_path, photos):
    images = copied(
        tmp_path / "images",
        "clip/config.json",
        "clip/preprocessor_config.json",
        model_dot_onnx="clip/onnx/vision_model.onnx",
    )
    texts = copied(
        tmp_path / "texts",
        "clip/config.json",
        "clip/tokenizer.json",
        "clip/tokenizer_config.json",
        model_dot_onnx="clip/onnx/text_model.onnx",
    )
    embedder = OnnxEmbedder(images, text_model=texts)
    assert cosines(embedder.embed(photos), REFERENCE["clip/image/pil"]).min() >= 0.9999
    assert cosines(embedder.embed_text(["a red rose"]), REFERENCE["clip/text"][:1]) >= 0.99999
    again = OnnxEmbedder(**embedder.config())
    assert again.fingerprint == embedder.fingerprint
    with pytest.raises(ModelError, match="reads text; give the folder of the image tower"):
        OnnxEmbedder(texts)


def test_timm(tmp_path, photos):
    folder = copied(tmp_path, "vit/model.onnx")
    facts = {
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "interpolation": "bilinear",
            "crop_mode": "squash",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        }
    }
    (folder / "config.json").write_text(json.dumps(facts))
    embedder = OnnxEmbedder(folder)
    assert cosines(embedder.embed(photos), REFERENCE["vit/image/pil"]).min() >= 0.9999


# -- what is not as it should be -----------------------------------------------------------------


def test_a_folder_without_a_model(tmp_path):
    (tmp_path / "README.md").write_text("weights are elsewhere")
    with pytest.raises(ModelError, match=r"found a folder with no ONNX file.*model\.onnx"):
        OnnxEmbedder(tmp_path)


def test_nothing_says_how_images_are_prepared(tmp_path):
    folder = copied(tmp_path, "dinov2/config.json", model_dot_onnx="dinov2/onnx/model.onnx")
    with pytest.raises(ModelError, match=r"preprocessor_config\.json.*or give preprocess="):
        OnnxEmbedder(folder)
    given = OnnxEmbedder(folder, preprocess={"size": 64, "scaling": None})
    assert given.dim == 48


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 5}, "resample: expected a way of preparing images.*found 5"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"crop_size": {"height": 64, "width": 32}}, "crop_size.*a square is needed"),
        ({"do_center_crop": False}, "size.*no common size"),
        ({"image_std": [0, 1, 1]}, "std above 0"),
    ],
)
def test_what_cannot_be_prepared_is_refused(tmp_path, change, message):
    folder = copied(tmp_path, "dinov2/config.json", model_dot_onnx="dinov2/onnx/model.onnx")
    facts = json.loads((MODELS / "dinov2" / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(facts | change))
    with pytest.raises(ModelError, match=message):
        OnnxEmbedder(folder)


def test_damaged_files_are_named(tmp_path):
    folder = copied(
        tmp_path, "dinov2/preprocessor_config.json", model_dot_onnx="dinov2/onnx/model.onnx"
    )
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: expected JSON"):
        OnnxEmbedder(folder)
    (folder / "config.json").unlink()
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"model\.onnx: expected an ONNX file"):
        OnnxEmbedder(folder)


def test_a_variant_that_is_not_there():
    with pytest.raises(ModelError, match="one of the plain one, 'fp16', 'quantized'"):
        OnnxEmbedder(MODELS / "clip", variant="q4")


def test_variants_without_a_plain_one_are_a_choice(tmp_path):
    folder = copied(
        tmp_path,
        "clip/config.json",
        "clip/preprocessor_config.json",
        onnx__vision_model_fp16_dot_onnx="clip/onnx/vision_model_fp16.onnx",
        onnx__vision_model_quantized_dot_onnx="clip/onnx/vision_model_quantized.onnx",
    )
    with pytest.raises(ModelError, match="expected a choice among 'fp16', 'quantized'.*variant="):
        OnnxEmbedder(folder)
    (folder / "onnx" / "vision_model_fp16.onnx").unlink()
    assert OnnxEmbedder(folder).dim == 24  # the only one


def test_a_missing_tokenizer_is_named(tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(MODELS / "clip", folder)
    (folder / "tokenizer.json").unlink()
    embedder = OnnxEmbedder(folder)
    assert not embedder.reads_text
    with pytest.raises(UnsupportedError, match=r"no tokenizer\.json; download that file"):
        embedder.embed_text(["a rose"])
    assert embedder.embed([np.zeros((8, 8, 3), np.uint8)]).shape == (1, 24)


def test_towers_of_two_models_do_not_fit(tmp_path):
    embedder = OnnxEmbedder(MODELS / "clip", text_model=MODELS / "siglip")
    with pytest.raises(ModelError, match="expected vectors of 24 numbers.*found 48"):
        embedder.embed_text(["a rose"])


def test_weights_in_a_second_file(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "dinov2-external", folder)
    before = OnnxEmbedder(folder).fingerprint
    data = bytearray((folder / "model.onnx.data").read_bytes())
    data[1000] ^= 1
    (folder / "model.onnx.data").write_bytes(data)
    assert OnnxEmbedder(folder).fingerprint != before
    (folder / "model.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"weights in a second file.*model\.onnx\.data"):
        OnnxEmbedder(folder)


def test_numbers_too_large_for_float16(monkeypatch):
    embedder = OnnxEmbedder(MODELS / "clip", variant="fp16")
    monkeypatch.setattr(
        type(embedder._model), "run", lambda *_: np.full((1, 24), np.nan, np.float32)
    )
    with pytest.raises(ModelError, match="NaN or infinity, as float16 gives.*float32"):
        embedder.embed([np.zeros((8, 8, 3), np.uint8)])


def test_each_thing_that_changes_an_embedding_is_in_the_fingerprint(tmp_path):
    def fingerprint(change=lambda _: None, **options):
        folder = tmp_path / "m"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(MODELS / "clip", folder)
        change(folder)
        return OnnxEmbedder(folder, **options).fingerprint

    def edit(name, old, new):
        def change(folder):
            text = (folder / name).read_text()
            assert old in text
            (folder / name).write_text(text.replace(old, new))

        return change

    seen = [
        fingerprint(),
        fingerprint(edit("preprocessor_config.json", '"resample": 3', '"resample": 2')),
        fingerprint(edit("tokenizer.json", '"Lowercase"', '"NFC"')),
        fingerprint(variant="fp16"),
        fingerprint(variant="quantized"),
        fingerprint(output="last_hidden_state"),
        fingerprint(output="last_hidden_state", pooling="mean"),
    ]
    assert len(set(seen)) == len(seen)
    assert fingerprint() == seen[0]


def test_the_combined_graph_is_cut_in_two():
    facts = read_folder(MODELS / "clip-combined")
    assert facts.combined
    assert facts.text.combined
    embedder = OnnxEmbedder(MODELS / "clip-combined")
    assert [each.name for each in embedder._model.session.inputs] == ["pixel_values"]
    with pytest.raises(ModelError, match="depend on images alone, found that it needs.*input_ids"):
        OnnxEmbedder(MODELS / "clip-combined", output="logits_per_image")
