"""How far a search with a filter goes: for how many neighbours it asks, and when it compares all.

The index here answers from a ranking, so that each step is known.
"""

from __future__ import annotations

import numpy as np
import pytest

from imgret.galleries.local import live_index
from imgret.support.plan import Plan
from imgret.types import Neighbors


class Ranked:
    """An index that knows the order of its ids for each query, and notes what it is asked."""

    def __init__(self, *rankings, cost=lambda k: k):
        self.rankings, self.cost, self.asked = rankings, cost, []

    def __len__(self):
        return len(self.rankings[0])

    def find(self, queries, k, *, allowed=None, exact=False):
        self.asked.append((queries[:, 0].tolist(), k, exact))
        ids = np.full((len(queries), k), -1)
        for row, query in zip(ids, queries[:, 0].astype(int), strict=True):
            found = [id_ for id_ in self.rankings[query] if allowed is None or id_ in allowed][:k]
            row[: len(found)] = found
        return Neighbors(ids, np.where(ids < 0, -np.inf, -np.arange(k)).astype(np.float32))

    def plan(self, k, *, n_queries):
        return Plan(False, self.cost(k), "as it is")


def search(index, k, passing, *, share):
    found = live_index._search_widely(
        index,
        np.arange(len(index.rankings), dtype=np.float32)[:, None],
        k,
        share=share,
        passes=lambda ids: np.isin(ids, passing),
        allowed=lambda: np.array(sorted(passing), dtype=np.int64),
    )
    assert np.array_equal(found.ids < 0, np.isneginf(found.scores))
    return found.ids.tolist()


@pytest.mark.parametrize(
    ("n", "k", "share", "asked"),
    [
        (1000, 10, 0.5, 39),  # ceil((10 + 3 * sqrt(5)) / 0.5) + 5
        (1000, 4, 0.25, 42),  # ceil((4 + 3 * sqrt(3)) / 0.25) + 5
        (1000, 3, 1.0, 8),
        (20, 10, 0.5, 21),  # all, and one more to tell that there are no others
    ],
)
def test_three_standard_deviations_more_than_expected_are_asked_for(n, k, share, asked):
    passing = np.arange(0, n, round(1 / share))
    index = Ranked(range(n))
    assert search(index, k, passing, share=share) == [passing[:k].tolist()]
    assert index.asked == [([0], asked, False)]


@pytest.mark.parametrize("last", [0, 7])
def test_a_query_that_has_enough_is_not_searched_again(last):
    """Also where the last one found has the id 0."""
    index = Ranked([1, 2, last, *range(8, 300)])
    assert search(index, 3, [1, 2, last], share=0.5) == [[1, 2, last]]
    assert len(index.asked) == 1


def test_all_that_pass_are_compared_where_that_costs_less():
    index = Ranked(range(20))
    assert search(index, 3, [5, 4], share=0.5) == [[4, 5, -1]]
    assert index.asked == [([0], 19, False), ([0], 2, True)]


def test_what_was_looked_at_as_a_whole_has_no_more():
    index = Ranked(range(10))
    assert search(index, 3, [5, 4], share=0.5) == [[4, 5, -1]]
    assert index.asked == [([0], 11, False)]
    index = Ranked(range(400), cost=lambda k: min(k, 400))  # at the second try
    assert search(index, 3, [50, 40], share=0.5) == [[40, 50, -1]]
    assert index.asked == [([0], 19, False), ([0], 608, False)]


@pytest.mark.parametrize(
    ("cost", "steps"), [(19, [(3, True)]), (459, [(608, False)]), (461, [(3, True)])]
)
def test_a_search_goes_on_where_it_looks_at_more_than_before_and_costs_less_than_all(cost, steps):
    """Comparing all of 200 costs as much as 460 in a scan."""
    index = Ranked(range(400), cost=lambda k: 19 if k == 19 else cost)
    assert search(index, 3, range(100, 400), share=0.5) == [[100, 101, 102]]
    assert index.asked[1:] == [([0], *step) for step in steps]


def test_only_queries_that_lack_some_are_searched_further():
    far = [*range(100, 900), *range(100), *range(900, 5000)]
    index = Ranked(far, range(5000), far)
    assert search(index, 3, range(100), share=0.5) == [[0, 1, 2]] * 3
    assert index.asked == [([0, 1, 2], 19, False), ([0, 2], 608, False), ([0, 2], 3, True)]


@pytest.mark.parametrize(("third", "goes_on"), [(303, False), (304, True)])
def test_what_is_in_the_farther_half_may_have_gaps(third, goes_on):
    index = Ranked(range(5000))
    assert search(index, 3, [100, 200, third], share=0.5) == [[100, 200, third]]
    assert [asked[1:] for asked in index.asked[2:]] == ([(3, True)] if goes_on else [])


@pytest.mark.parametrize("place", [18, 607])
def test_a_search_that_ends_with_the_id_0_may_go_on(place):
    ranking = [*range(1, place + 1), 0, *range(place + 1, 5000)]
    index = Ranked(ranking)
    assert search(index, 3, range(1000, 1003), share=0.5) == [[1000, 1001, 1002]]
    assert [asked[1:] for asked in index.asked] == [(19, False), (608, False), (3, True)]
