"""Each analysis on a view of a few vectors whose answer can be worked out by hand."""

import numpy as np
import pytest

from imgret.curation import (
    build_neighbor_graph,
    draw_map,
    find_duplicates,
    find_mislabelled,
    find_outliers,
    fit_clusters,
)
from imgret.filters import parse_filter

# Two groups on a line, and one far away.
LINE = [[0, 0], [1, 0], [2, 0], [10, 0], [11, 0], [50, 0]]


def test_duplicates(view_of):
    groups = find_duplicates(view_of(LINE), threshold=-1.0)
    assert [(group.keys, group.score) for group in groups] == [
        (("0", "1", "2"), -1.0),
        (("3", "4"), -1.0),
    ]


def test_neighbor_graph(view_of):
    graph = build_neighbor_graph(view_of(LINE), k=2)
    assert graph.indices.tolist() == [[1, 2], [0, 2], [1, 0], [4, 2], [3, 2], [4, 3]]
    assert graph.scores[3].tolist() == [-1, -64]


def test_outliers(view_of):
    found = find_outliers(view_of(LINE), k=1, n=2)
    assert (found[0].key, found[0].score) == ("5", -(39.0**2))


def test_clusters(view_of):
    clusters = fit_clusters(view_of(LINE[:5]), n=2)
    assert clusters.sizes.tolist() == [3, 2]
    assert clusters.assignments.tolist() == [0, 0, 0, 1, 1]
    assert clusters.centroids.tolist() == [[1, 0], [10.5, 0]]
    assert clusters.representatives[0] == "1"


def test_wrong_labels(view_of):
    vectors = [[n, 0] for n in range(8)] + [[100 + n, 0] for n in range(8)]
    labels = ["a"] * 8 + ["b"] * 7 + ["a"]
    (issue,) = find_mislabelled(view_of(vectors, labels), k=4, threshold=0.5)
    assert (issue.key, issue.label, issue.suggested) == ("15", "a", "b")


def test_map(view_of):
    drawn = draw_map(view_of(LINE), method="pca")
    assert drawn.keys == tuple("012345")
    across = drawn.coordinates[:, 0]
    assert (np.diff(across) > 0).all() or (np.diff(across) < 0).all()


@pytest.mark.parametrize("analysis", [find_duplicates, find_outliers, fit_clusters, draw_map])
def test_only_what_passes_a_filter_is_looked_at(view_of, analysis):
    where = parse_filter({"label": "a"})
    labels = ["a", "a", "b", "a", "b", "a"]
    options = {find_duplicates: {"threshold": -100.0}, fit_clusters: {"n": 2}}.get(analysis, {})
    part = analysis(view_of(LINE, labels, where=where), **options)
    alone = analysis(view_of([LINE[n] for n in (0, 1, 3, 5)]), **options)
    names = dict(zip("0123", "0135", strict=True))
    if analysis is find_duplicates:
        assert [[names[key] for key in group.keys] for group in alone] == [
            list(group.keys) for group in part
        ]
    elif analysis is find_outliers:
        assert [(names[one.key], one.score) for one in alone] == [
            (one.key, one.score) for one in part
        ]
    elif analysis is fit_clusters:
        assert alone.sizes.tolist() == part.sizes.tolist()
        assert part.keys == ("0", "1", "3", "5")
    else:
        np.testing.assert_allclose(np.abs(alone.coordinates), np.abs(part.coordinates), atol=1e-4)
