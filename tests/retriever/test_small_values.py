"""Embeddings of small numbers, of which float16 keeps few bits or none."""

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import InvalidInputError
from imgret.support.rounding import too_small

N = 300


@pytest.fixture(scope="module")
def base():
    rng = np.random.default_rng(0)
    return rng.standard_normal((20, 48))[rng.integers(20, size=N)] + rng.standard_normal((N, 48))


def filled(embedder, vectors, **options):
    made = Retriever(embedder=embedder, **options)
    made.add_vectors(vectors, keys=[str(n) for n in range(len(vectors))])
    return made


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def check(found, expected):
    """Keys are those of the best, scores are right."""
    for hits, row in zip(found, expected, strict=True):
        places = [int(hit.key) for hit in hits]
        np.testing.assert_allclose([hit.score for hit in hits], row[places], atol=1e-3)
        assert min(row[places]) >= np.sort(row)[-len(hits)] - 1e-3
        assert hits[0].score > 0.999


@pytest.mark.parametrize("scale", [1, 1e-4, 1e-5, 1e-6, 1e-7, 1e-9, 1e-20, 1e-30])
@pytest.mark.parametrize("index", ["flat", "hnsw-sq8"])
def test_directions_stay(mean_color, base, scale, index, tmp_path):
    retriever = filled(mean_color, base * scale, index=index)
    found = retriever.search_vectors(base[:50] * scale, 5)
    check(found, cosines(base)[:50])
    assert retriever.search_key("7", 3)[0].key in {
        str(n) for n in np.argsort(-cosines(base)[7])[1:4]
    }
    kept = retriever.embeddings()
    np.testing.assert_allclose(np.diag(cosines(np.vstack([kept[0], base[0]])), 1), 1, atol=1e-6)
    retriever.save(tmp_path / "g.imgret")
    again = Retriever.load(tmp_path / "g.imgret", embedder=mean_color)
    assert [[*hits] for hits in again.search_vectors(base[:50] * scale, 5)] == [
        [*hits] for hits in found
    ]


def test_one_small_item_among_others(mean_color, base):
    vectors = base.copy()
    vectors[0] *= 1e-7
    retriever = filled(mean_color, vectors)
    check(retriever.search_vectors(vectors[:1], 3), cosines(base)[:1])
    kept = retriever.embeddings()
    assert np.linalg.norm(kept[0]) == pytest.approx(1, abs=1e-3)  # the length is another
    np.testing.assert_allclose(kept[1:], vectors[1:], rtol=1e-3, atol=1e-6)  # and here it is not


@pytest.mark.parametrize("scale", [1, 1e-7])
def test_a_projection_sees_queries_and_items_alike(mean_color, base, scale):
    expected = filled(mean_color, base, dtype="float32")
    retriever = filled(mean_color, base * scale)
    if scale < 1:  # items of length 1, so that the mean is another
        base = base / np.linalg.norm(base, axis=1, keepdims=True)
        expected = filled(mean_color, base, dtype="float32")
    for each in (expected, retriever):
        each.project("pca", dim=8)
    for ours, theirs in zip(
        retriever.search_vectors(base[:30] * scale, 3, rerank="alpha-qe"),
        expected.search_vectors(base[:30], 3, rerank="alpha-qe"),
        strict=True,
    ):
        assert ours[0].key == theirs[0].key
        assert ours[0].score == pytest.approx(theirs[0].score, abs=1e-2)


def test_small_numbers_beside_large_ones_do_no_harm(mean_color, base):
    shares = np.exp(6 * base)
    shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    assert (shares < 6e-5).mean() > 0.5
    retriever = filled(mean_color, shares)
    np.testing.assert_allclose(retriever.embeddings(), shares, atol=5e-4)
    check(retriever.search_vectors(shares[:50], 5), cosines(shares.astype(np.float64))[:50])


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("scale", [1e-6, 1e-12, 1e-30])
def test_lengths_that_count_are_refused(mean_color, base, metric, scale):
    with pytest.raises(InvalidInputError, match=r"^0: embedding: .*float16.*dtype='float32'"):
        filled(mean_color, base * scale, metric=metric)
    vectors = base.copy()
    vectors[3] = 0  # of which nothing is lost
    assert len(filled(mean_color, vectors, metric=metric)) == N
    vectors[7] *= scale
    with pytest.raises(InvalidInputError, match=r"^7: embedding"):
        filled(mean_color, vectors, metric=metric)
    wide = filled(mean_color, base * scale, metric=metric, dtype="float32")
    np.testing.assert_array_equal(wide.embeddings(), (base * scale).astype(np.float32))


def test_what_float32_cannot_hold_is_refused(mean_color, base):
    for dtype in ("float16", "float32"):
        with pytest.raises(InvalidInputError, match="float32 can represent.*in row 0; scale"):
            filled(mean_color, base * 1e-42, dtype=dtype)
    retriever = filled(mean_color, base)
    with pytest.raises(InvalidInputError, match="float32 can represent"):
        retriever.search_vectors(base[:1] * 1e-60)
    with pytest.raises(InvalidInputError, match="only zeros"):
        retriever.search_vectors(np.zeros((1, 48)))


def test_too_small_is_what_rounding_changes():
    rng = np.random.default_rng(1)
    for dim in (1, 8, 48, 1280):
        for exponent in np.linspace(-9, 0, 40):
            rows = (10**exponent * rng.standard_normal((20, dim))).astype(np.float32)
            changed = np.linalg.norm(rows.astype(np.float16) - rows.astype(np.float64), axis=1)
            lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
            np.testing.assert_array_equal(too_small(rows), changed > 2.0**-10 * lengths)
