"""Names without examples: images and descriptions in one space."""

import numpy as np
import pytest

from imgret.errors import InvalidInputError
from imgret.learning.zero_shot import classify_by_names, described, nearest_names


def test_confidence_is_the_softmax_of_clip():
    cosines = np.array([0.3, 0.29, 0.2])
    texts = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)
    images = np.array([[2, 0], [0, 1]], dtype=np.float32)
    found, other = classify_by_names(images, ["a", "b", "c"], texts, None)
    shares = np.exp(100 * cosines) / np.exp(100 * cosines).sum()
    assert found.label == "a"
    assert list(found.votes) == ["a", "b", "c"]
    np.testing.assert_allclose(list(found.votes.values()), shares, rtol=1e-4)
    assert found.confidence == pytest.approx(shares[0], rel=1e-4)
    assert other.label == "c"
    assert sum(other.votes.values()) == pytest.approx(1)


def test_two_clusters_are_named_by_what_sets_them_apart():
    centroids = np.array([[10, 1, 0], [10, 0, 1]], dtype=np.float32)
    texts = np.array([[0, 1, 0], [0.995, 0, 0.1]], dtype=np.float32)
    assert nearest_names(centroids, ["a", "b"], texts) == ["a", "b"]
    assert nearest_names(centroids[:1], ["a", "b"], texts) == ["b"]  # nothing to set it apart from
    # What all texts have in common is taken away as well: "c" has the longest second part, but "b"
    # differs from the others in nothing else.
    texts = np.array([[1, 0, 0], [0.8, 0.6, 0], [0.6, 0.8, 0]], dtype=np.float32)
    assert nearest_names(centroids, ["a", "b", "c"], texts) == ["b", "a"]


def test_a_description_is_the_mean_direction_of_the_templates():
    vectors = {"a x": [2, 0], "a y": [0, 3], "x or x": [0, 5], "y or y": [0, 1]}

    def embed_text(texts):
        return np.array([vectors[text] for text in texts], dtype=np.float32)

    found = described(["x", "y"], ["a {}", "{} or {}"], embed_text)
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5], [0, 1]], rtol=1e-6)
    assert described(["x"], "a {}", embed_text).tolist() == [[1, 0]]
    with pytest.raises(InvalidInputError, match="each name once, found 'y' twice"):
        described(["x", "y", "y"], "a {}", embed_text)


def test_without_a_threshold_there_always_is_a_label():
    texts = np.tile(np.float32([1, 0]), (20, 1))
    (found,) = classify_by_names(texts[:1], list("abcdefghijklmnopqrst"), texts, None)
    assert (found.label, found.threshold, found.hits) == ("a", 0.0, ())
    assert found.confidence == pytest.approx(0.05)
    (sure,) = classify_by_names(texts[:1], ["a"], texts[:1], 1.0)
    assert (sure.label, sure.confidence) == ("a", 1.0)
