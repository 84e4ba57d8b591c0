"""Queries of several images or of a part of one, checked and combined."""

import numpy as np
import pytest

from imgret.errors import InvalidInputError
from imgret.search.query import check_box, check_weights, combined, cut, query_vector, several
from imgret.support.metric import DistanceMetric
from imgret.types import Box

IMAGE = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("given", "options", "found", "alone"),
    [
        ("key", {}, ["key"], True),
        (["key"], {}, ["key"], False),
        (("a", "b"), {}, ["a", "b"], False),
        (None, {"least": 0}, [], False),
        ([], {"least": 0}, [], False),
        ([], {"images": True, "least": 0}, [], False),
        ("a.jpg", {"images": True}, ["a.jpg"], True),
        (["a.jpg", "b.jpg"], {"images": True}, ["a.jpg", "b.jpg"], False),
    ],
)
def test_one_or_several(given, options, found, alone):
    assert several(given, "it", **options) == (found, alone)


def test_at_least_one_is_expected():
    assert several(IMAGE, "image", images=True)[1]
    for given, options in ((None, {}), (IMAGE, {}), (None, {"images": True}), (3, {"least": 0})):
        with pytest.raises(InvalidInputError, match="it: expected"):
            several(given, "it", **options)
    for options in ({}, {"images": True}):
        with pytest.raises(InvalidInputError, match="it: expected at least one, found none"):
            several([], "it", **options)


def test_weights_are_scaled_to_one():
    assert check_weights(None, 3).tolist() == [1, 1, 1]
    for given in ([1, 0, 4], np.array([0.25, 0, 1]), iter((2e300, 0.0, 8e300))):
        found = check_weights(given, 3)
        assert (found.dtype, found.tolist()) == (np.float32, [0.25, 0, 1])
    for wrong in ([], [[1]], 1, [1, 2], ["a"], [[1], [2, 3]]):
        with pytest.raises(InvalidInputError, match="weights: expected 1, one for each image"):
            check_weights(wrong, 1)
    for wrong in ([0, 0], [1, -0.5], [1, np.inf], [np.nan, 1]):
        with pytest.raises(InvalidInputError, match="finite numbers of at least 0, not all 0"):
            check_weights(wrong, 2)


def test_a_box_is_cut_out_of_an_image():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    for box in ((0, 0, 6, 4), (5, 3, 6, 4), (2, 1, 5, 3)):
        x0, y0, x1, y1 = checked = check_box(np.array(box))
        assert checked == Box(*box)
        np.testing.assert_array_equal(cut(image, checked, 24), image[y0:y1, x0:x1])
    for outside in ((-1, 0, 2, 2), (0, -1, 2, 2), (4, 0, 7, 2), (0, 2, 2, 5)):
        with pytest.raises(InvalidInputError, match="6 pixels wide and 4 high, found"):
            cut(image, check_box(outside), 24)
    for empty in ((2, 0, 2, 4), (0, 2, 4, 2), (3, 0, 2, 4), (0, 3, 4, 2)):
        with pytest.raises(InvalidInputError, match="x0 < x1 and y0 < y1"):
            check_box(empty)
    for wrong in (None, (0, 0, 1), (0, 0, 1, 1.5), "abcd"):
        with pytest.raises(InvalidInputError, match="expected four whole numbers"):
            check_box(wrong)


def of_angles(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_images_are_combined_as_by_rocchio(metric):
    vectors, weights = of_angles(0, 60, 90), np.array([1, 0.5, 0.25], np.float32)
    unlike = of_angles(180, 200)
    for negatives, weight in ((unlike[:0], 0.5), (unlike[:1], 0.5), (unlike, 0.25)):
        found = combined(vectors, weights, negatives, weight, DistanceMetric(metric))
        expected = sum(w * v for w, v in zip(weights, vectors, strict=True)) / 1.75
        if len(negatives):
            expected = expected - weight * sum(negatives) / len(negatives)
        if metric == "cosine":
            expected = expected / np.sqrt((expected**2).sum())
        np.testing.assert_allclose(found, expected[None], atol=1e-6)


def test_what_is_left_must_be_more_than_rounding():
    like, cosine = of_angles(0), DistanceMetric("cosine")
    one = np.ones(1, np.float32)
    near = combined(like, one, of_angles(0.1), 1.0, cosine)  # 0.0017 apart
    np.testing.assert_allclose(near, of_angles(-89.95), atol=1e-3)
    with pytest.raises(InvalidInputError, match="expected images that have something in common"):
        combined(like, one, of_angles(0.001), 1.0, cosine)
    assert combined(like, one, like, 1.0, DistanceMetric("l2")).tolist() == [[0, 0]]


def test_the_last_vectors_are_negatives(view_of):
    view = view_of(np.eye(2), metric="ip")
    rows = np.array([[4, 0], [0, 2], [2, 2]], np.float32)
    weights = np.ones(2, np.float32)
    assert query_vector(rows[:1], weights[:1], 0.5, view).tolist() == [[4, 0]]
    assert query_vector(rows[:2], weights, 0.5, view).tolist() == [[2, 1]]
    assert query_vector(rows, weights, 0.5, view).tolist() == [[1, 0]]
    assert query_vector(rows[:2], weights[:1], 0.5, view).tolist() == [[4, -1]]
