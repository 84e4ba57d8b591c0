import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import sklearn.datasets

from imgret import images, registry
from imgret.embedders import OnnxEmbedder
from imgret.errors import InvalidInputError, ModelError
from imgret.models import Preprocess

DATA = Path(__file__).parents[1] / "data"
PLAIN = {"size": 8, "scaling": None}


@pytest.fixture(scope="module")
def photos():
    samples = [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee")]
    return samples + list(sklearn.datasets.load_sample_images().images)


@pytest.fixture(scope="module")
def general():
    return OnnxEmbedder()


def cosine(a, b):
    return (a * b).sum(axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_general_gives_unit_vectors(general, photos):
    vectors = general.embed(photos)
    assert vectors.shape == (5, general.dim) == (5, 1280)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_alike_pictures_have_alike_embeddings(general, photos):
    mirrored = [np.ascontiguousarray(photo[:, ::-1]) for photo in photos]
    similarity = general.embed(photos) @ general.embed(mirrored).T
    np.testing.assert_array_equal(similarity.argmax(axis=1), np.arange(len(photos)))


def test_one_at_a_time_and_batched_agree(general, photos):
    alone = np.concatenate([general.embed([photo]) for photo in photos])
    for batch_size in (2, 5):
        together = general.embed(photos, batch_size=batch_size)
        np.testing.assert_allclose(cosine(alone, together), 1, atol=1e-5)


def test_many_threads_give_what_one_gives(general, photos):
    expected = general.embed(photos)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: general.embed(photos), range(8)):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_reduced_decoding_hardly_moves_the_embedding(general, photos):
    moved = []
    for photo in photos:
        for factor in (6.1, 12.2):
            scale = factor * general.min_side / min(photo.shape[:2])
            large = images.resize(photo, *(round(side * scale) for side in photo.shape[1::-1]))
            data = images.encode(large, "jpeg", quality=90)
            full, reduced = images.decode(data), images.decode(data, min_side=general.min_side)
            moved.append(1 - cosine(*general.embed([full.image, reduced.image])))
            assert full.image.shape[0] >= 2 * reduced.image.shape[0]
    assert max(moved) < 0.005


def test_even_a_single_pixel_can_be_embedded(general):
    for shape in ((1, 1, 3), (1, 500, 3), (3, 2, 3)):
        assert np.isfinite(general.embed([np.zeros(shape, np.uint8)])).all()


def test_size_is_a_choice(general, photos):
    larger = OnnxEmbedder(size=288)
    assert larger.min_side == 329
    assert larger.fingerprint != general.fingerprint
    assert larger.config() == {"size": 288}
    similarity = cosine(larger.embed(photos), general.embed(photos))
    assert (similarity > 0.5).all()
    assert (similarity < 0.999).all()


def test_the_fingerprint_tells_what_changes_the_embedding(general):
    told = general._model.bundle.input
    assert general.fingerprint == f"sha256:{general.fingerprint[7:71]}"
    same = [OnnxEmbedder(size=224), OnnxEmbedder(batch_size=1), OnnxEmbedder(preprocess=told)]
    assert {embedder.fingerprint for embedder in same} == {general.fingerprint}
    squash = Preprocess(size=224, resize="squash", scaling=None, layout="NHWC", dtype="uint8")
    assert OnnxEmbedder(preprocess=squash).fingerprint != general.fingerprint


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": 256},
        {"batch_size": 2, "providers": ["CPUExecutionProvider"]},
        {"preprocess": Preprocess(size=192, scaling=None, layout="NHWC", dtype="uint8")},
    ],
)
def test_the_registry_makes_it_again_from_its_config(options, photos):
    embedder = registry.create("embedders", "general", **options)
    config = json.loads(json.dumps(embedder.config()))
    again = registry.create("embedders", embedder.name, **config)
    assert again.fingerprint == embedder.fingerprint
    assert (again.config(), again.batch_size) == (config, embedder.batch_size)
    np.testing.assert_array_equal(again.embed(photos[:1]), embedder.embed(photos[:1]))


def test_a_foreign_file_needs_the_facts():
    with pytest.raises(ModelError, match=r"found none; give them, for example preprocess="):
        OnnxEmbedder(DATA / "fixed.onnx")


def test_a_foreign_file_of_one_picture_at_a_time():
    embedder = OnnxEmbedder(DATA / "fixed.onnx", preprocess=PLAIN)
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))
    expected = np.stack(pictures).transpose(0, 3, 1, 2).reshape(3, -1)
    np.testing.assert_array_equal(embedder.embed(pictures), expected)
    assert embedder.dim == 192
    assert embedder.config()["model"] == str(DATA / "fixed.onnx")
    again = OnnxEmbedder(**embedder.config())
    assert again.fingerprint == embedder.fingerprint


def test_a_foreign_file_of_several_outputs():
    path = DATA / "foreign.onnx"
    with pytest.raises(ModelError, match=r"flat, mean, map, found none; give .*--tensor"):
        OnnxEmbedder(path, preprocess=PLAIN)
    with pytest.raises(ModelError, match="found 'pooled'"):
        OnnxEmbedder(path, preprocess=PLAIN, output="pooled")
    with pytest.raises(ModelError, match=r"of shape \(n, dim\), found \(1, 3, 8, 8\)"):
        OnnxEmbedder(path, preprocess=PLAIN, output="map")
    mean = OnnxEmbedder(path, preprocess=PLAIN, output="mean")
    red = np.zeros((20, 10, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_array_equal(mean.embed([red]), [[200, 0, 0]])
    flat = OnnxEmbedder(path, preprocess=PLAIN, output="flat")
    assert len({mean.fingerprint, flat.fingerprint}) == 2
    assert OnnxEmbedder(**mean.config()).dim == 3


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"size": 9}, r"float32 and shape \(any, 3, 9, 9\) \(NCHW\)"),
        ({"layout": "NHWC"}, r"found float32 of shape \(1, 3, 8, 8\)"),
        ({"dtype": "uint8"}, "expected an input of uint8"),
    ],
)
def test_an_input_that_the_graph_does_not_take(change, found):
    with pytest.raises(ModelError, match=found):
        OnnxEmbedder(DATA / "fixed.onnx", preprocess=PLAIN | change)


def test_a_size_that_the_graph_does_not_take():
    with pytest.raises(ModelError, match=r"\(any, 3, 16, 16\)"):
        OnnxEmbedder(DATA / "fixed.onnx", preprocess=PLAIN, size=16)


def test_bad_options_are_told():
    with pytest.raises(InvalidInputError, match="batch_size"):
        OnnxEmbedder(batch_size=0)
    with pytest.raises(InvalidInputError, match="preprocess: expected the keys"):
        OnnxEmbedder(preprocess={"size": 8, "scaling": None, "mean": 0})
    with pytest.raises(ModelError, match="found TensorProvider"):
        OnnxEmbedder(providers=["TensorProvider"])


def test_a_copy_of_a_builtin_model_is_the_same_model(tmp_path, general):
    copy = OnnxEmbedder(shutil.copy(general._model.path, tmp_path / "mine.onnx"))
    assert copy.fingerprint == general.fingerprint
    assert copy.config() == {"model": str(tmp_path / "mine.onnx")}


def test_heavy_libraries_load_on_first_use():
    code = (
        "import sys, imgret.embedders, imgret.models\n"
        "print([name for name in ('cv2', 'onnxruntime', 'faiss') if name in sys.modules])"
    )
    done = subprocess.run(  # our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
