"""What labels teach, on views of made-up classes, without a `Retriever`."""

from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest

from imgret.errors import InvalidInputError
from imgret.learning import (
    AdaptReport,
    Classifier,
    adapt,
    calibrate,
    given_pairs,
    given_text_pairs,
    near_pairs,
    near_text_pairs,
)
from imgret.learning.adapt_report import Gain
from imgret.learning.confidence import Confidence
from imgret.learning.trial import Trial, _gains, _measures


@pytest.fixture
def classes(view_of):
    """Four classes that differ in one direction out of five, the one of least variance."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(4), 25)
    rows = rng.normal(size=(100, 5)) * [5, 5, 5, 5, 0.1]
    rows[:, 4] += codes
    return view_of(rows, [f"class {code}" for code in codes])


def test_adapt_finds_the_direction(classes):
    projection, report = adapt(classes)
    assert report.applied
    weights = np.abs(projection.matrix[:, 0])
    assert weights.argmax() == 4
    alone, _ = adapt(classes, dim=1)
    assert np.abs(alone.matrix[:, 0]).argmax() == 4


def test_adapt_leaves_alone_what_has_no_direction(view_of):
    rng = np.random.default_rng(0)
    projection, report = adapt(view_of(rng.normal(size=(100, 5)), list("abcd") * 25))
    assert projection is None
    assert not report.applied


def test_pairs_of_one_class_score_higher(view_of):
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(3), 20)
    view = view_of(rng.normal(size=(60, 2)) + 4 * codes[:, None], [f"c{code}" for code in codes])
    pairs = near_pairs(view, k=30, n_queries=60, seed=0)
    assert pairs.scores[pairs.same].mean() > pairs.scores[~pairs.same].mean()
    learned, report = calibrate(pairs, method="isotonic", metric=view.metric, projection=None)
    near, far = learned.probability(np.array([-0.01, -100.0]))
    assert near > 0.9
    assert far < 0.1
    assert report.to_dict()


def test_given_pairs_are_scored_by_the_metric(view_of):
    view = view_of([[0, 0], [3, 4], [1, 0]])
    pairs = given_pairs(view, [("0", "1", False), ("0", "2", True)])
    assert pairs.scores.tolist() == [-25, -1]
    assert pairs.same.tolist() == [False, True]
    assert (pairs.queries.tolist(), pairs.others.tolist()) == ([0, 0], [1, 2])
    many = [("0", "1", False), ("2", "1", True), ("0", "2", True)] * 2000
    assert given_pairs(view, many).scores.tolist() == [-25, -20, -1] * 2000


def test_given_pairs_of_a_text_are_scored_by_the_metric(view_of):
    def embed_text(words):
        return np.array([[len(word), 0] for word in words], dtype=np.float32)

    view = view_of([[0, 0], [3, 4], [1, 0]])
    given = [("rose", "1", False), ("a", "2", True), ("rose", "0", True)]
    pairs = given_text_pairs(view, given, embed_text)
    assert pairs.queries.tolist() == [-1, -2, -1]
    assert pairs.others.tolist() == [1, 2, 0]
    assert pairs.scores.tolist() == [-17, 0, -16]
    assert pairs.same.tolist() == [False, True, True]
    # A text may be spelled like a key; pairs may be many, or a set.
    many = given_text_pairs(view, [("1", "1", True), *given] * 1500, embed_text)
    assert many.scores.tolist() == [-20, -17, 0, -16] * 1500
    assert given_text_pairs(view, set(given), embed_text).same.sum() == 2


def test_descriptions_find_labelled_items(view_of):
    view = view_of([[0, 0], [3, 4], [1, 0], [3, 5]], ["b", "a", "b", None])
    texts = np.array([[3, 4], [0, 0]], dtype=np.float32)
    pairs = near_text_pairs(view, ["a", "b"], texts, k=2)
    assert pairs.queries.tolist() == [-1, -1, -2, -2]
    assert pairs.others.tolist() == [1, 2, 0, 2]
    assert pairs.scores.tolist() == [0, -20, 0, -1]
    assert pairs.same.tolist() == [True, False, True, True]
    assert len(near_text_pairs(view, ["a", "b"], texts, k=9).scores) == 6


def test_a_lone_item_makes_no_pair(view_of):
    for labels in (["a"], [None]):
        pairs = near_pairs(view_of([[0, 0]], labels), k=3, n_queries=5, seed=0)
        assert [each.dtype for each in pairs] == [np.int64, np.int64, np.float64, bool]
        assert [len(each) for each in pairs] == [0, 0, 0, 0]
    pairs = near_pairs(view_of([[0, 0], [3, 4]], ["a", "a"]), k=3, n_queries=5, seed=0)
    assert [each.tolist() for each in pairs] == [[0, 1], [1, 0], [-25, -25], [True, True]]


def test_a_classifier_is_sure_of_what_lies_apart(view_of):
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(3), 20)
    view = view_of(rng.normal(size=(60, 2)) + 20 * codes[:, None], [f"c{code}" for code in codes])
    classifier = Classifier.learn(view, 5)
    found = view.search(view.read(view.ids[:1]), 5)
    hits = [
        _Hit(view.labels.names[view.labels.of(found.ids)[0, n]], score)
        for n, score in enumerate(found.scores[0].tolist())
    ]
    name = classifier.name(hits)
    assert name.label == "c0"
    assert name.confidence > 0.9


class _Hit:
    def __init__(self, label, score):
        self.label, self.score, self.key = label, score, "k"


def test_too_few_labels_are_refused(view_of):
    with pytest.raises(InvalidInputError, match="label"):
        adapt(view_of([[0, 0], [1, 1]], ["a", "b"]))


def test_labels_of_items(view_of):
    labels = view_of(np.eye(4), ["a", None, "b", "b"]).labels
    assert labels.of(np.array([[0, 1], [3, 2]])).tolist() == [[0, -1], [1, 1]]


def test_pairs_may_be_a_set(view_of):
    assert len(given_pairs(view_of([[0, 0], [3, 4]]), {("0", "1", False)}).scores) == 1


def test_two_classes_differ_in_one_direction(view_of):
    rows = np.random.default_rng(0).normal(size=(50, 3))
    _, report = adapt(view_of(rows, list("ab") * 25))
    assert (report.classes, report.dim) == (2, 1)
    for dim in (0, 2):
        with pytest.raises(InvalidInputError, match=f"expected 1 to 1, because 2 .* found {dim}"):
            adapt(view_of(rows, list("ab") * 25), dim=dim)
    with pytest.raises(InvalidInputError, match="label more images first"):  # whatever dim is
        adapt(view_of(rows, ["a"] * 50), dim=1)


def test_what_an_adaptation_is_judged_by():
    found = np.array([[0, 1, 0, 1, 1], [1, 1, 1, 1, 1], [1, 0, 1, 1, 1]])
    top1, average = _measures(found, np.array([0, 0, 0]))
    assert top1.tolist() == [1, 0, 0]
    assert average.tolist() == pytest.approx([(1 + 2 / 3) / 2, 0, 1 / 2])


def test_a_gain_has_an_interval():
    before = np.stack([np.zeros(400), np.full(400, 0.5)])
    after = np.stack([np.arange(400) % 4 == 0, np.full(400, 0.75)]).astype(float)
    top1, map5 = _gains(before, after)
    assert map5 == Gain(0.5, 0.75, 0.25, 0.25)
    assert (top1.before, top1.after) == (0, 0.25)
    error = 1.96 * (0.25 * 0.75 / 400) ** 0.5
    assert (top1.low, top1.high) == pytest.approx((0.25 - error, 0.25 + error), abs=0.006)


def test_a_report_of_an_adaptation():
    gains = Gain(0.5, 0.75, 0.125, 0.375), Gain(0.25, 0.5, 0.2, 0.3)
    report = AdaptReport(True, *gains, 30, 40, 8, 2, 3, 7, 0.3, 1.25)
    basis = (
        "measured with 30 images held out in turn; 40 labelled images of 8 classes "
        "(2 of a single image), 3 without a label"
    )
    assert str(report).splitlines() == [
        "adapted: 7 dimensions, shrinkage 0.3; 1.2 s",
        "top-1  0.500 -> 0.750 (+0.250, 95% interval +0.125 to +0.375)",
        "mAP@5  0.250 -> 0.500 (+0.250, 95% interval +0.200 to +0.300)",
        basis,
    ]
    shown = report._repr_html_()
    for text in ("adapted: 7 dimensions", "<td>0.7500</td><td>+0.2500</td>", basis):
        assert text in shown
    kept = str(replace(report, applied=False))
    assert kept.startswith("not adapted, the gallery is unchanged: no reliable gain; 1.2 s")
    assert report.to_dict()["top1"] == {"before": 0.5, "after": 0.75, "low": 0.125, "high": 0.375}


@pytest.mark.parametrize(
    ("low", "after", "helps"),
    [(0.01, 0.5, True), (0.01, 0.49, False), (0.0, 0.6, False), (-0.01, 0.49, False)],
)
def test_an_adaptation_raises_top1_for_sure_and_never_lowers_map(low, after, helps):
    trial = Trial(0.1, Gain(0.5, 0.55, low, 0.1), Gain(0.5, after, -0.1, 0.1), queries=100)
    assert trial.helps is helps


def test_classes_of_two_are_enough_to_adapt(view_of):
    rows = np.random.default_rng(0).normal(size=(34, 5))
    labels = [f"c{n // 2}" for n in range(32)] + [None, None]
    started = perf_counter()
    _, report = adapt(view_of(rows[:33], [*labels[:30], "lone", None, None]))
    assert 0 < report.seconds < perf_counter() - started
    counts = (report.queries, report.items, report.classes, report.singles, report.unlabelled)
    assert counts == (30, 31, 16, 1, 2)
    assert report.dim == 5
    with pytest.raises(InvalidInputError, match="found 16 classes and 28 such images"):
        adapt(view_of(rows[:30], [*labels[:29], "lone"]))


def test_confidence_grows_with_the_best_score_of_a_vote():
    confidence = Confidence(1.0, 0.0, 0.0, 1.0, threshold=0.5, accuracy=1.0, queries=30)
    winners, found = confidence.name(np.array([[0, 1], [1, -1]]), np.array([[3.0, 1], [2, 9]]))
    assert winners.tolist() == [0, 1]
    assert found.tolist() == pytest.approx((1 / (1 + np.exp([-3.0, -2]))).tolist())


def test_the_numbers_of_classes_do_not_matter_for_confidence():
    rng = np.random.default_rng(0)
    own = np.repeat([0, 1], 20)
    codes = np.where(rng.random((40, 12)) < 0.6, own[:, None], 1 - own[:, None])
    strange = codes != own[:, None]
    # Items of one class have nearer ones of the other than the other way round.
    scores = rng.random((40, 12)) - np.where(strange, np.where(own, 0.0, 0.3)[:, None], 0.0)
    order = np.argsort(-scores, axis=1)
    codes, scores = (np.take_along_axis(each, order, axis=1) for each in (codes, scores))
    found = Confidence.learn(own, codes, scores, 5)
    swapped = Confidence.learn(1 - own, 1 - codes, scores, 5)
    assert 0.1 < found.threshold < 0.99
    assert swapped.threshold == pytest.approx(found.threshold)
    assert swapped.accuracy == found.accuracy
