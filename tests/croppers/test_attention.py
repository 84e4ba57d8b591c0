"""Crops to what an embedding comes from; shares of it are exact."""

import numpy as np
import pytest
from skimage import data

from imgret import images, registry
from imgret.abc import Cropper
from imgret.croppers import AttentionCropper, CombinedCropper
from imgret.demo import samples
from imgret.embedders import OnnxEmbedder
from imgret.errors import InvalidInputError, ModelError, UnknownNameError
from imgret.models.features import FeatureModel
from imgret.models.model import Model
from imgret.types import Box


@pytest.mark.parametrize("name", ["general", "flowers102", "flowers102-large", "flowers102-resnet"])
def test_places_add_up_to_the_embedding(name):
    """The way that was followed, gone forth, gives what the model gives."""
    model = Model(name, kind="embedder")
    seen = FeatureModel(model)
    picture = data.coffee()
    features = seen._session.run(model.preprocess.prepare([picture]), seen._tensor)[0]
    pooled = features.mean(axis=(1, 2))
    vector = pooled
    for step in seen._steps:
        if hasattr(step, "weight"):
            vector = vector @ step.weight
        elif hasattr(step, "by"):
            vector = vector + step.by
        elif hasattr(step, "share"):
            vector = vector - step.share * vector.mean()
        else:
            vector = vector ** np.float32(step.exponent)
    (whole,) = model.run([picture])
    np.testing.assert_allclose(
        vector / np.linalg.norm(vector), whole / np.linalg.norm(whole), rtol=0, atol=1e-5
    )
    shares = seen.shares(picture)
    assert shares.shape == features.shape[1:]
    constant = sum(step.by for step in seen._steps if hasattr(step, "by"))
    power = next((step.exponent for step in seen._steps if hasattr(step, "exponent")), 1)
    expected = power * (vector @ (vector - constant))
    assert shares.mean() == pytest.approx(float(expected), rel=1e-3)


def _flower_in_a_corner(side=320, small=110):
    """A drawn flower, small, at the lower right of soft green."""
    flower = images.resize(samples.draw("sunflower", 3), small, small)
    rng = np.random.default_rng(0)
    ground = rng.integers((20, 60, 20), (60, 110, 60), (4, 4, 3)).astype(np.uint8)
    picture = images.resize(ground, side, side).copy()
    picture[190 : 190 + small, 200 : 200 + small] = flower
    return picture, Box(200, 190, 200 + small, 190 + small)


@pytest.mark.parametrize("name", ["general", "flowers102"])
def test_attention_goes_where_the_flower_is(name):
    picture, flower = _flower_in_a_corner()
    cropper = AttentionCropper(name, threshold=0.6)
    (found,) = cropper.detect([picture])
    x, y = (found.x0 + found.x1) / 2, (found.y0 + found.y1) / 2
    assert flower.x0 < x < flower.x1
    assert flower.y0 < y < flower.y1
    seen = cropper.saliency(picture)
    assert seen[flower.y0 : flower.y1, flower.x0 : flower.x1].mean() > 2 * seen.mean()


def test_a_larger_input_makes_a_finer_map():
    picture, _ = _flower_in_a_corner()
    coarse, fine = (AttentionCropper("flowers102", size=size) for size in (224, 448))
    assert coarse._features.shares(picture).shape == (7, 7)
    assert fine._features.shares(picture).shape == (14, 14)
    assert fine.config()["size"] == 448


def test_an_embedder_object_does_as_its_name():
    picture, _ = _flower_in_a_corner()
    by_name = AttentionCropper("flowers102", threshold=0.5)
    by_object = AttentionCropper(OnnxEmbedder("flowers102"), threshold=0.5)
    assert by_object.config() == by_name.config()
    again = registry.create("croppers", "attention", **by_name.config())
    assert again.detect([picture]) == by_object.detect([picture]) == by_name.detect([picture])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"embedder": 7}, InvalidInputError, "embedder: expected the name of a built-in"),
        ({"embedder": "generl"}, UnknownNameError, "general"),
        ({"embedder": "saliency"}, ModelError, "expected a model of kind 'embedder'"),
        ({"threshold": 0}, InvalidInputError, "threshold"),
    ],
)
def test_bad_options_are_told(options, error, message):
    with pytest.raises(error, match=message):
        AttentionCropper(**options)


def test_an_embedding_that_is_not_pooled_is_told():
    model = Model("general", kind="embedder", output="embedding")
    model.output = "image"
    with pytest.raises(ModelError, match="expected an embedding that is pooled"):
        FeatureModel(model)


# -- combined ----------------------------------------------------------------------------------


def _fixed(box):
    """Make a cropper that always answers with one box."""

    class Fixed(Cropper):
        name = "fixed"

        def config(self):
            return {}

        def _detect(self, images):
            return [box for _ in images]

    return Fixed()


A, B = Box(10, 10, 60, 60), Box(40, 30, 90, 90)
BLANK = np.zeros((100, 100, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("how", "boxes", "expected"),
    [
        ("intersection", [A, B], Box(40, 30, 60, 60)),
        ("product", [A, B], Box(40, 30, 60, 60)),
        ("mean", [A, B], Box(10, 10, 90, 90)),
        ("intersection", [A, None], A),
        ("product", [None, B], B),
        ("intersection", [A, Box(70, 70, 90, 90)], None),
        ("product", [A, Box(70, 70, 90, 90)], None),
        ("mean", [None, None], None),
    ],
)
def test_boxes_combine(how, boxes, expected):
    cropper = CombinedCropper(list(map(_fixed, boxes)), how=how, margin=0)
    assert cropper.detect([BLANK]) == [expected]
    assert cropper.boxes([BLANK]) == [expected or Box.full(BLANK)]


def test_weights_decide():
    heavy = CombinedCropper([_fixed(A), _fixed(B)], how="mean", weights=[4, 1], margin=0)
    assert heavy.detect([BLANK]) == [A]  # the other one has a fifth, below the threshold


def test_too_little_and_too_much_fall_back_to_the_frame():
    little = CombinedCropper([_fixed(A), _fixed(B)], how="intersection", margin=0, least=0.1)
    much = CombinedCropper([_fixed(A), _fixed(B)], how="mean", margin=0, most=0.5)
    assert little.boxes([BLANK]) == much.boxes([BLANK]) == [Box.full(BLANK)]


def test_config_makes_it_again():
    first = CombinedCropper(
        ["spectral", {"name": "center", "config": {"fraction": 0.5}}],
        how="mean",
        weights=[2, 1],
        largest=True,
    )
    again = registry.create("croppers", "combined", **first.config())
    assert again.config() == first.config()
    picture = data.coffee()
    assert again.detect([picture]) == first.detect([picture])


@pytest.mark.parametrize(
    ("croppers", "options", "error", "message"),
    [
        (["spectral"], {}, InvalidInputError, "croppers: expected a list of at least two"),
        ("spectral", {}, InvalidInputError, "croppers: expected a list of at least two"),
        (["spectral", "centre"], {}, UnknownNameError, "Did you mean 'center'"),
        (["spectral", 3], {}, InvalidInputError, "cropper: expected a registered name"),
        (["spectral", {"nme": "x"}], {}, InvalidInputError, "expected the keys 'name'"),
        (["spectral", "center"], {"how": "sum"}, InvalidInputError, "how: expected one of"),
        (["spectral", "center"], {"weights": [1]}, InvalidInputError, "one for each of 2"),
        (["spectral", "center"], {"weights": [1, 0]}, InvalidInputError, "weights"),
        (["spectral", "center"], {"weights": [1, float("inf")]}, InvalidInputError, "finite"),
        (
            ["spectral", "center"],
            {"weights": [1, 1], "how": "intersection"},
            InvalidInputError,
            "weights: expected none",
        ),
        (["spectral", "center"], {"largest": 1}, InvalidInputError, "largest"),
    ],
)
def test_bad_combinations_are_told(croppers, options, error, message):
    with pytest.raises(error, match=message):
        CombinedCropper(croppers, **options)
