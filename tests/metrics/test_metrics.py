"""Metrics: worked out by hand, by scikit-learn, and by a second, slower way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from imgret.errors import InvalidInputError
from imgret.evaluation import metrics

RANKING = np.array([[1, 0, 1, 1, 0]], dtype=bool)
DENOMINATORS = ("hits", "min_k_r", "r")


@st.composite
def rankings(draw, *, whole=False):
    """Rankings, how many relevant items there are, and a depth to look at.

    ``whole``: nothing that is relevant lies beyond the ranking.
    """
    depth = draw(st.integers(1, 12))
    rows = draw(st.lists(st.lists(st.booleans(), min_size=depth, max_size=depth), max_size=6))
    relevant = np.array(rows, dtype=bool).reshape(len(rows), depth)
    beyond = [0 if whole else draw(st.integers(0, 5)) for _ in rows]
    n_relevant = relevant.sum(axis=1) + np.array(beyond, dtype=int)
    return relevant, n_relevant, draw(st.integers(1, depth))


def padded(relevant, n_relevant):
    """The same rankings, with room for mAP@R."""
    more = max(0, int(n_relevant.max(initial=0)) - relevant.shape[1])
    return np.pad(relevant, ((0, 0), (0, more)))


# -- by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("denominator", "value"), [("hits", 0.806), ("min_k_r", 0.483), ("r", 0.038)]
)
def test_one_ranking_has_three_average_precisions(denominator, value):
    found = metrics.average_precision_at_k(RANKING, [64], 5, denominator=denominator)
    assert found.shape == (1,)
    assert found.dtype == np.float64
    assert found[0] == pytest.approx(value, abs=5e-4)


def test_the_others_by_hand():
    assert metrics.precision_at_k(RANKING, 5)[0] == pytest.approx(3 / 5)
    assert metrics.recall_at_k(RANKING, [64], 5)[0] == pytest.approx(3 / 64)
    assert metrics.top_k_accuracy(~RANKING, 1)[0] == 0
    assert metrics.top_k_accuracy(~RANKING, 2)[0] == 1
    assert metrics.reciprocal_rank([[0, 0, 1, 1]])[0] == pytest.approx(1 / 3)
    gain = 1 + 1 / math.log2(4) + 1 / math.log2(5)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, 6))
    assert metrics.ndcg_at_k(RANKING, [64], 5)[0] == pytest.approx(gain / ideal)
    # R = 4: ranks 1, 3 and 4 count, each with its precision, over 4
    found = metrics.average_precision_at_r(RANKING, [4])[0]
    assert found == pytest.approx((1 + 2 / 3 + 3 / 4) / 4)
    # R = 2: what lies at rank 3 comes too late
    assert metrics.average_precision_at_r([[0, 1, 1]], [2])[0] == pytest.approx(0.5 / 2)


def test_precision_divides_by_k_where_less_is_relevant():
    assert metrics.precision_at_k([[1, 0, 0, 0]], 4)[0] == 0.25


def test_a_query_with_nothing_to_find_counts_as_0():
    values = metrics.per_query([[0, 0], [1, 0]], [0, 1], k=(1, 2))
    for name, value in values.items():
        assert value[0] == 0, name
        assert np.isfinite(value).all(), name


# -- by other means --------------------------------------------------------------------------


def slowly(row, r, k, denominator):
    total = hits = 0
    for rank, is_relevant in enumerate(row[:k], 1):
        if is_relevant:
            hits += 1
            total += hits / rank
    possible = {"hits": hits, "min_k_r": min(k, r), "r": r}[denominator]
    return total / possible if possible else 0.0


@given(rankings(), st.sampled_from(DENOMINATORS))
def test_average_precision_as_its_definition_reads(ranked, denominator):
    relevant, n_relevant, k = ranked
    expected = [slowly(row, r, k, denominator) for row, r in zip(relevant, n_relevant, strict=True)]
    found = metrics.average_precision_at_k(relevant, n_relevant, k, denominator=denominator)
    np.testing.assert_allclose(found, expected)


@given(rankings())
def test_map_at_r_is_map_at_each_r(ranked):
    relevant, n_relevant, _ = ranked
    relevant = padded(relevant, n_relevant)
    found = metrics.average_precision_at_r(relevant, n_relevant)
    expected = [
        slowly(row, r, int(r), "r") for row, r in zip(relevant, n_relevant.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found, expected)


@pytest.mark.slow
@given(rankings(whole=True))
def test_against_scikit_learn(ranked):
    relevant, n_relevant, k = ranked
    depth = relevant.shape[1]
    scores = -np.arange(depth, dtype=float)
    ndcg = metrics.ndcg_at_k(relevant, n_relevant, k)
    whole = metrics.average_precision_at_k(relevant, n_relevant, depth, denominator="r")
    for row, is_relevant in enumerate(relevant):
        if depth > 1:  # ndcg_score refuses a single document
            assert ndcg[row] == pytest.approx(
                ndcg_score(is_relevant[None].astype(float), scores[None], k=k)
            )
        if is_relevant.any():
            assert whole[row] == pytest.approx(average_precision_score(is_relevant, scores))


@given(rankings())
def test_what_holds_for_every_ranking(ranked):
    relevant, n_relevant, k = ranked
    values = metrics.per_query(padded(relevant, n_relevant), n_relevant, k=(k,))
    for name, value in values.items():
        assert ((value >= 0) & (value <= 1 + 1e-12)).all(), name
    top, precision = values[f"top{k}"], values[f"precision{k}"]
    assert ((precision > 0) == (top == 1)).all()
    assert (values[f"map{k}_hits"] + 1e-12 >= values[f"map{k}_min_k_r"]).all()
    assert (values[f"map{k}_min_k_r"] + 1e-12 >= values[f"map{k}_r"]).all()
    # 1 exactly where the first ranks could not be better
    could = np.minimum(n_relevant, k)
    best = (relevant[:, :k].sum(axis=1) == could) & (could > 0)
    best &= np.array([row[:n].all() for row, n in zip(relevant, could, strict=True)], dtype=bool)
    np.testing.assert_array_equal(np.isclose(values[f"map{k}_min_k_r"], 1), best)
    np.testing.assert_array_equal(np.isclose(values[f"ndcg{k}"], 1), best)


@given(rankings(), st.integers(1, 4))
def test_blocks_give_the_means_of_the_whole(ranked, step):
    relevant, n_relevant, k = ranked
    relevant = padded(relevant, n_relevant)
    running = metrics.Accumulator(k=(k,))
    for start in range(0, len(relevant), step):
        running.add(relevant[start : start + step], n_relevant[start : start + step])
    assert running.n == len(relevant)
    if running.n:
        whole = metrics.per_query(relevant, n_relevant, (k,))
        expected = {name: pytest.approx(value.mean()) for name, value in whole.items()}
        assert running.means() == expected


def test_an_accumulator_takes_blocks_of_different_depth():
    running = metrics.Accumulator(k=[1])
    running.add([[1, 0]], [2])
    running.add([[0, 0, 0, 1]], [1])
    assert running.means()["mrr"] == pytest.approx((1 + 1 / 4) / 2)


# -- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.precision_at_k(RANKING, 6), "k: expected a whole number from 1 to 5.*6"),
        (lambda: metrics.precision_at_k(RANKING, 0), "from 1 to 5.*found 0"),
        (lambda: metrics.precision_at_k(RANKING, 1.0), "whole number.*found 1.0"),
        (lambda: metrics.top_k_accuracy(RANKING[0], 1), r"shape \(queries, depth\).*\(5,\)"),
        (lambda: metrics.reciprocal_rank([[0.5, 1]]), "expected booleans.*graded"),
        (lambda: metrics.reciprocal_rank([["a"]]), "expected booleans"),
        (lambda: metrics.recall_at_k(RANKING, [1, 2], 1), r"n_relevant: .*shape \(1,\)"),
        (lambda: metrics.recall_at_k(RANKING, [3.0], 1), "n_relevant: expected whole"),
        (lambda: metrics.recall_at_k(RANKING, [2], 1), "at least the 3 .* query 0, found 2"),
        (lambda: metrics.average_precision_at_r(RANKING, [6]), "depth 6.*found 5.*rank deeper"),
        (
            lambda: metrics.average_precision_at_k(RANKING, [3], 5, denominator="k"),
            "denominator: expected one of 'hits', 'min_k_r', 'r', found 'k'",
        ),
        (lambda: metrics.Accumulator().means(), "at least one query"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call()


def test_no_query_at_all_is_no_error():
    values = metrics.per_query(np.zeros((0, 3), dtype=bool), np.zeros(0, dtype=int), k=(1,))
    assert {value.shape for value in values.values()} == {(0,)}
