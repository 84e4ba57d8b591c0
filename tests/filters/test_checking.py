"""A filter that most items pass is put to what was found, not to every item."""

from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgret import Retriever
from imgret.errors import InvalidInputError
from imgret.galleries.local.catalog import Catalog
from imgret.support.exact import exact_search
from imgret.types import Item

DIM = 48  # as wide as the embedder of the tests


def gallery(mean_color, vectors, numbers, **options):
    retriever = Retriever(embedder=mean_color, dtype="float32", **options)
    retriever.add_vectors(
        vectors,
        keys=[str(n) for n in range(len(vectors))],
        metadata=[{"n": int(n)} for n in numbers],
    )
    return retriever


@st.composite
def galleries(draw):
    """Vectors, many of them alike, with numbers to filter by that go with them, or do not."""
    size = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    vectors = np.zeros((size, DIM))
    vectors[:, :3] = rng.integers(-1, 2, (size, 3))
    vectors[:, 3] = 1  # of some length
    numbers = rng.integers(0, 10, size)
    if draw(st.booleans()):  # the nearest are those that do not pass
        numbers = np.where(vectors[:, 0] > 0, 9, numbers)
    queries = np.zeros((draw(st.integers(1, 3)), DIM))
    queries[:, :4] = [2, 1, 1, 1]
    return vectors, numbers, queries + rng.integers(0, 2, queries.shape)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it keeps nothing
@given(
    galleries(),
    st.sampled_from(["flat", "exact"]),
    st.sampled_from(["cosine", "ip", "l2"]),
    st.integers(1, 70),
    st.integers(0, 10),
)
def test_equals_a_search_of_what_passes(mean_color, made, index, metric, k, limit):
    vectors, numbers, queries = made
    retriever = gallery(mean_color, vectors, numbers, index=index, metric=metric)
    passing = np.flatnonzero(numbers < limit)
    if metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    expected = exact_search(
        queries.astype(np.float32), [(passing, vectors[passing].astype(np.float32))], k, metric
    )
    found = retriever.search_vectors(queries, k, where={"n": {"$lt": limit}})
    for hits, scores in zip(found, expected.scores, strict=True):
        keys = [int(hit.key) for hit in hits]
        assert len(keys) == len(set(keys)) == min(k, len(passing))
        assert set(keys) <= set(passing.tolist())
        # The same scores: which of equal ones comes first is the affair of the index.
        np.testing.assert_allclose([h.score for h in hits], scores[: len(keys)], atol=1e-5)


class Steps:
    """What a search does, in order."""

    def __init__(self, retriever, monkeypatch):
        self.done = []
        for owner, names in (
            (retriever._gallery.store.catalog, ("passing", "matching")),
            (retriever._gallery.live, ("_search_and_check",)),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, self._told(name, getattr(owner, name)))

    def _told(self, name, method):
        def told(*given):
            self.done.append(name)
            return method(*given)

        return told


@pytest.fixture
def line(mean_color):
    """1000 vectors on an arc, the first next to the query, numbered along it."""
    angles = np.linspace(0, 1, 1000)
    vectors = np.zeros((1000, DIM))
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    return gallery(mean_color, vectors, range(1000))


QUERY = np.eye(1, DIM)


@pytest.mark.parametrize("where", [{}, {"n": {"$gte": 0}}, {"n": {"$ne": 3}}, {"n": {"$lt": 800}}])
def test_items_are_not_listed_where_most_pass(line, monkeypatch, where):
    steps = Steps(line, monkeypatch)
    for _ in range(2):
        (hits,) = line.search_vectors(QUERY, 10, where=where)
        wanted = [n for n in range(11) if where != {"n": {"$ne": 3}} or n != 3]
        assert [int(hit.key) for hit in hits] == wanted[:10]
    assert steps.done == ["_search_and_check", "passing"] * 2


def test_nothing_is_searched_in_vain_where_few_pass(line, monkeypatch):
    steps = Steps(line, monkeypatch)
    (hits,) = line.search_vectors(QUERY, 3, where={"n": {"$gte": 900}})
    assert [hit.key for hit in hits] == ["900", "901", "902"]
    assert steps.done == ["matching"]


def test_items_are_listed_where_those_that_pass_are_far(line, monkeypatch):
    steps = Steps(line, monkeypatch)
    far = np.eye(1, DIM, 1)  # next to the last
    near, beyond = line.search_vectors(np.vstack([QUERY, far]), 3, where={"n": {"$gte": 300}})
    assert [hit.key for hit in near] == ["300", "301", "302"]
    assert [hit.key for hit in beyond] == ["999", "998", "997"]
    assert steps.done == ["_search_and_check", "passing", "matching"]


def test_shares_are_judged_once_until_something_changes(line):
    catalog = line._gallery.store.catalog
    where, sample = {"n": {"$lt": 300}}, np.arange(200, 400)
    assert catalog.share_matching(where, sample) == pytest.approx(100 / 202)
    asked = []
    catalog._db.set_trace_callback(asked.append)
    assert catalog.share_matching(where, sample[:1]) == pytest.approx(100 / 202)
    assert asked == ["PRAGMA data_version"]
    line.update("200", metadata={"n": 500})
    assert catalog.share_matching(where, sample) == pytest.approx(99 / 202)
    for limit in range(200):
        catalog.share_matching({"n": {"$lt": limit}}, sample)
    assert len(catalog._matcher._shares) <= 64


def test_queries_are_what_a_search_takes(line):
    every = {"n": {"$gte": 0}}
    assert line.search_vectors(np.zeros((0, DIM)), 3, where=every) == []
    (hits,) = line.search_vectors(QUERY.tolist(), 3, where=every)
    assert [hit.key for hit in hits] == ["0", "1", "2"]
    with pytest.raises(InvalidInputError, match="k: expected"):
        line.search_vectors(QUERY, 0, where=every)


# -- what is remembered of filters ---------------------------------------------------------------


class Where(dict):
    """A dictionary that does not tell all by its repr."""

    def __repr__(self):
        return f"<Where of {len(self)}>"


class Name(str):
    __slots__ = ()

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


@pytest.fixture
def typed():
    catalog = Catalog()
    values = [1, True, 1.0, "1", "True", 0, False, None]
    many = [Item(f"k{n}", label=str(n), metadata={"v": v}) for n, v in enumerate(values)]
    catalog.add(many, [0] * len(many))
    yield catalog
    catalog.close()


def test_a_filter_with_a_repr_of_its_own_is_not_taken_for_another(typed):
    for n in range(8):
        assert typed.matching(Where(label=str(n))).tolist() == [n]
        assert typed.matching({"$or": [Where(label=str(n))]}).tolist() == [n]
        assert typed.matching({"label": {"$in": [Name(n), "-"]}}).tolist() == [n]


def test_values_that_are_equal_are_not_taken_for_each_other(typed):
    for _ in range(2):
        assert typed.matching({"v": 1}).tolist() == [0, 2]
        assert typed.matching({"v": True}).tolist() == [1]
        assert typed.matching({"v": 1.0}).tolist() == [0, 2]
        assert typed.matching({"v": "1"}).tolist() == [3]
        assert typed.matching({"v": {"$in": [1]}}).tolist() == [0, 2]
        assert typed.matching({"v": {"$in": [True]}}).tolist() == [1]
        assert typed.matching({"v": {"$in": [0, False]}}).tolist() == [5, 6]
        assert typed.matching({"v": {"$in": [False]}}).tolist() == [6]


def test_a_filter_that_is_changed_is_another(typed):
    where = {"label": {"$in": ["1"]}}
    assert typed.matching(where).tolist() == [1]
    where["label"]["$in"].append("2")
    assert typed.matching(where).tolist() == [1, 2]


def test_a_name_that_is_not_text_is_refused_after_its_twin(typed):
    typed.matching({"v": {"$exists": True}})
    with closing(Catalog()) as catalog:
        catalog.add([Item("k", metadata={"1": "a"})], [0])
        assert catalog.matching({"1": "a"}).tolist() == [0]
        with pytest.raises(InvalidInputError, match="expected a field"):
            catalog.matching({1: "a"})


def test_a_filter_of_thousands_of_levels_is_refused_by_name(typed):
    where = {"label": "1"}
    for _ in range(5000):
        where = {"$and": [where]}
    with pytest.raises(InvalidInputError, match="at most 16 levels"):
        typed.matching(where)
