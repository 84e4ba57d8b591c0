import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgret import images
from imgret.errors import InvalidInputError
from imgret.models import Preprocess, Scaling

IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
SCALINGS = [None, "per-image", "per-image-channel", Scaling((1, 2, 3), (4, 5, 6))]


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_pixels_as_they_are():
    image = picture(8, 8)
    prepare = Preprocess(size=8, scaling=None, layout="NHWC", dtype="uint8").prepare
    np.testing.assert_array_equal(prepare([image, image]), np.stack([image, image]))


def test_constants_a_channel_and_planes_first():
    image = picture(8, 8)
    batch = Preprocess(size=8, scaling=IMAGENET).prepare([image])
    assert batch.shape == (1, 3, 8, 8)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    for channel in range(3):
        expected = (image[..., channel] - IMAGENET["mean"][channel]) / IMAGENET["std"][channel]
        np.testing.assert_allclose(batch[0, channel], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("scaling", "axes"), [("per-image", (1, 2, 3)), ("per-image-channel", (2, 3))]
)
def test_scaled_by_the_picture_itself(scaling, axes):
    bright = picture(20, 30) // 2 + 100
    batch = Preprocess(size=16, scaling=scaling).prepare([bright, picture(16, 16)])
    np.testing.assert_allclose(batch.mean(axis=axes), 0, atol=1e-5)
    np.testing.assert_allclose(batch.std(axis=axes), 1, atol=1e-5)


def test_a_picture_of_one_colour_has_no_deviation():
    batch = Preprocess(size=4, scaling="per-image").prepare([np.full((9, 9, 3), 7, np.uint8)])
    np.testing.assert_array_equal(batch, 0)


def test_three_ways_to_make_a_square():
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, :20] = 255  # the left quarter is white
    made = {
        resize: Preprocess(size=8, scaling=None, resize=resize, layout="NHWC").prepare([wide])[0]
        for resize in ("crop", "squash", "pad")
    }
    assert (made["crop"] == 0).all()
    np.testing.assert_array_equal(made["squash"][:, :, 0], [[255] * 2 + [0] * 6] * 8)
    np.testing.assert_array_equal(made["pad"][2:6, :, 0], [[255] * 2 + [0] * 6] * 4)


def test_bars_have_the_grey_level_asked_for():
    tall = np.full((40, 20, 3), 9, np.uint8)
    pad = Preprocess(size=8, scaling=None, resize="pad", fill=114, layout="NHWC")
    np.testing.assert_array_equal(pad.prepare([tall])[0, 0, :, 0], [114] * 2 + [9] * 4 + [114] * 2)


def test_crop_shows_the_middle_of_the_resized_picture():
    image = picture(300, 400)
    crop = Preprocess(size=24, short_side=32, scaling=None, layout="NHWC", dtype="uint8")
    expected = images.resize_center_crop(image, 32, 24)
    np.testing.assert_array_equal(crop.prepare([image])[0], expected)
    assert crop.min_side == 32


def test_resized_keeps_the_proportion():
    assert Preprocess(size=224, short_side=256, scaling=None).resized(288).short_side == 329
    assert Preprocess(size=224, scaling=None, resize="pad").resized(99).short_side is None


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 40),
    more=st.none() | st.integers(0, 20),
    resize=st.sampled_from(["crop", "squash", "pad"]),
    scaling=st.sampled_from(SCALINGS),
    layout=st.sampled_from(["NCHW", "NHWC"]),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
)
def test_any_picture_fits_and_json_makes_it_again(
    size, more, resize, scaling, layout, height, width
):
    short_side = size + more if resize == "crop" and more is not None else None
    made = Preprocess(
        size=size, short_side=short_side, resize=resize, scaling=scaling, layout=layout
    )
    batch = made.prepare([picture(height, width)])
    assert batch.shape == ((1, 3, size, size) if layout == "NCHW" else (1, size, size, 3))
    assert np.isfinite(batch).all()
    assert Preprocess.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"size": 8}, "scaling, which is missing"),
        ({"size": 0, "scaling": None}, "size: expected a whole number of at least 1 .*, found 0"),
        ({"size": 8, "scaling": None, "mean": 1}, r"found \['mean'\]"),
        ({"size": 8, "scaling": "imagenet"}, "expected one of 'per-image', 'per-image-channel'"),
        ({"size": 8, "scaling": {"mean": [1, 2, 3]}}, "scaling: expected also std"),
        ({"size": 8, "scaling": {"mean": [1, 2], "std": [1, 1, 1]}}, "three finite numbers"),
        ({"size": 8, "scaling": {"mean": [1, 2, 3], "std": [1, 0, 1]}}, "std above 0"),
        ({"size": 8, "scaling": None, "resize": "stretch"}, "'crop', 'squash', 'pad'"),
        ({"size": 8, "scaling": None, "short_side": 7}, "at least the size, 8"),
        ({"size": 8, "scaling": None, "resize": "pad", "short_side": 9}, "resize 'crop'"),
        ({"size": 8, "scaling": None, "fill": 256}, "0 to 255"),
        ({"size": 8, "scaling": "per-image", "dtype": "uint8"}, "expected None for"),
        (3, "expected a mapping"),
    ],
)
def test_what_is_not_allowed_is_named(facts, message):
    with pytest.raises(InvalidInputError, match=message):
        Preprocess.from_json(facts)
