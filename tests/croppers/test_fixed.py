"""Croppers that do not look at the pixels, and how all built-in ones are registered."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import registry
from imgret.croppers import CenterCrop, NoCrop
from imgret.errors import InvalidInputError
from imgret.types import Box


def _blank(width, height):
    return np.zeros((height, width, 3), dtype=np.uint8)


def test_no_crop_keeps_everything_and_says_so():
    images = [_blank(7, 5), _blank(1, 1)]
    assert NoCrop.crops is False
    assert CenterCrop.crops is True
    assert NoCrop().boxes(images) == [Box(0, 0, 7, 5), Box(0, 0, 1, 1)]
    assert [crop.shape for crop in NoCrop().crop(images)] == [(5, 7, 3), (1, 1, 3)]


@pytest.mark.parametrize(
    ("fraction", "size", "box"),
    [
        (0.8, (100, 50), Box(10, 5, 90, 45)),
        (0.5, (5, 5), Box(1, 1, 3, 3)),
        (1, (9, 4), Box(0, 0, 9, 4)),
        (0.01, (20, 3), Box(9, 1, 10, 2)),
    ],
)
def test_center_crop_keeps_a_fraction_of_each_side(fraction, size, box):
    assert CenterCrop(fraction).boxes([_blank(*size)]) == [box]


@given(
    fraction=st.floats(0, 1, exclude_min=True),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
)
def test_center_crop_is_inside_in_the_middle_and_never_empty(fraction, width, height):
    image = _blank(width, height)
    (found,) = CenterCrop(fraction)._detect([image])  # before the base class clips it
    assert found == found.clip(width, height)
    assert abs(found.width - fraction * width) <= 1
    assert 0 <= (width - found.x1) - found.x0 <= 1
    assert 0 <= (height - found.y1) - found.y0 <= 1


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan"), float("inf"), "0.5", None, True])
def test_a_fraction_out_of_range_is_told(fraction):
    with pytest.raises(InvalidInputError, match=r"fraction: expected a number over 0 and at most"):
        CenterCrop(fraction)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("none", {}),
        ("center", {"fraction": 0.6}),
        ("spectral", {"threshold": 0.4, "margin": 0.0}),
    ],
)
def test_name_and_config_make_it_again(name, options):
    first = registry.create("croppers", name, **options)
    assert first.name == name
    assert first.config() == options
    again = registry.create("croppers", first.name, **first.config())
    assert repr(again) == repr(first)
    images = [np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3)]
    assert again.boxes(images) == first.boxes(images)


def test_importing_croppers_loads_no_heavy_library():
    code = (
        "import sys, imgret.croppers, imgret.projections as p;"
        "imgret.croppers.SaliencyCropper('spectral');"
        "print([m for m in ('cv2', 'faiss', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )  # our own code
    assert done.stdout.strip() == "[]"
