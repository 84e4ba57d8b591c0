"""Facets: the fields of items, their values, and how often each occurs."""

import numpy as np

from imgret import Retriever
from imgret.search.facets import count_facets
from imgret.testing.data import Given


def facets(labels, metadata, **options):
    made = Retriever(embedder=Given(2))
    keys = [str(n) for n in range(len(labels))]
    made.add_vectors(np.ones((len(labels), 2)), keys=keys, labels=labels, metadata=metadata)
    return count_facets(made.view(), **options)


def test_the_label_is_first_and_then_fields_by_name():
    found = facets(
        ["b", "a", None, "b"],
        [
            {"z": 1, "a": {"y": "deep", "x": [1, 2]}},
            {"z": True, "a": {"y": "deep"}},
            {"z": 2.5, "a": {"y": None}},
            {"z": "text"},
        ],
    )
    assert [each.to_dict() for each in found] == [
        {
            "field": "label",
            "items": 3,
            "values": [{"value": "b", "items": 2}, {"value": "a", "items": 1}],
            "distinct": 2,
            "least": None,
            "most": None,
        },
        {
            "field": "a.y",
            "items": 2,
            "values": [{"value": "deep", "items": 2}],
            "distinct": 1,
            "least": None,
            "most": None,
        },
        {
            "field": "z",
            "items": 4,
            "values": [{"value": value, "items": 1} for value in (1, True, 2.5, "text")],
            "distinct": 4,
            "least": 1,
            "most": 2.5,
        },
    ]


def test_values_are_listed_unless_nearly_every_item_has_its_own():
    measured = [{"n": n, "half": n // 2, "few": n % 3} for n in range(12)]
    few, half, n = facets([None] * 12, measured, most=4)
    assert (n.values, n.distinct, n.least, n.most) == ((), 12, 0, 11)
    assert (half.values, half.distinct) == (tuple((value, 2) for value in range(4)), 6)
    assert few.values == ((0, 4), (1, 4), (2, 4))
    assert facets([None] * 4, measured[:4], most=4)[2].values == tuple((m, 1) for m in range(4))


def test_a_field_lists_a_hundred_values_or_those_that_occur_twice():
    few, many = (facets([None] * n, [{"n": m} for m in range(n)])[0] for n in (100, 101))
    assert (len(few.values), few.distinct) == (100, 100)
    assert (many.values, many.distinct) == ((), 101)
    for n, listed in ((12, 4), (11, 0)):  # twice as many items as values
        (found,) = facets([None] * n, [{"n": m % 6} for m in range(n)], most=4)
        assert (len(found.values), found.distinct) == (listed, 6)
