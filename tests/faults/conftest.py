"""How much of this folder runs, and its programs."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # corrupt.py

pytest.importorskip("resource", reason="memory is limited by a module of Unix")


@pytest.fixture(scope="session")
def times():
    """Number of times: in the short form, and in the long one (nox -s attack)."""
    return lambda short, long: long if os.environ.get("IMGRET_ATTACK") == "long" else short
