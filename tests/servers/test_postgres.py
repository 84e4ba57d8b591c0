"""The contract, on a real PostgreSQL with pgvector."""

import itertools

import pytest

psycopg = pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'imgret[postgres]'")

from hypothesis import settings  # noqa: E402  # after the check

from imgret.galleries.postgres import PostgresGallery  # noqa: E402
from imgret.testing import GalleryMachine, GalleryTests  # noqa: E402
from imgret.types import Part  # noqa: E402

_numbers = itertools.count()
_server = []


@pytest.fixture(autouse=True, scope="module")
def _started(postgres):
    _server[:] = [postgres.get_uri()]


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
