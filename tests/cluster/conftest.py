"""A real Ray cluster of two CPUs on this machine."""

import gc
import os
import signal
import warnings
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def services(tmp_path_factory):
    """The folder in which the machines of the cluster look for options of services."""
    folder = tmp_path_factory.mktemp("services")
    os.environ["FSSPEC_CONFIG_DIR"] = str(folder)  # before the cluster starts
    yield folder
    del os.environ["FSSPEC_CONFIG_DIR"]


@pytest.fixture(scope="session")
def cluster(services):
    """The cluster; its address, by which other processes join it."""
    ray = pytest.importorskip("ray", reason="Ray: pip install 'imgret[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=10**8,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
    with warnings.catch_warnings():  # it leaves files to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        del ray
        gc.collect()


@pytest.fixture
def short(monkeypatch):
    """Runs of four images, so that there are several."""
    from imgret.cluster import pipeline

    monkeypatch.setattr(pipeline, "_RUN", 4)


class Killer:
    """A progress bar that kills a worker of this process's cluster at the first images."""

    def __init__(self):
        self.killed = []

    def __call__(self, done, total):
        if done and not self.killed:
            self.killed.extend(_workers())
            os.kill(self.killed[0], signal.SIGKILL)


@pytest.fixture
def killer():
    if not Path("/proc/self/stat").exists():
        pytest.skip("finds processes in /proc")
    return Killer()


def _workers():
    """Process ids of the actors."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if not (place / "cmdline").read_bytes().startswith(b"ray::Worker"):
                continue
            raylet = (place / "stat").read_text().rsplit(")", 1)[1].split()[1]
            parent = Path(f"/proc/{raylet}/stat").read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue
        if int(parent) == os.getpid():
            found.append(int(place.name))
    return found
