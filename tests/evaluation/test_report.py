"""Reports: what they say of the figures, and comparing two."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import InvalidInputError
from imgret.evaluation import compare
from imgret.evaluation.bootstrap import interval, resampled_means


@pytest.fixture
def report(gallery, queries):
    return gallery.evaluate(queries)


# -- intervals -------------------------------------------------------------------------------


def test_intervals_hold_the_mean_and_are_repeatable(gallery, queries, report):
    again = gallery.evaluate(queries)
    assert again.ci == report.ci
    for name in ("top1", "top5", "map_r", "mrr"):
        low, high = report.ci[name]
        assert 0 <= low <= report.metrics[name] <= high <= 1
    assert gallery.evaluate(queries, seed=1).ci != report.ci
    assert report.ci.keys() == report.metrics.keys()


def test_the_interval_is_that_of_the_normal_law_for_many():
    values = np.random.default_rng(3).random(2000)
    means = resampled_means({"x": values}, n_resamples=2000, seed=0)
    low, high = interval(means, 0.95)[:, 0]
    half = 1.96 * values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - half, abs=half / 10)
    assert high == pytest.approx(values.mean() + half, abs=half / 10)


def test_resampling_in_blocks_changes_nothing(monkeypatch):
    values = {"x": np.random.default_rng(0).random(7), "y": np.ones(7)}
    whole = resampled_means(values, n_resamples=50, seed=5)
    monkeypatch.setattr("imgret.support.statistics._BLOCK", 20)
    np.testing.assert_allclose(resampled_means(values, n_resamples=50, seed=5), whole)
    np.testing.assert_allclose(whole[:, 1], 1)


# -- what it says ------------------------------------------------------------------------------


def test_the_summary_has_four_metrics_whatever_k_is(gallery, queries, report):
    def titles(report):
        return re.findall(r"(?m)^(\S.*?) +[01]\.\d{4}  \[", report.summary())

    assert titles(report) == ["top-1 accuracy", "top-5 accuracy", "mAP@5", "mAP@R"]
    assert report.summary().splitlines()[0] == report.headline()
    assert all(warning in report.summary() for warning in report.warnings)
    wide = gallery.evaluate(queries, k=(2, 8))
    assert titles(wide) == ["top-2 accuracy", "top-8 accuracy", "mAP@8", "mAP@R"]
    assert titles(gallery.evaluate(queries, k=(3,))) == ["top-3 accuracy", "mAP@3", "mAP@R"]


def test_json_has_what_is_promised(report):
    facts = json.loads(report.to_json())
    assert {"top1", "top5", "map5", "map_r", "mrr", "ndcg10", "n_queries", "ci"} <= facts.keys()
    assert {"per_class", "config", "failed", "matches", "warnings", "seconds"} <= facts.keys()
    assert facts["map5"].keys() == {"hits", "min_k_r", "r"}
    assert facts["ci"]["map5"]["r"][0] <= facts["map5"]["r"] <= facts["ci"]["map5"]["r"][1]
    assert facts["n_queries"] == 5
    assert facts["n_failed"] == 1
    assert facts["per_class"]["wood"]["n_queries"] == 2
    assert facts["per_class"]["wood"]["top1"] <= 0.5  # one of two could not be read


def test_the_configuration_is_exact(gallery, queries, report):
    config = report.config
    assert config["queries"] == str(queries)
    assert config["leave_one_out"] is False
    assert config["embedder"] == {"name": "mean-color", "config": {"offset": 1.0}}
    assert config["fingerprint"] == gallery.embedder.fingerprint
    assert config["index"]["name"] == "flat"
    assert (config["n_items"], config["n_classes"], config["k"]) == (12, 3, [1, 5, 10])
    assert config["bootstrap"] == {"n_resamples": 1000, "confidence": 0.95, "seed": 0}


def test_time_is_told(report):
    assert report.seconds > 0
    assert report.images_per_second == pytest.approx(5 / report.seconds)
    assert {"embed", "search"} <= report.stages.keys()


def test_text(report):
    assert "wood/broken.jpg" in str(report)
    assert re.search(r"map5_min_k_r +0\.\d{4}  \[0\.\d{4}, [01]\.\d{4}\]", str(report))
    assert repr(report).startswith("<Report of 5 queries: top1 ")


class Tags(HTMLParser):
    """Counts tags, and fails on one that is not closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.count = [], {}
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_holds_classes_worst_queries_and_pictures(report):
    page = report.to_html(title="A <title>")
    tags = Tags(page)
    assert tags.count["table"] == 5
    n_images = sum(1 + len(worst.hits) for worst in report.worst) + 2 * len(report.confusions)
    assert tags.count["img"] == n_images
    assert "A &lt;title&gt;" in page
    assert 'class="sortable"' in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # needs nothing else
    for text in ("moor", "wood/broken.jpg", "could not be read", "fingerprint"):
        assert text in page


def test_names_are_escaped_in_the_page(mean_color):
    made = Retriever(embedder=mean_color)
    vectors = np.eye(48)[:3]
    made.add_vectors(vectors, keys=["<b>1", "<b>2", "3"], labels=["<i>x", "<i>x", "y"])
    page = made.evaluate(k=(1,)).to_html()
    Tags(page)
    assert "<b>1" not in page
    assert "<i>x" not in page


def test_a_notebook_shows_figures_and_warnings(report):
    shown = report._repr_html_()
    Tags(shown)
    assert "map_r" in shown
    assert "wood/broken.jpg" in shown


def test_the_worst_come_first(report):
    precision = [worst.average_precision for worst in report.worst]
    assert precision == sorted(precision)
    assert max(precision) < 1
    left_out = {"wood/broken.jpg", "moor/new.jpg"}
    assert not left_out & {worst.query for worst in report.worst}
    for worst in report.worst:
        assert [hit.rank for hit in worst.hits] == [1, 2, 3, 4, 5]


# -- comparing ---------------------------------------------------------------------------------


def noisy(mean_color, noise, labels, *, seed=1):
    """A gallery of clusters, more or less blurred."""
    vectors = np.eye(48)[[int(label) for label in labels]]
    vectors = vectors + noise * np.random.default_rng(seed).normal(size=vectors.shape)
    made = Retriever(embedder=mean_color)
    made.add_vectors(vectors, keys=[f"k{n}" for n in range(len(labels))], labels=labels)
    return made.evaluate(k=(1, 5))


@pytest.fixture
def labels():
    return [str(n % 8) for n in range(120)]


def test_a_better_system_is_told_from_a_worse_one(mean_color, labels):
    worse, better = noisy(mean_color, 0.4, labels), noisy(mean_color, 0.2, labels)
    found = compare(worse, better)
    row = found.metrics["map_r"]
    assert row["a"] == pytest.approx(worse.metrics["map_r"])
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    assert 0 < row["ci"][0] < row["difference"] < row["ci"][1]
    assert row["p"] < 0.01
    turned = compare(better, worse).metrics["map_r"]
    assert turned["difference"] == pytest.approx(-row["difference"])
    assert "map5_min_k_r" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["n_queries"] == 120


def test_a_system_does_not_differ_from_itself(mean_color, labels):
    report = noisy(mean_color, 0.4, labels)
    for row in compare(report, report).metrics.values():
        assert row["difference"] == 0
        assert row["ci"] == [0, 0]
        assert row["p"] == 1


def test_pairing_makes_the_interval_narrower(mean_color, labels):
    a, b = noisy(mean_color, 0.4, labels), noisy(mean_color, 0.38, labels)
    low, high = compare(a, b).metrics["map_r"]["ci"]
    spread = [report.ci["map_r"][1] - report.ci["map_r"][0] for report in (a, b)]
    assert high - low < np.hypot(*spread)


def test_the_order_of_the_queries_does_not_matter(gallery, queries):
    paths = sorted(queries.rglob("*.jpg"))
    a = gallery.evaluate(paths, "parent")
    b = gallery.evaluate(paths[::-1], "parent")
    for row in compare(a, b).metrics.values():
        assert row["difference"] == pytest.approx(0, abs=1e-12)


def test_other_queries_or_labels_cannot_be_compared(gallery, queries):
    paths = sorted(queries.rglob("*.jpg"))
    report = gallery.evaluate(paths, "parent")
    with pytest.raises(InvalidInputError, match=r"the same queries, found .* in a only"):
        compare(report, gallery.evaluate(paths[1:], "parent"))
    with pytest.raises(InvalidInputError, match=r"the same queries"):
        compare(gallery.evaluate(paths[1:], "parent"), report)
    with pytest.raises(InvalidInputError, match=r"the same label for .*'lake' and 'wood'"):
        compare(report, gallery.evaluate(paths, ["wood"] * len(paths)))
