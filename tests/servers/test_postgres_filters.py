"""Filters as SQL over jsonb, compared with what Python makes of them."""

import numpy as np
import pytest

psycopg = pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'imgret[postgres]'")

from hypothesis import given, settings  # noqa: E402  # after the check
from hypothesis import strategies as st  # noqa: E402

from imgret.errors import InvalidInputError  # noqa: E402
from imgret.filters import parse_filter, passes  # noqa: E402
from imgret.galleries.postgres import PostgresGallery  # noqa: E402
from imgret.testing.galleries import new_spec  # noqa: E402
from imgret.types import Item  # noqa: E402

_NUMBERS = (
    *(0, 1, 1.0, -1, 0.1, 0.1 + 0.2, 2**53, 2**53 + 1, float(2**62), 2**62, 1e16, 1e-300),
    *(2**63, 2**63 + 1, float(2**63), 1e22, 10**22, 10**23, 1e23, 1e300, 10**300, 10**400, -1e300),
)
_TEXTS = (
    "",
    "a",
    "A",
    "b",
    "ä",
    "Z",
    "%",
    "%s",
    "_",
    "'",
    '"',
    "\\",
    "1",
    "true",
    "null",
    "日",
    "e+3",
)
_VALUES = (None, True, False, *_NUMBERS, *_TEXTS)
_FACTS = [
    *({"f": value} for value in _VALUES),
    *({"f": [value]} for value in _VALUES),
    {},
    {"f": {"g": 1}},
    {"f": {"0": 1}},
    {"f": [[1]]},
    {"f": [{"g": 1}]},
    {"f": {}},
    {"f": []},
    {"g": "%s", "it's": 1, "50%": 2, "f": "x"},
]
_ITEMS = [
    Item(f"k{n}", label=_TEXTS[n % len(_TEXTS)] if n % 3 else None, metadata=facts)
    for n, facts in enumerate(_FACTS)
]


@pytest.fixture(scope="module")
def gallery(postgres):
    made = PostgresGallery.create(f"{postgres.uri}&schema=filters", new_spec(dim=2))
    made.add(_ITEMS, np.ones((len(_ITEMS), 2), np.float32))
    yield made
    made.close()


def test_metadata_come_back_as_they_were(gallery):
    back = gallery.get([item.key for item in _ITEMS])
    for found, item in zip(back, _ITEMS, strict=True):
        assert found == item
        assert repr(found.metadata) == repr(dict(item.metadata)) or len(item.metadata) > 1


_value = st.sampled_from(_VALUES)
_ordered = st.sampled_from((*_NUMBERS[:-3], *_TEXTS)).filter(
    lambda value: not isinstance(value, int) or abs(value) < 1e308
)
_comparable = _value.filter(lambda value: not isinstance(value, int) or abs(value) < 10**300)
_test = st.one_of(
    st.builds(lambda v: {"$eq": v}, _comparable),
    st.builds(lambda v: {"$in": v}, st.lists(_comparable, max_size=4)),
    st.builds(lambda v: {"$ne": v}, _comparable),
    st.builds(lambda o, v: {o: v}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), _ordered),
    st.builds(lambda v: {"$contains": v}, _comparable),
    st.builds(lambda v: {"$exists": v}, st.booleans()),
)
_label = st.one_of(
    st.builds(lambda v: {"$eq": v}, st.sampled_from((None, *_TEXTS))),
    st.builds(lambda v: {"$gt": v}, st.sampled_from(_TEXTS)),
    st.builds(lambda v: {"$contains": v}, st.sampled_from(_TEXTS)),
    st.just({"$exists": False}),
)
_leaf = st.one_of(
    st.builds(lambda f, t: {f: t}, st.sampled_from(["f", "f.g", "f.0", "g", "it's", "50%"]), _test),
    st.builds(lambda t: {"label": t}, _label),
)
_filter = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"$and": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"$or": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"$not": part}, inner),
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(where=_filter)
def test_the_server_passes_what_python_passes(gallery, where):
    parsed = parse_filter(where)
    expected = tuple(item.key for item in _ITEMS if passes(item, parsed))
    assert gallery.view(parsed).keys() == expected


@pytest.mark.parametrize("value", _VALUES, ids=repr)
def test_each_value_is_found(gallery, value):
    if isinstance(value, int) and abs(value) > 1e308:
        return
    parsed = parse_filter({"f": {"$eq": value}})
    expected = tuple(item.key for item in _ITEMS if passes(item, parsed))
    assert gallery.view(parsed).keys() == expected


def test_an_unknown_field_names_the_known_ones(gallery):
    with pytest.raises(
        InvalidInputError, match=r"found 'gg'; did you mean 'g'\? Known fields: key"
    ):
        gallery.check_where(parse_filter({"gg": 1}))
    gallery.check_where(parse_filter({"$or": [{"f.g": 1}, {"50%": 2}, {"label": "x"}]}))


@pytest.mark.parametrize("field", ["f", "f.g", "it's", "50%", "label", "path"])
def test_a_filter_index_is_used(gallery, field):
    gallery.create_filter_index(field)
    gallery.create_filter_index(field)
    name = "x" if field in {"label", "path"} else 1
    parsed = parse_filter({field: name})
    assert gallery.view(parsed).keys() == tuple(i.key for i in _ITEMS if passes(i, parsed))
    if field == "f.g":
        rows = _plan(gallery, parsed)
        assert "items_by_f.g" in rows


def _plan(gallery, parsed):
    """What the planner would do if there were many rows."""
    view = gallery.view(parsed)

    def work(connection):
        with connection.transaction():
            connection.execute("SET LOCAL enable_seqscan = off")
            rows = connection.execute(
                f"EXPLAIN SELECT id FROM items WHERE {view._condition}",  # noqa: S608
                view._parameters,
            ).fetchall()
            return str(rows)

    return gallery._database.read(work)
