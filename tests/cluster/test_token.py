"""A cluster that asks for a token: what is said without it, and with a wrong one."""

import os
import random
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest

pytest.importorskip("ray", reason="Ray: pip install 'imgret[ray]'")

import grpc  # after the check

from imgret import Retriever  # the same
from imgret.errors import InvalidInputError

RIGHT, WRONG = "7f1c" * 8, "a9b3" * 8
# In a process of its own, as Ray reads the variables once.
ADD = """
import sys
from imgret import Retriever
from imgret.errors import ClusterError
retriever = Retriever()
try:
    print(len(retriever.add_folder("photos", on=sys.argv[1], progress=False).ok), "added")
except ClusterError as error:
    print(error)
"""


def _free_port():
    """Return a port that nobody else takes meanwhile.

    Systems give those above 32767 to whoever asks for any, such as the parts of Ray that start
    before the one that is to listen here, and Ray gives those below 20000 to its workers.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_768)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The address of a cluster that asks for a token."""
    printed = tmp_path_factory.mktemp("ray") / "printed"
    port = _free_port()
    plain = {name: text for name, text in os.environ.items() if not name.startswith("RAY_AUTH")}
    start = "start --head --block --num-cpus=1 --include-dashboard=false"
    ports = (f"--port={_free_port()}", f"--ray-client-server-port={port}")
    with printed.open("wb") as file:
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *start.split(), *ports],
            env={**plain, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": RIGHT},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + 90
    often = [("grpc.max_reconnect_backoff_ms", 500)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", often) as channel:
        answers = grpc.channel_ready_future(channel)
        while not answers.done():
            assert head.poll() is None, printed.read_text()
            assert time.monotonic() < deadline, printed.read_text()
            with suppress(grpc.FutureTimeoutError):
                answers.result(0.2)
    yield f"ray://127.0.0.1:{port}"
    head.terminate()
    head.wait(60)


@pytest.mark.parametrize("token", [None, WRONG, RIGHT])
def test_the_token(guarded, photos, token):
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith("RAY_A")
    } | {"HOME": str(photos.parent)}  # where no token is
    if token is not None:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    if token == WRONG:  # the right one has Ray's own time to be answered by a busy machine
        environment["RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S"] = "1"
        environment["RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S"] = "1"
    ended = subprocess.run(
        [sys.executable, "-c", ADD, guarded],
        cwd=photos.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    if token == RIGHT:
        assert ended.stdout == "12 added\n"
    else:
        assert ended.stdout.startswith(f"{guarded}: the cluster asks for a token, and that of")
        assert "RAY_AUTH_TOKEN" in ended.stdout
    for secret in (RIGHT, WRONG):
        assert secret not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "address", [f"ray://{RIGHT}@host:10001", f"ray://:{RIGHT}@host", f"ray://host?token={RIGHT}"]
)
def test_a_token_in_the_address(photos, address):
    with pytest.raises(InvalidInputError, match="RAY_AUTH_TOKEN") as raised:
        Retriever().add_folder(photos, on=address)
    assert RIGHT not in str(raised.value)
