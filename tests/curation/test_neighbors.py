"""The graph of neighbours, and who has none that is near."""

import numpy as np
import pytest

from imgret.errors import EmptyGalleryError, InvalidInputError


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_the_graph_is_that_of_all_scores(gallery_of, clustered, all_scores, metric):
    vectors, _ = clustered(spread=1.0)
    gallery = gallery_of(vectors, metric=metric)
    gallery.remove([str(n) for n in range(0, 300, 5)])
    left = np.flatnonzero(np.arange(300) % 5)
    scores = all_scores(vectors[left], metric)
    graph = gallery.neighbor_graph(k=7)
    assert graph.keys == tuple(str(n) for n in left)
    assert graph.indices.dtype == np.int64
    assert graph.scores.dtype == np.float32
    np.testing.assert_allclose(graph.scores, np.sort(scores, axis=1)[:, :-8:-1], atol=1e-5)
    rows = np.arange(len(left))[:, None]
    np.testing.assert_allclose(graph.scores, scores[rows, graph.indices], atol=1e-5)
    assert repr(graph) == "<NeighborGraph: 7 neighbours of each of 240 items>"
    sources, targets, weights = graph.edges()
    assert len(sources) == len(targets) == len(weights) == 240 * 7
    np.testing.assert_allclose(weights, scores[sources, targets], atol=1e-5)


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_an_item_leaves_out_itself_and_not_its_equal(gallery_of, index):
    vectors = np.repeat(np.eye(4), 12, axis=0)
    graph = gallery_of(vectors, index=index).neighbor_graph(k=5)
    assert not (graph.indices == np.arange(48)[:, None]).any()
    assert all(len(set(row)) == 5 for row in graph.indices.tolist())
    if index == "flat":
        np.testing.assert_array_equal(
            graph.indices // 12, np.arange(48)[:, None] // 12 + np.zeros(5)
        )


def test_more_than_there_are_gives_all_others(gallery_of):
    graph = gallery_of(np.eye(4)).neighbor_graph(k=9)
    assert [sorted(row) for row in graph.indices.tolist()] == [
        [1, 2, 3],
        [0, 2, 3],
        [0, 1, 3],
        [0, 1, 2],
    ]
    assert gallery_of(np.eye(1)).neighbor_graph().indices.shape == (1, 0)


def test_outliers_are_those_of_the_lowest_mean(gallery_of, clustered, all_scores):
    vectors, _ = clustered()
    rng = np.random.default_rng(1)
    vectors[::60] = rng.normal(size=(5, 16))  # of no class
    found = gallery_of(vectors).outliers(20, k=6)
    assert {int(one.key) for one in found[:5]} == {0, 60, 120, 180, 240}
    means = np.sort(all_scores(vectors, "cosine"), axis=1)[:, :-7:-1].mean(axis=1)
    np.testing.assert_allclose([one.score for one in found], np.sort(means)[:20], atol=1e-5)
    np.testing.assert_allclose(
        [means[int(one.key)] for one in found], np.sort(means)[:20], atol=1e-5
    )


def test_outliers_of_few(gallery_of):
    assert gallery_of(np.eye(1)).outliers() == []
    found = gallery_of([[1, 0], [1, 0.1], [0, 1]]).outliers()
    assert [one.key for one in found] == ["2", "0", "1"]


def test_mistakes_are_told(gallery_of):
    gallery = gallery_of(np.eye(2))
    for call in (
        lambda: gallery.neighbor_graph(0),
        lambda: gallery.outliers(0),
        lambda: gallery.outliers(k=0),
    ):
        with pytest.raises(InvalidInputError, match="expected a whole number of at least 1"):
            call()
    gallery.remove(["0", "1"])
    for call in (gallery.neighbor_graph, gallery.outliers, gallery.mislabelled, gallery.map2d):
        with pytest.raises(EmptyGalleryError):
            call()
