"""Names without examples: images and descriptions in one space."""

import numpy as np
import pytest

from imgret.learning.zero_shot import classify_by_names, nearest_names


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
