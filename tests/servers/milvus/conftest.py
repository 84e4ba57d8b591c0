"""Milvus Lite in a folder of the tests, and a real server where one can be started.

The server is version 2.3.5 of Milvus standalone, which a package brings along. It binds all
addresses of the machine, so it is only started where there are none but those of a network
namespace::

    pip install --no-deps milvus
    unshare --net --map-root-user sh -c "ip link set lo up && pytest tests/servers/milvus"
"""

import gc
import itertools
import os
import shutil
import signal
import socket
import tempfile
import time
import urllib.request
import warnings
from pathlib import Path

import pytest

_numbers = itertools.count()


class Lite:
    """Milvus Lite: one database for all tests, with a collection for each."""

    def __init__(self, folder):
        self.file = Path(folder) / "all.db"

    def new_uri(self):
        return f"milvus://{self.file}?collection=c{next(_numbers)}"


class Standalone:
    """A server that can be killed and started again."""

    def __init__(self, folder):
        import milvus

        config = milvus.MilvusServerConfig(data_dir=str(folder))
        self.made = []
        # A read after a write waits for the first, and a new collection for the others.
        for option in ("proxy.timeTickInterval", "queryCoord.checkInterval"):
            config.set(option, 20)
        config.set("queryCoord.distPullInterval", 20)
        self.server = milvus.MilvusServer(config, wait_for_started=False)
        self.start()

    def start(self):
        """Start it, and again if it ends: after a kill it may look for its parts at old ports."""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # it tries ports, leaves sockets
                self.server.start()
                gc.collect()
            while self.server.server_proc.poll() is None and time.monotonic() < until:
                if self._is_healthy():
                    time.sleep(1)
                    return
                time.sleep(0.1)
            self.server.stop()
        pytest.fail("Milvus standalone: did not start within two minutes; see logs in its folder")

    def _is_healthy(self):
        address = f"http://127.0.0.1:{self.server.webservice_port}/healthz"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return b"OK" in answer.read()
        except OSError:
            return False

    def kill(self):
        os.kill(self.server.server_proc.pid, signal.SIGKILL)
        self.server.server_proc.wait()

    def stop(self):
        self.server.stop()

    def new_uri(self):
        self.made.append(f"c{next(_numbers)}")
        return f"milvus://127.0.0.1:{self.server.listen_port}/{self.made[-1]}"

    def drop(self):
        """Drop what tests made, as each loaded collection slows the server down."""
        from pymilvus import MilvusClient

        client = MilvusClient(f"http://127.0.0.1:{self.server.listen_port}")
        for name in self.made:
            client.drop_collection(name)
            client.drop_collection(f"{name}_imgret")
        self.made.clear()
        client.close()


@pytest.fixture(scope="session")
def lite():
    pytest.importorskip("milvus_lite", reason="Milvus Lite: pip install 'imgret[milvus-lite]'")
    with tempfile.TemporaryDirectory(prefix="imgret-milvus-") as folder:
        yield Lite(folder)


@pytest.fixture(scope="session")
def standalone():
    if {name for _, name in socket.if_nameindex()} != {"lo"}:
        pytest.skip(
            "Milvus standalone: it binds all addresses; run in a network namespace of its own: "
            'unshare --net --map-root-user sh -c "ip link set lo up && pytest tests/servers/milvus"'
        )
    pytest.importorskip("milvus", reason="Milvus standalone: pip install --no-deps milvus")
    # The folder stays, as its programs take half a minute to unpack; the data does not.
    folder = Path(tempfile.gettempdir()) / f"imgret-milvus-standalone-{os.getuid()}"
    shutil.rmtree(folder / "data", ignore_errors=True)
    server = Standalone(folder)
    yield server
    server.stop()


@pytest.fixture(params=["lite", "standalone"])
def engine(request):
    """Milvus Lite, and the server."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def uri(engine):
    """URI of a gallery that does not exist yet."""
    return engine.new_uri()
