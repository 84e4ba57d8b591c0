"""The harness of this folder, and how much of it runs."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # harness.py and script.py, also for its processes

from harness import Runner, compiled

# The long form takes minutes: nox -s attack.
IS_LONG = os.environ.get("IMGRET_ATTACK") == "long"


@pytest.fixture(scope="session")
def runner(tmp_path_factory):
    shim = compiled(tmp_path_factory.mktemp("shim"))
    if shim is None:
        pytest.skip("system calls are counted by a C library: needs Linux and a C compiler (cc)")
    with Runner(shim) as running:
        yield running


@pytest.fixture
def scratch(tmp_path):
    """A folder in memory if the system has one: no sync is waited for, in a third of the time."""
    memory = Path("/dev/shm")  # noqa: S108  # a folder of its own is made below
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(dir=memory, prefix="imgret-crash-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def times():
    """Number of times: in the short form, and in the long one."""
    return lambda short, long: long if IS_LONG else short
