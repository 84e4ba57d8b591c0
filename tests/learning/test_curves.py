"""From scores to probabilities: against scikit-learn, and what must always hold."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from imgret.errors import InvalidInputError, StoreCorruptError
from imgret.learning import (
    IsotonicCurve,
    LogisticCurve,
    ScoreCalibration,
    pool_adjacent_violators,
)


def drawn(n=400, seed=0, steps=None):
    """Scores, and whether they are of one class: the likelier the higher."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    if steps:
        scores = np.round(scores * steps) / steps  # with many equal ones
    return scores, rng.random(n) < 1 / (1 + np.exp(-3 * scores + 0.5))


def platt(same):
    yes, no = same.sum(), (~same).sum()
    return np.where(same, (yes + 1) / (yes + 2), 1 / (no + 2))


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 4)), min_size=1, max_size=30),
)
def test_violators_are_pooled(pairs):
    values, weights = map(list, zip(*pairs, strict=True))
    fitted = pool_adjacent_violators(values, weights)
    assert (np.diff(fitted) >= 0).all()
    assert np.dot(fitted, weights) == pytest.approx(np.dot(values, weights))
    expected = IsotonicRegression().fit_transform(
        np.arange(len(values)), np.array(values, float), sample_weight=weights
    )
    np.testing.assert_allclose(fitted, expected, atol=1e-9)


@pytest.mark.parametrize("steps", [None, 4])
def test_the_isotonic_curve_is_scikit_learns(steps):
    scores, same = drawn(steps=steps)
    curve = IsotonicCurve.fit(scores, same)
    other = IsotonicRegression(out_of_bounds="clip").fit(scores, platt(same))
    asked = np.linspace(-5, 5, 1001)
    np.testing.assert_allclose(curve.probability(asked), other.predict(asked), atol=1e-9)
    assert len(curve.scores) < 150


@pytest.mark.parametrize("scale", [1.0, 1e-3, 500.0])
def test_the_logistic_curve_is_scikit_learns(scale):
    scores, same = drawn()
    curve = LogisticCurve.fit(scale * scores, same)
    target = platt(same)
    other = LogisticRegression(C=1e9, tol=1e-10).fit(
        np.repeat(scores, 2)[:, None],
        np.tile([True, False], len(scores)),
        sample_weight=np.stack([target, 1 - target], axis=1).ravel(),
    )
    expected = other.predict_proba(scores[:, None])[:, 1]
    np.testing.assert_allclose(curve.probability(scale * scores), expected, atol=1e-4)


def test_a_logistic_curve_never_falls():
    scores, same = drawn()
    curve = LogisticCurve.fit(-scores, same)
    assert curve.slope == 0
    assert curve.probability(0) == pytest.approx(same.mean(), abs=0.01)
    assert curve.threshold(0.1) is None


@pytest.mark.parametrize("kind", [IsotonicCurve, LogisticCurve])
@given(st.integers(0, 2**32 - 1), st.integers(20, 200), st.floats(0.01, 0.99))
def test_a_threshold_is_where_the_probability_is(kind, seed, n, precision):
    scores, same = drawn(n, seed)
    curve = kind.fit(scores, same)
    asked = np.sort(np.concatenate([scores, np.linspace(-4, 4, 50)]))
    likely = curve.probability(asked)
    assert (np.diff(likely) >= -1e-12).all()
    assert ((likely > 0) & (likely < 1)).all()
    score = curve.threshold(precision)
    if score is None:
        assert curve.probability(scores).max() < precision
        return
    assert curve.probability(score) >= precision - 1e-9
    if score > scores.min():
        assert curve.probability(score - 1e-6) <= precision + 1e-9


def test_few_pairs_make_nothing_certain():
    scores, same = np.arange(20.0), np.arange(20) >= 10
    assert IsotonicCurve.fit(scores, same).probability(19) == pytest.approx(11 / 12)
    calibration = ScoreCalibration(IsotonicCurve.fit(scores, same), "cosine", None)
    assert 9 < calibration.threshold(0.9) <= 10
    with pytest.raises(InvalidInputError, match="found 0.95, which none reaches"):
        calibration.threshold(0.95)


@pytest.mark.parametrize("precision", [0, 1, -0.1, 1.5, float("nan"), "0.9", None, True])
def test_a_precision_that_is_none(precision):
    calibration = ScoreCalibration(IsotonicCurve.fit(*drawn()), "cosine", None)
    with pytest.raises(InvalidInputError, match="precision: expected a number over 0 and below 1"):
        calibration.threshold(precision)


@pytest.mark.parametrize("kind", [IsotonicCurve, LogisticCurve])
def test_what_is_written_is_read(kind):
    calibration = ScoreCalibration(kind.fit(*drawn()), "l2", "f" * 64)
    assert ScoreCalibration.from_json(calibration.to_json()) == calibration
    assert ScoreCalibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"method": "magic", "metric": "cosine", "projection": None},
        {"method": "logistic", "metric": "cosine", "projection": None, "slope": 1.0},
        {
            "method": "isotonic",
            "metric": "cosine",
            "projection": None,
            "scores": [0.1, None],
            "probabilities": [0.1, 0.2],
        },
        {
            "method": "isotonic",
            "metric": "cosine",
            "projection": None,
            "scores": [0.1, 0.2],
            "probabilities": [0.1],
        },
        {
            "method": "isotonic",
            "metric": "cosine",
            "projection": None,
            "scores": [],
            "probabilities": [],
        },
    ],
)
def test_what_is_damaged_is_told(content):
    with pytest.raises(StoreCorruptError, match=r"calibration: expected.*call calibrate\(\) again"):
        ScoreCalibration.from_json(content)


def test_a_threshold_lies_between_the_corners():
    curve = IsotonicCurve((0.0, 1.0, 3.0), (0.1, 0.5, 0.9))
    assert curve.threshold(0.7) == pytest.approx(2)
    assert curve.threshold(0.2) == pytest.approx(0.25)
    assert curve.threshold(0.05) == 0
    assert curve.threshold(0.95) is None


def test_corners_are_the_first_and_the_last_score_of_a_level():
    scores = np.array([0.0, 1, 2, 3, 4, 5, 6])
    same = np.array([0, 0, 0, 1, 0, 1, 1], dtype=bool)
    curve = IsotonicCurve.fit(scores, same)
    low, high = 1 / 6, 4 / 5  # Platt's targets: 3 of one class, 4 of different ones
    assert curve.scores == (0, 2, 3, 4, 5, 6)
    middle = (low + high) / 2
    assert curve.probabilities == pytest.approx((low, low, middle, middle, high, high))
    curve = IsotonicCurve.fit(np.repeat([1.0, 2.0], 2), np.array([0, 0, 1, 1], dtype=bool))
    assert curve.scores == (1, 2)
    assert curve.probabilities == pytest.approx((1 / 4, 3 / 4))


def test_a_logistic_threshold_by_hand():
    curve = LogisticCurve(2.0, -1.0, 0.5)
    assert curve.threshold(0.5) == 0.5  # the highest score is one
    assert curve.threshold(0.51) is None
    assert curve.threshold(0.2) == pytest.approx((np.log(0.25) + 1) / 2)
    assert curve.probability([0.5, 1.0]) == pytest.approx([0.5, 1 / (1 + np.exp(-1))])


def test_a_weak_slope_is_kept():
    scores = np.repeat([0.0, 1.0], 20)
    same = np.arange(40) % 20 < np.repeat([9, 11], 20)  # 9 of 20, then 11
    curve = LogisticCurve.fit(scores, same)
    yes, no = 21 / 22, 1 / 22  # Platt's targets
    low, high = (9 * yes + 11 * no) / 20, (11 * yes + 9 * no) / 20
    assert curve.probability([0, 1]) == pytest.approx([low, high])
    assert curve.highest == 1
    even = LogisticCurve.fit(np.ones(40), same)
    assert even.probability(1) == pytest.approx(0.5)
