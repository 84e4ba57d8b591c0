"""Curves and confusions of an evaluation, beside what the definitions give."""

import json
import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret import Retriever, images
from imgret.errors import InvalidInputError
from imgret.evaluation import Report, metrics


def interpolated(relevant, n_relevant):
    """The definition, item by item: Manning et al., section 8.4."""
    points = []  # recall and precision at every rank
    for rank in range(1, len(relevant) + 1):
        found = sum(relevant[:rank])
        points.append((found, found / rank))
    values = []
    for level in range(11):
        good = [p for found, p in points if n_relevant and 10 * found >= level * n_relevant]
        values.append(max(good, default=0.0))
    return values


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 20))
def test_interpolated_precision_is_the_definition(relevant, beyond):
    n_relevant = sum(relevant) + beyond
    found = metrics.interpolated_precision(np.array([relevant], dtype=bool), [n_relevant])
    assert found.shape == (1, 11)
    np.testing.assert_allclose(found[0], interpolated(relevant, n_relevant))
    assert (np.diff(found[0]) <= 0).all()


def test_interpolated_precision_of_the_example_in_the_book():
    """Hits at ranks 1, 3, 6 of three: precision 1, 2/3 and 1/2."""
    relevant = np.array([[1, 0, 1, 0, 0, 1]])
    values = metrics.interpolated_precision(relevant, [3])[0]
    np.testing.assert_allclose(values, [1] * 4 + [2 / 3] * 3 + [1 / 2] * 4)


def blurred(mean_color, noise, *, classes=4, each=10, index="flat"):
    labels = [f"c{n % classes}" for n in range(classes * each)]
    centres = np.random.default_rng(0).normal(size=(classes, 48))
    vectors = centres[[int(label[1:]) for label in labels]]
    vectors = vectors + noise * np.random.default_rng(1).normal(size=vectors.shape)
    made = Retriever(embedder=mean_color, dtype="float32", index=index)
    made.add_vectors(vectors, keys=[f"k{n}" for n in range(len(labels))], labels=labels)
    return made


def rankings(retriever):
    """For each item, whether the other items have its label, best first."""
    vectors = retriever.embeddings()
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.array([retriever[key].label for key in retriever])
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    return labels[order] == labels[:, None], labels[order[:, 0]], labels


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_the_curves_are_means_over_the_queries(mean_color, index):
    made = blurred(mean_color, 1.5, index=index)
    report = made.evaluate()
    curves = report.curves
    relevant, _, _ = rankings(made)
    assert curves.depth == 40
    assert curves.ks == (1, 2, 5, 10, 20, 40)
    direct = np.mean([interpolated(row, row.sum()) for row in relevant], axis=0)
    np.testing.assert_allclose(curves.precision, direct)
    for k, recall, top in zip(curves.ks, curves.recall, curves.top, strict=True):
        assert recall == pytest.approx((relevant[:, :k].sum(axis=1) / 9).mean())
        assert top == pytest.approx(relevant[:, :k].any(axis=1).mean())
    for k in (1, 5, 10):
        place = curves.ks.index(k)
        assert report.metrics[f"recall{k}"] == pytest.approx(curves.recall[place])
        assert report.metrics[f"top{k}"] == pytest.approx(curves.top[place])


def test_small_classes_are_ranked_to_five_times_their_size(mean_color):
    made = blurred(mean_color, 1.5, classes=30, each=4)
    curves = made.evaluate(k=(1,)).curves
    assert curves.depth == 20
    relevant, _, _ = rankings(made)
    direct = np.mean([interpolated(row[:20], 3) for row in relevant], axis=0)
    np.testing.assert_allclose(curves.precision, direct)
    full = np.mean([interpolated(row, 3) for row in relevant], axis=0)
    assert 0 <= (full - curves.precision).min() <= (full - curves.precision).max() <= 0.2


def test_queries_that_fail_count_as_nothing_found(gallery, queries):
    """Three of five have something to find and can be read."""
    curves = gallery.evaluate(queries).curves
    assert curves.top[-1] == pytest.approx(3 / 5)
    assert curves.recall[-1] == pytest.approx(3 / 5)


def test_confusions_count_wrong_first_hits(mean_color):
    made = blurred(mean_color, 2.0)
    report = made.evaluate()
    _, first, labels = rankings(made)
    counted = {}
    for label, taken_for in zip(labels, first, strict=True):
        if label != taken_for:
            counted[label, taken_for] = counted.get((label, taken_for), 0) + 1
    assert {(pair.label, pair.taken_for): pair.n_confused for pair in report.confusions} == counted
    assert [pair.n_confused for pair in report.confusions] == sorted(counted.values(), reverse=True)
    for pair in report.confusions:
        assert pair.n_queries == 10
        assert made[pair.query].label == pair.label
        assert pair.hit.label == pair.taken_for
        assert made.search_key(pair.query, k=1)[0].key == pair.hit.key


def test_a_class_the_gallery_lacks_is_confused_too(gallery, queries):
    report = gallery.evaluate(queries)
    assert [pair.n_queries for pair in report.confusions if pair.label == "moor"] == [1]


def test_the_page_shows_curves_confusions_and_settings(gallery, queries):
    report = gallery.evaluate(queries)
    for text in (report.to_html(), report._repr_html_()):
        assert text.count("<svg ") == 2
        assert "</b> is taken for <b>" in text
        assert len(text) < 1_000_000
    page = report.to_html()
    for words in ("mean-color (offset=1.0)", "fingerprint", "n_resamples 1000", "imgret 0"):
        assert words in page
    assert 'aria-label="wrong"' in page


def test_a_perfect_gallery_has_no_confusions(mean_color):
    report = blurred(mean_color, 0.001).evaluate()
    assert report.confusions == ()
    assert set(report.curves.precision) == {1.0}
    assert "The first hit of every query is of its class." in report.to_html()


# -- as JSON and back ------------------------------------------------------------------------


def test_a_report_comes_back_from_json(gallery, queries, tmp_path):
    report = gallery.evaluate(queries)
    report.save(tmp_path / "report.json")
    again = Report.load(tmp_path / "report.json")
    assert again.to_dict() == report.to_dict()
    assert again.to_html() == report.to_html()
    assert str(again) == str(report)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file names")
def test_a_report_on_files_without_a_proper_name_can_be_saved(mean_color, make_picture, tmp_path):
    made = Retriever(embedder=mean_color)
    made.add([make_picture(n) for n in range(4)], keys=list("abcd"), labels=["x", "x", "y", "y"])
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")
    with open(path, "wb") as file:  # noqa: PTH123  # the name is no text
        file.write(images.encode(make_picture(9)))
    report = made.evaluate([path], ["x"], k=(1,))
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json").queries == report.queries
    assert "%FF.jpg" in report.to_html() or not report.worst


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content.pop("per_query"), "found no 'per_query'"),
        (lambda content: content["per_query"]["label"].pop(), "5 labels and values"),
        (lambda content: content["per_query"]["top1"].pop(), "5 labels and values"),
        (lambda content: content.update(curves={"depth": 3}), "Curves"),
        (lambda content: content.update(per_query=[1]), "report: expected what"),
    ],
)
def test_other_json_is_no_report(gallery, queries, tmp_path, change, told):
    content = gallery.evaluate(queries).to_dict()
    change(content)
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="a.json: report: expected what") as raised:
        Report.load(tmp_path / "a.json")
    assert told in str(raised.value)


@pytest.mark.parametrize("text", ["", "[1]", '"a"', "{}", "{", "\xff"])
def test_other_files_are_no_reports(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInputError, match="a.json: .*expected"):
        Report.load(tmp_path / "a.json")
    with pytest.raises(InvalidInputError, match="none.json: .*cannot be read"):
        Report.load(tmp_path / "none.json")
