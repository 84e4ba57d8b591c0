"""Many items are checked like one, only faster; and so are the arguments for them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret.errors import InvalidInputError
from imgret.support.given import label_or_none, plain_labels, plain_metadata, plain_rows
from imgret.support.items import check_item, check_items
from imgret.support.rounding import refusals
from imgret.types import Item

_TEXTS = st.text(st.sampled_from('a{}[]", \\\0\ud800\u20ac')) | st.just("}, {")
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(_TEXTS, inner, max_size=2)
        | st.dictionaries(st.integers(), inner, max_size=1)
    ),
    max_leaves=4,
)
_ROWS = st.dictionaries(_TEXTS, _VALUES, max_size=3)
_ITEMS = st.builds(
    Item,
    key=st.text("ab", min_size=1) | _TEXTS | st.just([]),
    path=st.none() | _TEXTS,
    label=st.none() | _TEXTS | st.integers(),
    metadata=_ROWS | st.sampled_from([(), {1: 2}]),
    phash=st.none() | st.sampled_from([b"12345678", b"1234567", "12345678"]),
)
_USUAL = st.builds(
    Item,
    key=st.text("ab{},", min_size=1),
    metadata=st.dictionaries(st.text("ab}"), st.integers() | st.text("{}, "), max_size=2),
)


def _result(call):
    try:
        return call()
    except InvalidInputError as error:
        return str(error)


@given(st.lists(_USUAL, max_size=3) | st.lists(_ITEMS, max_size=2))
def test_many_items_are_checked_like_one(items):
    assert _result(lambda: check_items(items)) == _result(lambda: [*map(check_item, items)])


@pytest.mark.parametrize("at", [0, 700, 1023])
def test_the_invalid_item_among_many_is_named(at):
    items = [Item(f"{n}", metadata={"tags": ["a", "b"]}) for n in range(1024)]
    assert check_items(items) == ['{"tags": ["a", "b"]}'] * 1024
    items[at] = Item("odd", metadata={"a": math.inf})
    with pytest.raises(InvalidInputError, match="'odd'"):
        check_items(items)


@given(st.lists(st.none() | _ROWS | st.just({"a": np.int64(1)}), max_size=3))
def test_the_metadata_of_many_are_converted_like_those_of_one(rows):
    keys = [f"{n}" for n in range(len(rows))]
    expected = _result(
        lambda: [
            {} if row is None else plain_metadata(row, key)
            for row, key in zip(rows, keys, strict=True)
        ]
    )
    found = _result(lambda: plain_rows(rows, keys))
    assert repr(found) == repr(expected)
    assert isinstance(found, str) or not any(map(lambda a, b: a is b, found, rows))


def test_the_labels_of_many_are_converted_like_one():
    labels = ["a", None, np.str_("b"), math.nan, 3]
    for some in (labels, labels[:2], []):
        found = plain_labels(some)
        assert found == [label_or_none(label) for label in some]
        assert {type(label) for label in found} <= {str, type(None), int}


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize(
    ("value", "is_refused"),
    [(1.0, False), (65504.0, False), (65519.0, False), (65521.0, True), (1e30, True),
     (math.nan, True), (math.inf, True)],
)  # fmt: skip
def test_float16_holds_what_is_not_refused(metric, value, is_refused):
    rows = np.ones((3, 4), np.float32)
    rows[1, 2] = value
    found = refusals(rows, dim=4, metric=metric, dtype="float16")
    assert [reason is not None for reason in found] == [False, is_refused, False]
    rows[1] = 0
    rows[1, 2] = value  # the only number of its row
    found = refusals(rows, dim=4, metric=metric, dtype="float16")
    assert [reason is not None for reason in found] == [False, is_refused, False]
