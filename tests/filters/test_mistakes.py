"""Filters that are not valid, and text that would like to be SQL."""

from contextlib import closing, nullcontext
from datetime import date, datetime

import numpy as np
import pytest

from imgret.errors import InvalidInputError
from imgret.filters import parse_filter
from imgret.galleries.local.catalog import Catalog
from imgret.types import Item

INJECTION = "x'); DROP TABLE items; --"


@pytest.fixture
def catalog():
    with closing(Catalog()) as made:
        made.add(
            [
                Item("a", label="rose", metadata={"year": 2020, "exif": {"make": "Leica"}}),
                Item("b", metadata={"year": 2021, "name": "bee", "odd": None, "key": 1}),
            ],
            [0, 0],
        )
        yield made


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([], "where: expected a mapping"),
        ("label", "where: expected a mapping"),
        ({"year": {"$foo": 1}}, r"operators \$eq, .*\$not, found '\$foo'"),
        ({"$foo": 1}, r"operators \$eq, .*found '\$foo'"),
        ({"$gt": 1}, r"expected \$gt below a field"),
        ({1: 1}, "found 1"),
        ({"year": {"$gt": 1, "more": 2}}, "found 'more'"),
        ({"year": {}}, "year: expected a value or operators"),
        ({"year": {"$gt": True}}, r"\$gt of 'year': expected a number or text .* found True"),
        ({"year": {"$lte": None}}, "found None"),
        ({"year": {"$lt": [1]}}, r"found \[1\]"),
        ({"year": [2020]}, r"found \[2020\]"),
        ({"year": float("nan")}, "finite number"),
        ({"year": {"$lt": float("inf")}}, "finite number"),
        ({"year": 10**400}, "finite number"),
        ({"year": b"x"}, "found b'x'"),
        (
            {"taken": {"$gte": datetime(2024, 5, 1)}},  # noqa: DTZ001  # EXIF has no zone either
            r"\$gte of 'taken': .*write it as the items have it, such as '2024-05-01T00:00:00'",
        ),
        ({"taken": {"$in": [date(2024, 5, 1)]}}, r"such as '2024-05-01' \(ISO 8601"),
        ({"taken": np.datetime64("2024-05-01")}, r"such as '2024-05-01' \(ISO 8601"),
        ({"taken": np.datetime64("NaT", "s")}, "write None for a missing value"),
        ({"zz": 1}, "found 'zz'; known fields: key, label, path, exif,"),
        ({"year": "\ud800"}, "Unicode"),
        ({"year": "a\0b"}, "without NUL"),
        ({"year": {"$in": 2020}}, r"\$in of 'year': expected a list"),
        ({"year": {"$nin": [[1]]}}, r"found \[1\]"),
        ({"year": {"$exists": 1}}, "expected True or False, found 1"),
        ({"year": {"$not": 5}}, "expected operators"),
        ({"$and": []}, r"\$and: expected a list of at least one filter, found \[\]"),
        ({"$or": {"year": 1}}, r"\$or: expected a list"),
        ({"$not": [1]}, "expected a mapping"),
        ({"label": 5}, "expected text, as the label of an item is text, found 5"),
        ({"key": {"$gt": 5}}, r"\$gt of 'key': expected text"),
        ({"path": {"$contains": 1}}, "expected text"),
        ({"label": {"$contains": None}}, "as the label of an item is text, found None"),
        ({"yaer": 1}, "found 'yaer'; did you mean 'year'[?] Known fields: key, label, path, exif,"),
        ({"exif.mak": 1}, "did you mean 'exif.make'[?] Known fields: exif.make"),
        ({"year.month": 1}, "none below year"),
        ({"zz.make": 1}, "found 'zz.make'; known fields: key, label, path, exif,"),
        ({"zz.make.model": 1}, "found 'zz.make.model'; known fields: key, label, path, exif,"),
        ({"exif.zz.model": 1}, "did you mean 'exif.make'[?] Known fields: exif.make$"),
        ({"$or": [{"year": 2020}, {"nothing": {"$exists": False}}]}, "found 'nothing'"),
        ({"year": {"$gt": "2019"}}, "'year' to be compared with a number.*found text"),
        ({"name": {"$gt": 2019}}, "'name' to be compared with text.*found a number"),
        ({"": 1}, "the name of a field"),
        ({"exif..make": 1}, "the name of a field"),
        ({'a"b': 1}, "without quotes"),
        ({"a\n": 1}, "control characters"),
        ({"\ud800": 1}, "the name of a field"),
        ({"a\\": 1}, "backslashes"),
        ({INJECTION: 1}, "expected a field that some item has"),
    ],
)
def test_a_mistake_is_told(catalog, where, message):
    for ask in (
        catalog.check_where,
        catalog.matching,
        lambda where: catalog.share_matching(where, np.arange(2)),
    ):
        with pytest.raises(InvalidInputError, match=message):
            ask(where)


def test_order_of_what_cannot_be_ordered_is_no_mistake(catalog):
    assert catalog.matching({"odd": {"$gt": 1}}).tolist() == []


@pytest.mark.parametrize("form", ["$not", "$and", "inner $not", "both"])
def test_nesting_and_length_have_limits_that_sqlite_can_take(catalog, form):
    def nested(depth):
        where = {"year": {"$ne": 1}}
        inner = {"$ne": 1}
        for _ in range(depth):
            where = {
                "$not": {"label": {"$ne": "rose"}, "$not": where},
                "$and": {"$and": [{"year": {"$gte": 1}}, where]},
                "inner $not": where,
                "both": {"$or": [{"$not": {"year": 5}}, {"$and": [{"year": {"$gt": 1}}, where]}]},
            }[form]
            inner = {"$gte": 1, "$not": inner}
        return {"year": inner} if form == "inner $not" else where

    def is_refused(depth):
        try:
            catalog.matching(nested(depth))
        except InvalidInputError as error:
            return "levels of nesting" in str(error)
        return False

    refused = [is_refused(depth) for depth in range(20)]  # SQLite takes all that are not
    assert refused == sorted(refused)
    assert not any(refused[:4])
    assert refused[-1]
    itself = {"$and": []}
    itself["$and"].append(itself)
    with pytest.raises(InvalidInputError, match="levels"):
        catalog.matching(itself)


@pytest.mark.parametrize("form", ["$and", "$or", "$not", "inner $not"])
def test_filters_are_nested_in_sixteen_levels_at_most(catalog, form):
    def nested(depth):
        inner = {"$gte": 1}
        for _ in range(depth if form == "inner $not" else 0):
            inner = {"$not": inner}
        where = {"year": inner}
        for _ in range(0 if form == "inner $not" else depth):
            where = {form: where if form == "$not" else [where]}
        return where

    assert catalog.matching(nested(15)).tolist() == ([] if "not" in form else [0, 1])
    with pytest.raises(InvalidInputError, match="at most 16 levels of nesting"):
        catalog.matching(nested(16))


@pytest.mark.parametrize("value", ["x" * 500, b"x" * 500, 10**500])
def test_a_message_shows_200_characters_of_a_value(value):
    with pytest.raises(InvalidInputError) as told:
        parse_filter({"year": {"$exists": value}})
    shown = str(told.value).partition("found ")[2]
    assert (len(shown), shown[:5], shown[-5:]) == (200, repr(value)[:5], repr(value)[-5:])


@pytest.mark.parametrize("kind", [list, tuple, set, dict.fromkeys])
def test_a_message_shows_20_elements_of_a_value(kind):
    with pytest.raises(InvalidInputError) as told:
        parse_filter({"year": {"$exists": kind(range(50))}})
    shown = str(told.value).partition("found ")[2]
    assert (shown.count(","), "19" in shown, "20" in shown) == (20, True, False)


def test_number_of_conditions_has_a_limit(catalog):
    assert len(catalog.matching({"$or": [{"year": n} for n in range(1900, 2140)]})) == 2
    for many in ([{"year": n} for n in range(5000)], [{}] * 100_000):
        with pytest.raises(InvalidInputError, match=r"at most 500 conditions.*\$in"):
            catalog.matching({"$or": many})
    with pytest.raises(InvalidInputError, match="at most 500 conditions"):
        catalog.matching({f"field {n}": 1 for n in range(501)})
    parse_filter({f"field {n}": 1 for n in range(499)})  # and the mapping itself
    with pytest.raises(InvalidInputError, match="at most 500 conditions"):
        parse_filter({f"field {n}": 1 for n in range(500)})
    assert len(catalog.matching({"year": {"$in": list(range(100_000))}})) == 2


def test_text_stays_text(catalog):
    nasty = Item(INJECTION, label=INJECTION, metadata={INJECTION: INJECTION, "o'": "'"})
    catalog.add([nasty], [0])
    for where in (
        {"key": INJECTION},
        {"label": {"$contains": INJECTION}},
        {INJECTION: {"$in": [INJECTION, "'"]}},
        {"o'": {"$gte": "'"}},
    ):
        assert catalog.matching(where).tolist() == [2]
    catalog.create_filter_index("o'")
    catalog.create_filter_index(INJECTION)
    assert catalog.matching({"o'": "'", INJECTION: INJECTION}).tolist() == [2]
    assert catalog.matching({"key": "' OR 1 = 1 --"}).tolist() == []
    assert len(catalog) == 3


@pytest.mark.parametrize(
    "metadata", [{"a": {1, 2}}, {"a": float("nan")}, {(1, 2): 3}, {"a": b"x"}, [("a", 1)]]
)
def test_metadata_that_is_no_json_is_refused(catalog, metadata):
    with pytest.raises(InvalidInputError, match="metadata of 'c': expected"):
        catalog.add([Item("c", metadata=metadata)], [0])
    assert len(catalog) == 2


@pytest.mark.parametrize("depth", [150, 400, 100_000])
def test_nested_metadata_never_spoils_the_filters_of_all(catalog, depth):
    value = 1
    for _ in range(depth):
        value = [value]
    with (
        nullcontext() if depth < 200 else pytest.raises(InvalidInputError, match="metadata of 'c'")
    ):
        catalog.add([Item("c", metadata={"year": value})], [0])
    assert catalog.matching({"year": 2020}).tolist() == [0]
    assert len(catalog.matching({"year": {"$exists": True}})) == len(catalog)


@pytest.mark.parametrize("name", ["", "a..b", 'a"', 5])
def test_filter_index_needs_a_field(catalog, name):
    with pytest.raises(InvalidInputError, match="name of a field"):
        catalog.create_filter_index(name)
