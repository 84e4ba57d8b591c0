"""Duplicates are the connected components of the graph of all pairs."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from imgret import Retriever
from imgret.curation import duplicates
from imgret.errors import EmptyGalleryError, InvalidInputError
from imgret.search import View


def _by_brute_force(scores, threshold):
    """Every group with the lowest score that holds it together, by asking all thresholds."""
    groups = {}
    for level in sorted(set(scores[scores >= threshold].tolist())):
        _, part = connected_components(scores >= level, directed=False)
        for number in range(part.max() + 1):
            members = tuple(np.flatnonzero(part == number).tolist())
            if len(members) > 1:
                groups[members] = level  # the last one at which it is whole
    whole = connected_components(scores >= threshold, directed=False)[1]
    wanted = {tuple(np.flatnonzero(whole == number).tolist()) for number in set(whole.tolist())}
    return {members: level for members, level in groups.items() if members in wanted}


def _as_dict(groups):
    return {tuple(int(key) for key in group.keys): group.score for group in groups}


@settings(max_examples=50)
@given(
    metric=st.sampled_from(["l2", "ip"]),
    n=st.integers(1, 40),
    values=st.integers(1, 4),
    first=st.sampled_from([1, 2, 5, 16]),
    place=st.floats(0, 1),
    seed=st.integers(0, 999),
)
def test_groups_are_the_connected_components(
    gallery_of, all_scores, metric, n, values, first, place, seed
):
    # Small whole numbers: scores are exact, with many ties and equal items.
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-values, values + 1, (n, 3))
    scores = all_scores(vectors, metric)
    levels = np.unique(scores[np.isfinite(scores)])
    threshold = levels[int(place * (len(levels) - 1))] if len(levels) else 0.0
    with patch.object(duplicates, "_FIRST", first), patch.object(duplicates, "_MORE", 2):
        found = gallery_of(vectors, metric=metric).duplicates(float(threshold))
    assert _as_dict(found) == _by_brute_force(scores, threshold)
    order = [(len(group.keys), group.score) for group in found]
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize("first", [2, 16])
def test_groups_by_cosine_after_removal_and_projection(gallery_of, clustered, all_scores, first):
    vectors, _ = clustered(spread=0.3)
    gallery = gallery_of(vectors)
    gone = list(range(0, 300, 7))
    gallery.remove([str(n) for n in gone])
    gallery.project("pca", dim=6)
    left = np.setdiff1d(np.arange(300), gone)
    scores = all_scores(gallery.projection.apply(vectors[left]), "cosine")
    levels = np.sort(scores[np.triu_indices(len(left), 1)])
    threshold = levels[-60:-58].mean()  # between two scores, so that rounding does not matter
    with patch.object(duplicates, "_FIRST", first):
        found = _as_dict(gallery.duplicates(threshold))
    expected = {
        tuple(left[list(members)].tolist()): level
        for members, level in _by_brute_force(scores, threshold).items()
    }
    assert found == pytest.approx(expected, abs=1e-6)
    assert max(map(len, found)) > 2


def test_equal_embeddings_are_found_at_the_highest_threshold(gallery_of):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 24))  # where the cosine of equals is not always 1 in float32
    vectors[40:] = vectors[:20]
    (*groups,) = gallery_of(vectors).duplicates(1.0)
    assert _as_dict(groups) == {(n, n + 40): 1.0 for n in range(20)}
    assert len(gallery_of(vectors, metric="l2").duplicates(0)) == 20


def test_equals_whose_own_score_is_too_low_are_joined_by_others_alone(gallery_of):
    # The inner product of (1, 0) with itself is 1, with (5, 0) it is 5.
    gallery = gallery_of([[1, 0], [1, 0], [5, 0], [0, 1], [0, 1]], metric="ip")
    assert _as_dict(gallery.duplicates(4)) == {(0, 1, 2): 5.0}
    assert _as_dict(gallery.duplicates(1)) == {(0, 1, 2): 5.0, (3, 4): 1.0}


@pytest.mark.parametrize("alike", ["equal", "nearly", "both"])
def test_many_alike_cost_no_square(gallery_of, alike):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4000, 16)).astype(np.float32)
    spread = {"equal": 0, "nearly": 0.02, "both": 0.02 * (np.arange(2000) % 2)[:, None]}[alike]
    vectors[:2000] = vectors[0] + spread * rng.normal(size=(2000, 16))
    gallery = gallery_of(vectors)
    asked = []
    search = View.search

    def counting(view, vectors, k):
        asked.append(len(vectors) * k)
        return search(view, vectors, k)

    with patch.object(View, "search", counting):
        found = gallery.duplicates(0.97)
    assert [len(group.keys) for group in found[:1]] == [2000]
    assert sum(asked) < 4 * 16 * 4000
    assert max(asked) <= 2**20


def test_an_approximate_index_finds_the_planted(gallery_of):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1500, 32))
    vectors[1000:1100] = vectors[:100] + 0.02 * rng.normal(size=(100, 32))
    found = _as_dict(gallery_of(vectors, index="hnsw").duplicates(0.99))
    planted = {(n, n + 1000) for n in range(100)}
    assert len(planted & set(found)) >= 98
    assert set(found) <= planted


def test_a_gallery_opened_for_reading(gallery_of, tmp_path, clustered):
    made = gallery_of(clustered()[0])
    made.add_vectors(made.embeddings(["7", "9"]), keys=["seven", "nine"])
    made.save(tmp_path / "g.imgret")
    with Retriever.open(tmp_path / "g.imgret", embedder=made.embedder) as gallery:
        found = gallery.duplicates(0.9999)
    assert {group.keys for group in found} == {("7", "seven"), ("9", "nine")}


def test_mistakes_are_told(gallery_of):
    for metric, threshold, most in (("cosine", 1.01, 1), ("l2", 0.5, 0)):
        gallery = gallery_of(np.eye(3), metric=metric)
        with pytest.raises(InvalidInputError, match=rf"threshold: .* at most {most}, found"):
            gallery.duplicates(threshold)
    with pytest.raises(InvalidInputError, match="threshold"):
        gallery.duplicates(float("nan"))
    gallery.remove(["0", "1", "2"])
    with pytest.raises(EmptyGalleryError):
        gallery.duplicates(0)
