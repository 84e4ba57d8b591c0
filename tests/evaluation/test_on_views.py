"""Evaluation, recall and tuning on views of a few vectors, without a `Retriever`."""

import numpy as np
import pytest

from imgret.errors import InvalidInputError
from imgret.evaluation import evaluate, measure_recall, tune
from imgret.filters import parse_filter

LINE = [[0, 0], [1, 0], [2.5, 0], [10, 0], [11, 0], [50, 0]]


def test_leave_one_out(view_of):
    # 2 is nearest to 1 and 1 to 0; 5 is alone in its class and has nothing to find.
    report = evaluate(view_of(LINE, ["a", "a", "b", "b", "b", "c"]), k=(1, 2))
    assert report.n_queries == 6
    assert report.without_relevant == ("5",)
    # Right at once: 0, 1, 3 and 4; 2 finds 1 and 0 first.
    assert report.metrics["top1"] == pytest.approx(4 / 6)
    assert report.metrics["top2"] == pytest.approx(4 / 6)


def test_queries_of_a_class_that_is_filtered_out_have_nothing_to_find(view_of):
    view = view_of(LINE, ["a", "a", "b", "b", "b", "c"], where=parse_filter({"label": "b"}))
    report = evaluate(view, k=(1,))
    assert report.n_queries == 3
    assert report.metrics["top1"] == 1


def test_recall_of_an_exact_index_is_one(view_of):
    rows = np.random.default_rng(0).normal(size=(50, 8))
    found = measure_recall(view_of(rows), k=5)
    assert (found.value, found.ci, found.index) == (1, (1, 1), "flat")


def test_recall_is_of_the_queries_that_are_given(view_of):
    rows = np.random.default_rng(0).normal(size=(3000, 64))
    view = view_of(rows, index="hnsw")
    view.index.configure(ef_search=1)
    few = measure_recall(view, k=10, queries=rows[:100] + 0.1)
    view.index.configure(ef_search=400)
    assert few.value < measure_recall(view, k=10, queries=rows[:100] + 0.1).value


def test_tuning_leaves_the_index_as_it_chose(view_of):
    rows = np.random.default_rng(0).normal(size=(1000, 16))
    view = view_of(rows, index="hnsw")
    tuning = tune(view, recall=0.9, k=5, n_queries=100)
    assert tuning.chosen.recall >= 0.9
    assert view.index.settings() == tuning.chosen.settings
    with pytest.raises(InvalidInputError, match="at least 100 items"):
        tune(view_of(LINE))
