"""Filters against a plain Python reading of docs/filters.md."""

import operator
import sys
from contextlib import closing

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgret import filters
from imgret.errors import InvalidInputError
from imgret.filters import parse_filter
from imgret.galleries.local.catalog import Catalog
from imgret.types import Item

MISSING = object()
COLUMNS = ("key", "label", "path")
NAMES = ("a", "b", "c d", "o'x", "ö")
FIELDS = (*COLUMNS, *NAMES, "a.b", "a.a", "b.a.c d")
ORDERS = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


class MistakeError(Exception):
    """The filter asks for what no item has."""


def value_of(item, field):
    if field in COLUMNS:
        found = getattr(item, field)
        return MISSING if found is None else found
    value = item.metadata
    for part in field.split("."):
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


def kind(value):
    if value is None or value is MISSING:
        return "null"
    for types, name in ((bool, "bool"), ((int, float), "number"), (str, "text")):
        if isinstance(value, types):
            return name
    return "other"


def comparable(value):
    """Whole numbers beyond 64 bits count as float64."""
    return float(value) if kind(value) == "number" and abs(value) >= 2**63 else value


def same(stored, wanted):
    if kind(stored) != kind(wanted) or kind(stored) == "other":
        return False
    return kind(stored) == "null" or comparable(stored) == comparable(wanted)


def passes_test(stored, name, wanted):  # noqa: PLR0911  # one an operator
    match name:
        case "$eq":
            return same(stored, wanted)
        case "$ne":
            return not same(stored, wanted)
        case "$in":
            return any(same(stored, each) for each in wanted)
        case "$nin":
            return not any(same(stored, each) for each in wanted)
        case "$exists":
            return (stored is not MISSING) == wanted
        case "$contains" if isinstance(stored, list):
            return any(same(each, wanted) for each in stored)
        case "$contains":
            return isinstance(stored, str) and isinstance(wanted, str) and wanted in stored
        case "$not":
            return not all(passes_test(stored, *test) for test in wanted.items())
    if kind(stored) != kind(wanted):
        return False
    return ORDERS[name](comparable(stored), comparable(wanted))


def passes(item, where):
    for name, wanted in where.items():
        if name in {"$and", "$or"}:
            passed = (all if name == "$and" else any)(passes(item, each) for each in wanted)
        elif name == "$not":
            passed = not passes(item, wanted)
        else:
            tests = wanted if isinstance(wanted, dict) else {"$eq": wanted}
            passed = all(passes_test(value_of(item, name), *test) for test in tests.items())
        if not passed:
            return False
    return True


def check(items, where):
    """Raise where no item has a field, or none the kind of value that it is compared with."""
    for name, wanted in where.items():
        if name in {"$and", "$or"}:
            for each in wanted:
                check(items, each)
        elif name == "$not":
            check(items, wanted)
        elif name not in COLUMNS:
            kinds = {
                kind(found) for item in items if (found := value_of(item, name)) is not MISSING
            }
            if not kinds:
                raise MistakeError
            check_orders(kinds, wanted if isinstance(wanted, dict) else {})


def check_orders(kinds, tests):
    for name, wanted in tests.items():
        if name == "$not":
            check_orders(kinds, wanted)
        elif name in ORDERS and kind(wanted) not in kinds and kinds & {"number", "text"}:
            raise MistakeError


numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.5, -2.0, 1.0, 0.1 + 0.2, 1e300, -0.0, 2**53 + 1, 2.0**53]),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), 10**30]),
)
texts = st.one_of(
    st.text("ab'%ö", max_size=3), st.sampled_from(["1", "true", "null", "[1]", '"', "\\", "😀"])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.dictionaries(st.sampled_from(NAMES), below, max_size=3),
    ),
    max_leaves=6,
)
metadatas = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
columns = st.one_of(st.none(), st.text("ab'", max_size=2))


def operators_of(scalar, ordered, contained):
    single = st.one_of(
        st.tuples(st.sampled_from(["$eq", "$ne"]), scalar),
        st.tuples(st.sampled_from(sorted(ORDERS)), ordered),
        st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(scalar, max_size=4)),
        st.tuples(st.just("$exists"), st.booleans()),
        st.tuples(st.just("$contains"), contained),
    )
    plain = st.lists(single, min_size=1, max_size=2).map(dict)
    return st.one_of(plain, plain.map(lambda tests: {"$not": tests}))


text_tests = operators_of(st.one_of(st.none(), texts), texts, texts)
any_tests = operators_of(scalars, st.one_of(numbers, texts), scalars)
leaves = st.one_of(
    st.tuples(st.sampled_from(COLUMNS), text_tests),
    st.tuples(st.sampled_from(FIELDS[3:]), st.one_of(any_tests, scalars)),
)
wheres = st.recursive(
    st.lists(leaves, max_size=2).map(dict),
    lambda below: st.one_of(
        st.builds(
            lambda name, parts: {name: parts},
            st.sampled_from(["$and", "$or"]),
            st.lists(below, min_size=1, max_size=3),
        ),
        below.map(lambda where: {"$not": where}),
    ),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=400)
@given(st.lists(st.tuples(columns, columns, metadatas), min_size=1, max_size=8), wheres)
@example([(None, None, {"a": 1}), (None, None, {"a": True}), (None, None, {"a": "1"})], {"a": 1})
@example([(None, None, {"a": [1]}), (None, None, {"a": "[1]"})], {"a": "[1]"})
@example([(None, None, {"a": None}), (None, None, {})], {"a": {"$ne": None}})
@example([(None, None, {"a": "1"}), (None, None, {"a": [1]})], {"a": {"$contains": 1}})
@example([(None, None, {"a": 1}), (None, None, {"a": {"b": None}})], {"a.b": {"$exists": True}})
@example([(None, None, {"a": [True]}), (None, None, {"a": [1, "x"]})], {"a": {"$contains": True}})
@example([(None, None, {"a": 2**63}), (None, None, {"a": -(2**63)})], {"a": 2.0**63})
@example([(None, None, {"a": 2**63 + 1}), (None, None, {"a": 2**63 - 1})], {"a": 2.0**63})
def test_passes_what_the_reference_passes(rows, where):
    items = [
        Item(f"{n}'", label=label, path=path, metadata=metadata)
        for n, (label, path, metadata) in enumerate(rows)
    ]
    with closing(Catalog()) as catalog:
        # One that is removed passes nothing, and its fields do not count.
        gone = Item("gone", metadata=dict.fromkeys(NAMES, 1))
        catalog.add([*items, gone], [0] * (len(items) + 1))
        catalog.remove([len(items)])
        for index in (False, True):
            if index:
                for field in ("a", "o'x", "a.b", "path"):
                    catalog.create_filter_index(field)
            try:
                check(items, where)
            except MistakeError:
                with pytest.raises(InvalidInputError, match="expected"):
                    catalog.matching(where)
            else:
                expected = [n for n, item in enumerate(items) if passes(item, where)]
                assert catalog.matching(where).tolist() == expected
                parsed = parse_filter(where)
                assert [filters.passes(item, parsed) for item in items] == [
                    passes(item, where) for item in items
                ]


def test_whole_numbers_that_no_float64_holds():
    items = [Item(str(n), metadata={"a": each}) for n, each in enumerate((10**400, 1, -(10**400)))]
    most = sys.float_info.max
    with closing(Catalog()) as catalog:
        catalog.add(items, [0] * 3)
        for where, expected in (
            ({"a": {"$lt": 0}}, [2]),
            ({"a": {"$gt": 1}}, [0]),
            ({"a": {"$gt": most}}, [0]),
            ({"a": {"$lt": int(most)}}, [1, 2]),
        ):
            assert catalog.matching(where).tolist() == expected
            passed = [filters.passes(item, parse_filter(where)) for item in items]
            assert np.flatnonzero(passed).tolist() == expected
