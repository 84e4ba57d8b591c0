"""Galleries in the PostgreSQL of `tests/conftest.py`."""

import itertools

import pytest

_numbers = itertools.count()


@pytest.fixture
def pg_uri(postgres):
    """URI of a gallery that does not exist yet."""
    return f"{postgres.uri}&schema=g{next(_numbers)}"
