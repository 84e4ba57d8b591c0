"""Exact search against scores by definition, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from imgret.support.exact import exact_search
from imgret.testing import strategies
from imgret.testing.data import clustered, true_scores


@given(
    queries=strategies.vectors(count=st.integers(1, 3), dim=3),
    vectors=strategies.vectors(count=st.integers(0, 40), dim=3),
    k=st.integers(1, 50),
    block=st.integers(1, 50),
    metric=st.sampled_from(["ip", "l2"]),
)
def test_against_the_definition(queries, vectors, k, block, metric):
    ids = np.arange(len(vectors))[::-1] * 3
    blocks = ((ids[s : s + block], vectors[s : s + block]) for s in range(0, len(ids), block))
    found = exact_search(queries, blocks, k, metric)
    scores = true_scores(queries, np.broadcast_to(vectors, (len(queries), *vectors.shape)), metric)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    n = order.shape[1]
    assert found.ids.shape == found.scores.shape == (len(queries), k)
    np.testing.assert_array_equal(found.scores[:, :n], np.take_along_axis(scores, order, axis=1))
    assert (found.ids[:, n:] == -1).all()
    assert np.isneginf(found.scores[:, n:]).all()
    place = {id_: row for row, id_ in enumerate(ids.tolist())}
    for row, names in enumerate(found.ids[:, :n].tolist()):
        assert len(set(names)) == n
        best = [scores[row, place[name]] for name in names]
        np.testing.assert_array_equal(found.scores[row, :n], best)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_against_scikit_learn(metric):
    vectors, _ = clustered(500, 24)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    model = NearestNeighbors(n_neighbors=7, metric="euclidean", algorithm="brute").fit(vectors)
    distances, expected = model.kneighbors(vectors[:50])
    found = exact_search(vectors[:50], [(np.arange(500), vectors)], 7, metric)
    np.testing.assert_array_equal(found.ids, expected)
    scores = 1 - distances**2 / 2 if metric == "cosine" else -(distances**2)
    np.testing.assert_allclose(found.scores, scores, atol=1e-4)


def test_small_distances_of_long_vectors_are_kept():
    vectors = np.array([[1e4, 0], [1e4, 0.5], [1e4, 1]], dtype=np.float32)
    found = exact_search(vectors[:1], [(np.arange(3), vectors)], 3, "l2")
    np.testing.assert_array_equal(found.ids, [[0, 1, 2]])
    np.testing.assert_allclose(found.scores, [[0, -0.25, -1]])
