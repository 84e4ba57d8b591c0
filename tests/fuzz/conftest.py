"""How much of this folder runs."""

import os

import pytest


@pytest.fixture(scope="session")
def times():
    """Number of times: in the short form, and in the long one (nox -s attack)."""
    return lambda short, long: long if os.environ.get("IMGRET_ATTACK") == "long" else short
