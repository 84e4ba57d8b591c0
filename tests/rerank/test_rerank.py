"""Re-ranking against the papers' formulas, written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgret import rerank
from imgret.errors import DimensionError, InvalidInputError
from imgret.evaluation.metrics import average_precision_at_r
from imgret.rerank.neighbors import nearest


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _clusters(seed=0, n=120, dim=12, classes=6, spread=0.75):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    centres = _unit(rng.normal(size=(classes, dim)))
    vectors = _unit(centres[labels] + spread * _unit(rng.normal(size=(n, dim))))
    return vectors.astype(np.float32), labels


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 99))
def test_nearest_is_a_stable_sort(m, k, seed):
    rng = np.random.default_rng(seed)
    gallery = _unit(rng.integers(-2, 3, (m, 3)) + 0.5).astype(np.float32)  # with many ties
    queries = gallery[: min(4, m)]
    rows, cosines = nearest(queries, gallery, k)
    every = np.vecdot(queries[:, None], gallery)
    assert rows.shape == cosines.shape == (len(queries), min(k, m))
    for row, cosine, all_ in zip(rows, cosines, every, strict=True):
        np.testing.assert_array_equal(cosine, np.sort(all_)[::-1][: len(cosine)])
        np.testing.assert_array_equal(cosine, all_[row])
        np.testing.assert_array_equal(row, np.argsort(-all_, kind="stable")[: len(row)])
        assert len(set(row.tolist())) == len(row)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_expansion_is_the_weighted_sum(alpha):
    gallery, _ = _clusters()
    queries = gallery[:5] + 0.1
    expected = []
    for query in _unit(queries):
        cosines = gallery @ query
        best = np.argsort(-cosines)[:4]
        expected.append(_unit(query + (cosines[best, None] ** alpha * gallery[best]).sum(axis=0)))
    found = rerank.expand_queries(queries, gallery, k=4, alpha=alpha)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_augmentation_counts_the_item_once():
    gallery, _ = _clusters(n=30)
    np.testing.assert_allclose(rerank.augment_gallery(gallery, k=1), gallery, atol=1e-6)
    cosines = gallery @ gallery.T
    best = np.argsort(-cosines, axis=1)[:, :3]
    np.testing.assert_allclose(
        rerank.augment_gallery(gallery, k=3), _unit(gallery[best].sum(axis=1)), atol=1e-5
    )


def test_what_has_nothing_near_stays():
    queries = np.array([[-1.0, 0, 0]], dtype=np.float32)
    gallery = np.array([[1.0, 0, 0], [0.9, 0.1, 0]], dtype=np.float32)
    np.testing.assert_allclose(rerank.expand_queries(queries, gallery), queries)


def test_diffusion_solves_its_equation():
    gallery, _ = _clusters(n=60)
    queries = gallery[:3]
    k, k_query, alpha, gamma = 8, 4, 0.9, 3.0
    cosines = np.maximum(gallery @ gallery.T, 0).astype(np.float64)
    near = np.argsort(-cosines, axis=1)[:, : k + 1]
    among = np.zeros_like(cosines, dtype=bool)
    np.put_along_axis(among, near, values=True, axis=1)
    graph = np.where(among & among.T, cosines**gamma, 0)
    np.fill_diagonal(graph, 0)
    degree = graph.sum(axis=1)
    scale = 1 / np.sqrt(np.where(degree > 0, degree, 1))
    matrix = np.eye(60) - alpha * scale[:, None] * graph * scale
    found = rerank.diffuse(
        queries, gallery, k=k, k_query=k_query, alpha=alpha, gamma=gamma, iterations=200
    )
    for row, query in zip(found, queries, strict=True):
        cosine = np.maximum(gallery @ query, 0)
        entry = np.zeros(60)
        first = np.argsort(-cosine)[:k_query]
        entry[first] = cosine[first] ** gamma
        expected = (1 - alpha) * np.linalg.solve(matrix, entry)
        np.testing.assert_allclose(row, expected, atol=1e-4)


def _plain_k_reciprocal(query, gallery, k1, k2, weight):
    """The paper's steps over sets, for one query and all items."""
    m = len(gallery)
    cosines = gallery @ gallery.T
    near = np.argsort(-cosines, axis=1, kind="stable")
    half = max(1, round(k1 / 2))

    def reciprocal(item, k):
        return {j for j in near[item][: k + 1] if item in near[j][: k + 1]}

    def widened(members):
        wide = set(members)
        for j in members:
            narrow = reciprocal(j, half)
            if 3 * len(narrow & members) > 2 * len(narrow):
                wide |= narrow
        return wide

    def encoded(cosine, members, itself=False):
        vector = np.zeros(m + 1)
        for j in members:
            vector[j] = np.exp(cosine[j] - 1)
        vector[m] = 1.0 if itself else 0.0
        return vector / vector.sum()

    alone = [encoded(cosines[i], widened(reciprocal(i, k1))) for i in range(m)]
    items = [np.mean([alone[j] for j in near[i][:k2]], axis=0) for i in range(m)]
    to_query = gallery @ query
    order = np.argsort(-to_query, kind="stable")
    mutual = {
        j for j in order[:k1] if to_query[j] >= cosines[j][near[j][min(k1, m - 1)]] or m <= k1
    }
    own = encoded(to_query, widened(mutual), itself=True)
    own = np.mean([own, *(alone[j] for j in order[: k2 - 1])], axis=0)
    shared = np.array([np.minimum(own, item).sum() for item in items])
    return (1 - weight) * (1 - shared / (2 - shared)) + weight * (1 - to_query)


@pytest.mark.parametrize(("k1", "k2"), [(8, 3), (5, 1), (20, 6)])
def test_k_reciprocal_is_the_paper_written_out(k1, k2):
    gallery, _ = _clusters(n=60)
    queries = _unit(gallery[:4] + 0.2).astype(np.float32)
    rows, scores = rerank.k_reciprocal(queries, gallery, candidates=60, k1=k1, k2=k2, lam=0.3)
    for query, row, score in zip(queries, rows, scores, strict=True):
        expected = _plain_k_reciprocal(query, gallery, k1, k2, 0.3)
        np.testing.assert_allclose(-score, expected[row], atol=1e-5)
        assert (np.diff(score) <= 0).all()
        assert sorted(row.tolist()) == list(range(60))


def test_neighbourhoods_prepared_or_not_rank_alike():
    gallery, _ = _clusters(n=60)
    queries = gallery[:5] + 0.1
    prepared = rerank.Neighbourhoods(gallery, k1=8, k2=3)
    prepared.prepare()
    rows, scores = prepared.rank(queries, candidates=30)
    for _ in range(2):  # what the first time leaves behind changes nothing
        again = prepared.rank(queries, candidates=30)
        np.testing.assert_array_equal(again[0], rows)
    other = rerank.k_reciprocal(queries, gallery, candidates=30, k1=8, k2=3)
    np.testing.assert_array_equal(other[0], rows)
    np.testing.assert_array_equal(other[1], scores)


def test_mmr_by_hand():
    vectors = np.array([[1, 0], [1, 0.01], [0, 1]], dtype=np.float32)
    scores = [1.0, 0.99, 0.5]
    assert rerank.diversify(scores, vectors, 3, lam=1.0).tolist() == [0, 1, 2]
    assert rerank.diversify(scores, vectors, 3, lam=0.5).tolist() == [0, 2, 1]
    assert rerank.diversify(scores, vectors, 1).tolist() == [0]
    assert rerank.diversify([], np.zeros((0, 2)), 3).tolist() == []


def test_all_of_them_help_where_classes_are_manifolds():
    """Classes as arcs of a circle in a plane of their own: what neighbours are for."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(4), 40)
    angle = rng.uniform(0, 2.2, len(labels))
    vectors = np.zeros((len(labels), 8))
    vectors[np.arange(len(labels)), 2 * labels] = np.cos(angle)
    vectors[np.arange(len(labels)), 2 * labels + 1] = np.sin(angle)
    vectors = _unit(vectors + 0.35 * rng.normal(size=vectors.shape)).astype(np.float32)
    queries, query_labels = vectors[::5], labels[::5]

    def score(order):
        relevant = labels[order] == query_labels[:, None]
        return average_precision_at_r(relevant, np.full(len(order), 40)).mean()

    plain = score(np.argsort(-(queries @ vectors.T), axis=1))
    augmented = rerank.augment_gallery(vectors, k=8)
    expanded = rerank.expand_queries(queries, augmented, k=8)
    assert score(np.argsort(-(expanded @ augmented.T), axis=1)) > plain + 0.02
    assert score(np.argsort(-rerank.diffuse(queries, vectors, k=12), axis=1)) > plain + 0.02
    assert score(rerank.k_reciprocal(queries, vectors, candidates=160)[0]) > plain + 0.02


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda v: rerank.expand_queries(v[0], v), InvalidInputError, "queries: expected shape"),
        (lambda v: rerank.expand_queries(v[:, :3], v), DimensionError, "gallery"),
        (lambda v: rerank.expand_queries(v, v, k=0), InvalidInputError, "k: expected"),
        (lambda v: rerank.expand_queries(v, v, alpha=-1), InvalidInputError, "alpha"),
        (lambda v: rerank.augment_gallery(v * np.nan), InvalidInputError, "gallery"),
        (lambda v: rerank.diffuse(v, v, alpha=1), InvalidInputError, "alpha"),
        (lambda v: rerank.diffuse(v, v, gamma=0), InvalidInputError, "gamma"),
        (lambda v: rerank.k_reciprocal(v, v, lam=1.5), InvalidInputError, "lam"),
        (lambda v: rerank.k_reciprocal(v, v, k1=0), InvalidInputError, "k1"),
        (lambda v: rerank.diversify([1.0], v, 2), InvalidInputError, "scores: expected"),
        (lambda v: rerank.diversify([np.nan] * len(v), v, 2), InvalidInputError, "NaN"),
        (lambda v: rerank.diversify(np.ones(len(v)), v, 2, lam=2), InvalidInputError, "lam"),
    ],
)
def test_mistakes_are_told(call, error, message):
    vectors, _ = _clusters(n=10)
    with pytest.raises(error, match=message):
        call(vectors)
