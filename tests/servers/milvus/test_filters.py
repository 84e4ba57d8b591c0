"""Filters as expressions of Milvus: what comes back is what `passes` says, on both engines."""

import numpy as np
import pytest

pytest.importorskip("pymilvus", reason="Milvus: pip install 'imgret[milvus]'")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgret.errors import InvalidInputError, UnsupportedError
from imgret.filters import parse_filter, passes
from imgret.filters.milvus import compile_filter
from imgret.filters.tree import Exists, Field, Not
from imgret.galleries.milvus import MilvusGallery
from imgret.testing.galleries import check_answer, new_spec
from imgret.types import Item

_VALUES = [
    *(0, 1, -1, 3, 2.5, 1.0, -0.0, 2**53, 2**62, 1e300, True, False, None),
    *("", "1", "true", "a", "ab", "%", "_", "a\\b", 'a"b', "a'b", "a\nb", "Zürich", "日", "🌷"),
    *([], [1], ["a"], ["ab", None], [True], [[1]], {}, {"x": 1}, {"x": None}, {"x": {"y": "a"}}),
]
_NAMES = ["n", "ü", "a b", "0", "-", 'a"b', "a[0]", "a/b", "x~y"]
_TEXTS = [value for value in _VALUES if isinstance(value, str)]
_SCALARS = [value for value in _VALUES if not isinstance(value, (list, dict))]
_ORDERED = [value for value in _SCALARS if isinstance(value, (int, float, str))]


def _items():
    """An item for each value of each name, and some without; all with the field ``n`` below."""
    made = []
    for n, value in enumerate(_VALUES):
        made += [Item(f"{name}-{n}", metadata={name: value}) for name in _NAMES]
    texts = [text for text in _TEXTS if text]
    made += [Item(text, label=text, path=text) for text in texts]
    made += [Item("empty", label="", path=""), Item("both", label="a", metadata={"n": 1, "ü": 2})]
    made.append(Item("all", metadata=dict.fromkeys(_NAMES, 3)))
    return made


_conditions = st.one_of(
    st.builds(lambda value: {"$eq": value}, st.sampled_from(_SCALARS)),
    st.builds(lambda value: {"$ne": value}, st.sampled_from(_SCALARS)),
    st.builds(lambda values: {"$in": values}, st.lists(st.sampled_from(_SCALARS), max_size=3)),
    st.builds(lambda values: {"$nin": values}, st.lists(st.sampled_from(_SCALARS), max_size=3)),
    st.builds(
        lambda sign, value: {sign: value},
        st.sampled_from(["$lt", "$lte", "$gt", "$gte"]),
        st.sampled_from([value for value in _ORDERED if not isinstance(value, bool)]),
    ),
    st.builds(lambda yes: {"$exists": yes}, st.booleans()),
    st.builds(
        lambda value: {"$contains": value},
        st.sampled_from([value for value in _SCALARS if value is not None]),
    ),
)
_of_texts = st.one_of(
    st.builds(lambda value: {"$eq": value}, st.sampled_from([*_TEXTS, None])),
    st.builds(lambda value: {"$ne": value}, st.sampled_from([*_TEXTS, None])),
    st.builds(lambda values: {"$in": values}, st.lists(st.sampled_from(_TEXTS), max_size=3)),
    st.builds(
        lambda sign, value: {sign: value},
        st.sampled_from(["$lt", "$lte", "$gt", "$gte", "$contains"]),
        st.sampled_from(_TEXTS),
    ),
    st.builds(lambda yes: {"$exists": yes}, st.booleans()),
)
_leaves = st.one_of(
    st.builds(lambda name, where: {name: where}, st.sampled_from([*_NAMES, "n.x"]), _conditions),
    st.builds(
        lambda name, where: {name: where}, st.sampled_from(["key", "label", "path"]), _of_texts
    ),
)
_filters = st.recursive(
    _leaves,
    lambda parts: st.one_of(
        st.builds(lambda some: {"$or": some}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda some: {"$and": some}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda part: {"$not": part}, parts),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module", params=["lite", "standalone"])
def gallery(request):
    engine = request.getfixturevalue(request.param)
    made = MilvusGallery.create(engine.new_uri(), new_spec("l2"))
    rows = np.random.default_rng(0).normal(size=(len(_items()), 8)).astype(np.float32)
    made.add(_items(), rows)
    yield made
    made.close()


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(where=_filters, k=st.sampled_from([1, 10, 400]))
def test_what_passes_is_found(gallery, where, k):
    try:
        parsed = parse_filter(where)
    except InvalidInputError:
        return  # such as an order of null
    rows = np.random.default_rng(0).normal(size=(len(_items()), 8)).astype(np.float32)
    kept = [n for n, item in enumerate(_items()) if passes(item, parsed)]
    view = gallery.view(parsed)
    assert view.keys() == tuple(_items()[n].key for n in kept)
    assert len(view) == len(kept)
    if kept:
        check_answer(view, rows[kept], rows[:1] + 0.1, k)


def test_a_field_that_no_item_has(gallery):
    for name in ["n", "n.x", "a[0]"]:
        gallery.check_where(parse_filter({name: 1}))
    with pytest.raises(InvalidInputError, match=r"found 'nn'; did you mean 'n'\?"):
        gallery.check_where(parse_filter({"nn": 1}))


def test_an_index_on_a_field(gallery):
    gallery.create_filter_index("label")
    with pytest.raises(UnsupportedError, match="key, label or path, found 'n'"):
        gallery.create_filter_index("n")


def test_what_older_servers_cannot_say():
    where = parse_filter({"label": {"$contains": "rose"}})
    assert (
        compile_filter(where, substrings=True).text == '(labelled == true and label like "%rose%")'
    )
    assert compile_filter(where, substrings=False) == ("", False)
    assert compile_filter(Not(Exists(Field("a"))), substrings=True) == (
        '(not (exists metadata["a"]))',
        False,
    )
