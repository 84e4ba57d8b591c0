"""Votes and their confidence, against plain loops and sums done by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from imgret.errors import InvalidInputError
from imgret.learning import Classifier, Confidence, Name, calibration_error
from imgret.learning.confidence import _fit, _threshold, _without, vote


def counted(codes, scores, temperature):
    """Winners and their shares, one row at a time."""
    found = []
    for row, values in zip(codes.tolist(), scores.tolist(), strict=True):
        weights = {}  # by the nearest: the first of the largest wins a tie
        for code, score in zip(row, values, strict=True):
            if code >= 0:
                weights[code] = weights.get(code, 0) + np.exp(score / temperature)
        winner = max(weights, key=weights.get, default=-1)
        found.append((winner, weights[winner] / sum(weights.values()) if weights else 0))
    return tuple(map(np.array, zip(*found, strict=True)))


@pytest.mark.parametrize("temperature", [0.1, 2.0])
def test_votes_are_counted_in_each_row(temperature):
    rng = np.random.default_rng(0)
    codes, scores = rng.integers(-1, 4, (200, 6)), -np.sort(-rng.normal(size=(200, 6)))
    codes[:3] = [[-1] * 6, [3, 0, -1, -1, -1, -1], [-1, -1, 2, 2, -1, -1]]
    scores[1] = 1
    winners, shares = vote(codes, scores, temperature)
    expected = counted(codes, scores, temperature)
    assert winners.tolist() == expected[0].tolist()
    np.testing.assert_allclose(shares, expected[1])
    assert winners[:3].tolist() == [-1, 3, 2]
    assert shares[:3].tolist() == [0, 0.5, 1]


# -- the regression --------------------------------------------------------------------------------


def drawn(n=150, k=7, sign=1):
    """Neighbours of items; those with a high level are more often of the own class."""
    rng = np.random.default_rng(0)
    own, level = rng.integers(0, 3, n), rng.normal(size=(n, 1))
    likely = 1 / (1 + np.exp(-1.5 * level - 0.5))
    codes = np.where(rng.random((n, k)) < likely, own[:, None], rng.integers(-1, 3, (n, k)))
    codes[(codes < 0).all(axis=1), 0] = 0
    return own, codes, 5 + 0.5 * sign * level - np.sort(rng.random((n, k)))


def unanimous():
    """Wrong votes are unanimous and have better scores than right ones."""
    own, wrong = np.repeat([0, 1], 40), np.arange(80) % 3 == 1
    codes = np.stack([own, own, own, 1 - own, 1 - own], axis=1)
    codes[wrong] = 1 - own[wrong, None]
    return own, codes, np.where(wrong, 0.8, 0.2)[:, None] - 0.01 * np.arange(5) * own[:, None]


@pytest.mark.parametrize(
    ("given", "free"), [(drawn(), (1, 1)), (drawn(sign=-1), (1, 0)), (unanimous(), (0, 0))]
)
def test_a_confidence_is_a_penalised_regression_on_platts_targets(given, free):
    own, codes, scores = given
    loss, temperature, (bias, of_share, of_score) = _fit(own, codes, scores, 0.3)
    assert temperature == 0.3
    winners, shares = counted(codes, scores, 0.3)
    right = winners == own
    yes, no = right.sum(), (~right).sum()
    assert yes > 40
    assert no > 20
    target = np.where(right, (yes + 1) / (yes + 2), 1 / (no + 2))
    odds = np.log((shares + 0.005) / (1.005 - shares))
    best = np.where(codes >= 0, scores, -np.inf).max(axis=1)
    logits = bias + of_share * odds + of_score * best
    assert loss == pytest.approx((np.logaddexp(0, logits) - target * logits).mean())
    # The slope of the log loss and of the penalties is 0; a weight that would be negative is left
    # out. The score counts in standard deviations from its mean.
    off, scale = 1 / (1 + np.exp(-logits)) - target, best.std()
    assert off.sum() + 1e-3 * (bias + of_score * best.mean()) == pytest.approx(0, abs=1e-6)
    for weight, slope, is_free in (
        (of_share, off @ odds + of_share, free[0]),
        (of_score, off @ (best - best.mean()) / scale + of_score * scale, free[1]),
    ):
        assert (weight > 0) == is_free
        assert weight == 0 or slope == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("factor", [0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
def test_the_temperature_is_the_one_that_fits(factor):
    """Labels are drawn as the votes at a temperature make them likely; scores span 1."""
    rng = np.random.default_rng(1)
    scores = -np.sort(-rng.random((3000, 8)))
    scores[:, 0], scores[:, -1] = 3, 2
    scores[:, 1:-1] += 2
    codes = rng.integers(0, 3, scores.shape)
    weights = np.exp((scores - 3) / factor).cumsum(axis=1)
    chosen = (weights < rng.random((3000, 1)) * weights[:, -1:]).sum(axis=1)
    own = codes[np.arange(3000), chosen]
    assert Confidence.learn(own, codes, scores, 8).temperature == pytest.approx(factor)


def test_the_unit_of_temperatures_is_the_median_range_of_scores():
    """If all neighbours agree, all temperatures fit alike, and the first is taken."""
    codes = np.repeat(np.arange(43) % 2, 3).reshape(-1, 3)
    own = codes[:, 0].copy()
    scores = np.stack([np.arange(43.0) - 2, np.ones(43), np.full(43, -np.inf)], axis=1)
    codes[:, 2] = -1
    codes[:4], scores[:4] = -1, -np.inf  # nothing found: they have no range
    learned = Confidence.learn(own, codes, scores, 3)
    assert learned.temperature == pytest.approx(0.05 * 20)  # 1 to 39
    assert (learned.accuracy, learned.queries) == (39 / 43, 43)
    for level, spread in ((1.0, 1e-6), (-5.0, 5e-6), (0.0, 1e-12)):  # of equal scores
        learned = Confidence.learn(own[:30], own[:30, None], np.full((30, 1), level), 1)
        assert learned.temperature == pytest.approx(0.05 * spread, rel=1e-9)
        assert learned.threshold == 0.5  # no unknowns to learn from


def test_thirty_items_are_enough():
    own = np.arange(30) % 2
    assert Confidence.learn(own, own[:, None], np.ones((30, 1)), 1).queries == 30
    for few in (own[:29], own[:30] * 0):
        with pytest.raises(InvalidInputError, match="expected at least 2 classes and 30 images"):
            Confidence.learn(few, few[:, None], np.ones((len(few), 1)), 1)


def test_a_confidence_by_hand():
    learned = Confidence(0.5, -1.0, 2.0, 0.5, threshold=0.5, accuracy=1.0, queries=30)
    codes = np.array([[0, 0, 0, 1], [-1] * 4, [-1, 1, 1, 1]])
    scores = np.array([[3.0] * 4, [9.0] * 4, [9.0, 2, 2, 2]])
    winners, found = learned.name(codes, scores)
    logits = [-1 + 2 * np.log(0.755 / 0.255) + 0.5 * 3, -1 + 2 * np.log(1.005 / 0.005) + 0.5 * 2]
    assert winners.tolist() == [0, -1, 1]
    assert found[1] == 0
    np.testing.assert_allclose(found[[0, 2]], 1 / (1 + np.exp(-np.array(logits))))


# -- unknown ---------------------------------------------------------------------------------------


def test_neighbours_without_the_own_class():
    codes = np.array([[0, 1, -1, 0, 2], [1, 1, 0, 1, -1]])
    scores = np.array([[9.0, 8, 7, 6, 5], [9, 8, 7, 6, 5]])
    others, of_others = _without(np.array([0, 1]), codes, scores, 2)
    assert others.tolist() == [[1, 2], [0, -1]]
    assert of_others.tolist() == [[8, 5], [7, -np.inf]]


@pytest.mark.parametrize(
    ("confidence", "right", "unsure", "expected"),
    [
        ([0.9, 0.8, 0.3], [1, 1, 1], [0.1, 0.5], 0.8),  # 2 of 3 kept, 2 of 2 refused
        ([0.9, 0.8, 0.3, 0.2], [1, 1, 1, 0], [0.3, 0.25, 0.1, 0.1], 0.3),  # 3 of 4 each
        ([0.3, 0.9], [1, 1], [0.95, 0.95], 0.0),  # nothing is worth refusing
        ([0.6, 0.7], [0, 0], [0.2, 0.65], 0.7),
        ([0.3, 0.9], [1, 1], [], 0.5),
    ],
)
def test_a_threshold_is_where_most_are_right(confidence, right, unsure, expected):
    found = _threshold(np.array(confidence), np.array(right, bool), np.array(unsure))
    assert found == expected


def test_calibration_error_is_of_fifteen_bins():
    assert calibration_error([0.75], [True]) == pytest.approx(0.25)
    assert calibration_error([], []) == 0
    assert calibration_error([0.61, 0.66], [False, True]) == pytest.approx(0.135)  # 9/15 to 10/15
    for low, high in ((0.66, 0.67), (0.93, 0.94)):
        gaps = low + (1 - high)
        assert calibration_error([low, high], [False, True]) == pytest.approx(gaps / 2)


# -- names -----------------------------------------------------------------------------------------


def hits_of(*pairs):
    return [SimpleNamespace(label=a, score=s, key=f"k{n}") for n, (a, s) in enumerate(pairs)]


def test_a_name_by_hand():
    even = Confidence(0.5, 0.0, 0.0, 0.0, threshold=0.5, accuracy=1.0, queries=30)
    classifier = Classifier(even, 5)
    hits = hits_of(("b", 1.8), ("a", 1.8), (None, 1.7), ("a", 1.3), ("c", 1.3), ("d", 1.0))
    name = classifier.name(hits)
    total = 2 + 2 * np.exp(-1)
    assert list(name.votes) == ["a", "b", "c"]
    expected = np.array([1 + np.exp(-1), 1, np.exp(-1)]) / total
    np.testing.assert_allclose(list(name.votes.values()), expected)
    assert (name.label, name.confidence, name.threshold) == ("a", 0.5, 0.5)
    assert str(name) == "a (0.50)"
    unknown = classifier.name(hits, 0.6)
    assert (unknown.label, unknown.confidence, unknown.threshold) == (None, 0.5, 0.6)
    assert str(unknown) == "unknown (0.50 for a)"
    lone = classifier.name(hits[2:3])
    assert lone == Name(None, 0.0, {}, 0.5, hits[2:3])
    assert str(lone) == "unknown"


def test_a_name_is_shown():
    hits = hits_of(("a", 0.5))
    name = Name("a", 0.5, {f"label {n}": 0.05 for n in range(20)}, 0.25, hits)
    assert name._repr_html_().count("<tr><td>label") == 10
    assert "<table" not in Name(None, 0.0, {}, 0.5, hits)._repr_html_()
    assert "hits" not in repr(name)
    assert json.loads(name.to_json()) == {
        "label": "a",
        "confidence": 0.5,
        "votes": name.votes,
        "threshold": 0.25,
        "hits": [{"key": "k0", "label": "a", "score": 0.5}],
    }


def test_a_classifier_learns_from_classes_of_two_or_more(view_of):
    labels = ["a"] * 20 + ["b"] * 20 + ["c"] * 2 + ["d"] + [None]
    rows = np.random.default_rng(0).normal(size=(44, 2))
    assert Classifier.learn(view_of(rows, labels), 3).confidence.queries == 42
    with pytest.raises(InvalidInputError, match="found 0 classes and 0 such images"):
        Classifier.learn(view_of(rows), 3)
