"""Hits of a batch that is put together by hand, and every form they can be shown in."""

import sys
import webbrowser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from imgret.images import MAX_PIXELS
from imgret.search.hits import Batch, Hits, HitsList
from imgret.support.metric import DistanceMetric
from imgret.types import Box, Hit, Item, Neighbors

ITEMS = [
    Item("a", path="x/a.jpg", label="rose", box=Box(0, 1, 2, 3), sha256=b"1"),
    Item("b", label="lily", metadata={"n": 1}),
    Item("c", label="lily"),
    Item("d"),
]
IDS = [[2, 0, 1, 3], [3, 1, -1, -1], [-1, -1, -1, -1]]
SCORES = [[0.5, 0.25, -0.5, -1.0], [0.75, 0.25, -np.inf, -np.inf], [-np.inf] * 4]


class Gallery:
    """Looks up items, and counts how often it is asked."""

    asked = 0

    def items(self, ids):
        self.asked += 1
        assert list(ids) == sorted(set(ids))
        return (ITEMS[id_] for id_ in ids)


def batch(metric="cosine", threshold=None, probability=None, searched=None, max_pixels=1000):
    scores = np.array(SCORES, dtype=np.float32)
    return Batch(
        Neighbors(np.array(IDS), scores),
        metric and DistanceMetric(metric),
        searched or Gallery(),
        threshold,
        best=scores[:, 0],
        probability=probability,
        max_pixels=max_pixels,
    )


def all_hits(**given):
    made = batch(**given)
    return [Hits(made, row) for row in range(len(made))]


def keys(hits):
    return [hit.key for hit in hits]


def test_hits_are_the_items_in_order():
    first, second, none = all_hits()
    assert list(first) == [
        Hit("c", 0.5, 1, "lily", {}, None, None),
        Hit("a", 0.25, 2, "rose", {}, "x/a.jpg", Box(0, 1, 2, 3), sha256=b"1"),
        Hit("b", -0.5, 3, "lily", {"n": 1}, None, None),
        Hit("d", -1.0, 4, None, {}, None, None),
    ]
    assert [hit.sha256 for hit in first] == [None, b"1", None, None]
    assert keys(second) == ["d", "b"]
    assert [len(each) for each in (first, second, none)] == [4, 2, 0]
    assert (first[1].key, keys(first[2:])) == ("a", ["b", "d"])
    assert (first.is_calibrated, first.threshold, first.max_pixels) == (False, None, 1000)


def test_items_are_looked_up_once_and_not_for_a_number():
    searched = Gallery()
    made = batch(searched=searched)
    assert made.counts == [4, 2, 0]
    assert (len(made), searched.asked) == (3, 0)
    assert made.resolve() is made.resolve()
    assert searched.asked == 1


def test_a_threshold_keeps_scores_that_reach_it():
    first, second, none = all_hits(threshold=0.25)
    assert (keys(first), keys(second), keys(none)) == (["c", "a"], ["d", "b"], [])
    assert [len(each) for each in (first, second, none)] == [2, 2, 0]
    high = all_hits(threshold=0.6)
    assert [keys(each) for each in high] == [[], ["d"], []]
    assert [each.best_score for each in high] == [0.5, 0.75, None]
    assert [each.no_match for each in high] == [
        "no match: the best score is 0.500, below 0.600",
        "",
        "no match",
    ]
    assert [each.no_match for each in all_hits()] == ["", "", "no match"]
    assert repr(high[0]) == "<Hits: no match: the best score is 0.500, below 0.600>"


@pytest.mark.parametrize(
    ("metric", "distances"),
    [
        ("l2", [-0.5, -0.25, 0.5, 1.0]),
        ("cosine", [None] * 4),
        ("ip", [None] * 4),
        (None, [None] * 4),
    ],
)
def test_a_distance_is_that_of_l2(metric, distances):
    first = all_hits(metric=metric)[0]
    assert [hit.distance for hit in first] == distances
    assert [row.get("distance") for row in first.to_dicts()] == distances


def test_probabilities_are_of_the_scores():
    first, second, none = all_hits(probability=lambda scores: scores / 4 + 0.5)
    assert [hit.probability for hit in first] == [0.625, 0.5625, 0.375, 0.25]
    assert [type(hit.probability) for hit in second] == [float, float]
    assert (first.is_calibrated, list(none)) == (True, [])
    assert first.to_dicts()[1]["probability"] == 0.5625


def test_the_label_is_the_most_common_one_and_the_best_of_a_tie():
    first, second, none = all_hits()
    assert (first.label, second.label, none.label) == ("lily", "lily", None)
    tied = all_hits(threshold=0.0)[0]
    assert (keys(tied), tied.label) == (["c", "a"], "lily")
    assert all_hits(threshold=0.7)[1].label is None  # a hit without a label has no vote


def test_hits_are_equal_by_what_they_hold():
    first, second, _ = all_hits()
    assert first == all_hits()[0]
    assert first != second
    assert first != list(first)
    with pytest.raises(TypeError, match="unhashable"):
        hash(first)


def test_text_shows_three():
    first, second, _ = all_hits()
    assert repr(first) == "<Hits: 4 ['c' 0.500, 'a' 0.250, 'b' -0.500, ...]>"
    assert repr(second) == "<Hits: 2 ['d' 0.750, 'b' 0.250]>"
    assert repr(all_hits(threshold=-0.5)[0]) == "<Hits: 3 ['c' 0.500, 'a' 0.250, 'b' -0.500]>"


def test_json_has_the_query_and_every_hit():
    made = batch(threshold=-0.5)
    assert Hits(made, 0, Path("y/q.jpg")).to_dict() == {
        "query": "q.jpg",
        "hits": [
            {
                "key": key,
                "rank": rank,
                "score": score,
                "label": label,
                "path": path,
                "box": box,
                "metadata": metadata,
            }
            for key, rank, score, label, path, box, metadata in (
                ("c", 1, 0.5, "lily", None, None, {}),
                ("a", 2, 0.25, "rose", "x/a.jpg", [0, 1, 2, 3], {}),
                ("b", 3, -0.5, "lily", None, None, {"n": 1}),
            )
        ],
        "best_score": 0.5,
        "threshold": -0.5,
    }
    worded = Hits(made, 2, text=("a rose", "red")).to_dict()
    assert (worded["query"], worded["text"], worded["hits"]) == (None, ["a rose", "red"], [])
    assert Hits(made, 2, ("y/1.jpg", "y/2.jpg")).to_dict()["query"] == "1.jpg"
    both = HitsList([Hits(made, 0), Hits(made, 2)])
    assert both.to_dict() == {"queries": [each.to_dict() for each in both]}


def test_tables_have_a_row_per_hit():
    pytest.importorskip("pandas")
    made = batch()
    columns = ["key", "rank", "score", "label", "path", "box", "metadata"]
    table = Hits(made, 1).to_pandas()
    assert list(table.columns) == columns
    assert table[["key", "rank", "score"]].to_numpy().tolist() == [["d", 1, 0.75], ["b", 2, 0.25]]
    several = HitsList([Hits(made, 1, "y/q.jpg"), Hits(made, 2), Hits(made, 0, np.ones((2, 2, 3)))])
    table = several.to_pandas()
    assert list(table.columns) == ["query", "query_path", *columns]
    assert table["query"].tolist() == [0, 0, 2, 2, 2, 2]
    assert [path for path in table["query_path"] if isinstance(path, str)] == ["y/q.jpg"] * 2
    assert table["key"].tolist() == ["d", "b", "c", "a", "b", "d"]
    likely = batch(probability=lambda scores: scores)
    table = Hits(likely, 1).to_pandas()
    assert list(table.columns) == [*columns, "probability"]
    assert table["probability"].tolist() == [0.75, 0.25]
    mixed = HitsList([Hits(made, 1), Hits(likely, 1)]).to_pandas()
    assert mixed["probability"].tolist()[2:] == [0.75, 0.25]
    assert mixed["probability"].isna().tolist() == [True, True, False, False]


def test_a_row_of_a_page_has_all_that_was_asked_with():
    image = np.zeros((2, 2, 3), np.uint8)
    made = batch(threshold=0.6)
    row = Hits(
        made,
        1,
        ("y/1.jpg", image),
        negatives=("y/2.jpg",),
        box=Box(0, 0, 1, 1),
        text=("a rose",),
        negative_text=("a lily",),
        query_label="rose",
    ).to_row()
    assert [(shown.word, shown.title, shown.is_text) for shown in row.image] == [
        ("query", "1.jpg", False),
        ("query", "", False),
        ("query", "a rose", True),
        ("unlike", "2.jpg", False),
        ("unlike", "a lily", True),
    ]
    assert [shown.box for shown in row.image[:2]] == [Box(0, 0, 1, 1)] * 2
    assert (row.title, keys(row.hits), row.label) == ("", ["d"], "rose")
    assert Hits(made, 0).to_row().title.startswith("no match")


def test_pages_are_titled_by_what_was_asked(tmp_path):
    made = batch()
    for hits, title in (
        (Hits(made, 0, "y/q.jpg"), "Images like q.jpg"),
        (Hits(made, 0, text=("a rose", "red")), "Images like a rose, red"),
        (Hits(made, 0), "Search results"),
        (HitsList([Hits(made, 0), Hits(made, 1)]), "Hits of 2 queries"),
    ):
        assert f"<title>{title}</title>" in hits.to_html()
        assert "<title>mine</title>" in hits.to_html(title="mine")
    assert "4 hits" in Hits(made, 0).to_html()
    assert "1 hit<" in Hits(batch(threshold=0.5), 0).to_html()
    assert "no match" in Hits(made, 2).to_html()
    assert Hits(made, 0)._repr_html_().count('class="hit') >= 4


def test_a_page_reads_images_within_the_least_limit():
    assert HitsList([])._max_pixels() == MAX_PIXELS
    made = [Hits(batch(max_pixels=n), 0) for n in (30, 20, 40)]
    assert HitsList(made)._max_pixels() == 20


def test_hits_are_shown_in_a_notebook_or_else_in_the_browser(monkeypatch, tmp_path):
    hits, opened, displayed = all_hits()[0], [], []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shell = SimpleNamespace(
        get_ipython=lambda: None, display=SimpleNamespace(display=displayed.append)
    )
    for ipython in (None, shell):  # none, or one that is only imported
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        page = hits.show()
        assert opened.pop() == page.as_uri()
        assert page.read_text(encoding="utf-8") == hits.to_html()
    shell.get_ipython = object
    assert hits.show() is None
    assert (opened, displayed) == ([], [hits])
