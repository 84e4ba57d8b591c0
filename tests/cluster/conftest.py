"""A real Ray cluster of two CPUs on this machine."""

import gc
import os
import warnings

import pytest


@pytest.fixture(scope="session")
def cluster():
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
