"""The contract, on a real PostgreSQL with pgvector."""

import itertools

import numpy as np
import pytest

psycopg = pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'imgret[postgres]'")

from hypothesis import settings  # noqa: E402  # after the check

from imgret.errors import InvalidInputError  # noqa: E402
from imgret.galleries.postgres import PostgresGallery  # noqa: E402
from imgret.testing import GalleryMachine, GalleryTests  # noqa: E402
from imgret.testing.galleries import new_spec  # noqa: E402
from imgret.types import Item, Part  # noqa: E402

_numbers = itertools.count()
_server = []


@pytest.fixture(autouse=True, scope="module")
def _started(postgres):
    _server[:] = [postgres.uri]


def _new_uri():
    return f"{_server[0]}&schema=c{next(_numbers)}"


class TestPostgres(GalleryTests):
    kind = PostgresGallery

    def new_uri(self, folder):
        return _new_uri()


class TestPostgresGraph(TestPostgres):
    """The same with a graph, whose answers are completed where it comes short."""

    def create(self, uri, spec):
        return super().create(uri, spec.with_(index=Part("hnsw", {"M": 4, "ef_search": 10})))


class PostgresMachine(GalleryMachine):
    kind = PostgresGallery
    metric = "cosine"

    def new_uri(self, folder):
        return _new_uri()


TestPostgresMachine = PostgresMachine.TestCase
TestPostgresMachine.settings = settings(max_examples=10, stateful_step_count=25, deadline=None)


class GraphMachine(PostgresMachine):
    metric = "l2"

    def create(self, uri, spec):
        return super().create(uri, spec.with_(index=Part("hnsw", {"M": 2, "ef_search": 4})))


TestGraphMachine = GraphMachine.TestCase
TestGraphMachine.settings = settings(max_examples=10, stateful_step_count=25, deadline=None)


def test_an_invalid_item_far_down_leaves_nothing(pg_uri):
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=2))
    vectors = np.ones((2000, 2), np.float32)
    items = [Item(f"{n}") for n in range(2000)]
    for odd in (Item("a\0"), Item("a" * 2601), Item([]), Item("7"), Item("a", metadata={"a": {1}})):
        with pytest.raises(InvalidInputError):  # the first rows are sent already
            gallery.add([*items[:-1], odd], vectors)
        assert len(gallery) == 0
    gallery.add(items, vectors)
    assert len(gallery) == 2000
    gallery.close()
