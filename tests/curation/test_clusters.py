"""k-means over a gallery."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from imgret.curation import clusters as module
from imgret.errors import EmptyGalleryError, InvalidInputError


def test_what_belongs_together_is_found(gallery_of, clustered):
    vectors, codes = clustered(spread=0.2)
    found = gallery_of(vectors).clusters(6)
    assert adjusted_rand_score(codes, found.assignments) == 1
    assert found.keys == tuple(str(n) for n in range(300))
    assert repr(found).startswith("<Clusters: 6 of 300 items, of ")
    assert found.sizes.tolist() == sorted(np.bincount(codes).tolist(), reverse=True)
    assert found.members(0) == tuple(
        key for key, own in zip(found.keys, found.assignments, strict=True) if own == 0
    )


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_every_number_is_what_it_says(gallery_of, clustered, metric, monkeypatch):
    monkeypatch.setattr(module, "_POINTS", 20)  # learned from a part, assigned all
    vectors, _ = clustered(n=500, spread=1.0)
    found = gallery_of(vectors, metric=metric).clusters(8, seed=3)
    vectors = vectors.astype(np.float64)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, atol=1e-5)
        scores = vectors @ found.centroids.T
    else:
        scores = -((vectors[:, None] - found.centroids[None]) ** 2).sum(axis=2)
    best = scores.max(axis=1)
    own = scores[np.arange(500), found.assignments]
    np.testing.assert_allclose(own, best, atol=1e-5)
    assert found.score == pytest.approx(best.mean(), abs=1e-5)
    np.testing.assert_array_equal(found.sizes, np.bincount(found.assignments))
    assert (np.diff(found.sizes) <= 0).all()
    for cluster, key in enumerate(found.representatives):
        assert found.assignments[int(key)] == cluster
        assert own[int(key)] == pytest.approx(own[found.assignments == cluster].max(), abs=1e-5)


def test_it_is_about_as_good_as_another_one(gallery_of, clustered):
    vectors, _ = clustered(n=600, classes=30, spread=0.6)
    other = KMeans(12, n_init=1, random_state=0).fit(vectors)
    found = gallery_of(vectors, metric="l2").clusters(12)
    assert -found.score * 600 < 1.1 * other.inertia_


def test_the_seed_decides(gallery_of, clustered):
    gallery = gallery_of(clustered(spread=1.5)[0])
    first, again, other = (gallery.clusters(10, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.assignments, again.assignments)
    np.testing.assert_array_equal(first.centroids, again.centroids)
    assert not np.array_equal(first.assignments, other.assignments)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_few_different_items(gallery_of, metric, capfd):
    vectors = np.repeat(np.eye(3), 20, axis=0)
    found = gallery_of(vectors, metric=metric).clusters(7)
    assert 3 <= len(found.sizes) <= 7
    assert (found.sizes > 0).all()
    assert found.centroids.shape == (len(found.sizes), 3)
    # Nothing that differs is together.
    assert len({(n // 20, own) for n, own in enumerate(found.assignments.tolist())}) == len(
        found.sizes
    )
    assert len(gallery_of(np.eye(5), metric=metric).clusters(5).sizes) == 5
    assert capfd.readouterr() == ("", "")


def test_the_projected_vectors_are_clustered(gallery_of, clustered):
    vectors, codes = clustered(spread=0.2)
    gallery = gallery_of(vectors)
    gallery.project("pca", dim=5)
    found = gallery.clusters(6)
    assert found.centroids.shape == (6, 5)
    assert adjusted_rand_score(codes, found.assignments) > 0.9


def test_mistakes_are_told(gallery_of):
    gallery = gallery_of(np.eye(3))
    with pytest.raises(InvalidInputError, match="at most 3, one cluster per item, found 4"):
        gallery.clusters(4)
    with pytest.raises(InvalidInputError, match="n: expected a whole number"):
        gallery.clusters(0)
    with pytest.raises(InvalidInputError, match="from 0 to 1, found 2"):
        gallery.clusters(2).members(2)
    gallery.remove(["0", "1", "2"])
    with pytest.raises(EmptyGalleryError):
        gallery.clusters(1)
