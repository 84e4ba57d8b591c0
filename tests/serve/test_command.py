"""``imgret serve``, as a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest


@pytest.fixture
def start():
    """Start the command; return the process, the address in its log, and the log up to there."""
    running = []

    def build(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "imgret", "serve", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        running.append(process)
        log = []
        for line in process.stderr:
            log.append(line)
            if found := re.search(r"http://\S+", line):
                return process, found[0].rstrip('",}'), log
        return process, None, log

    yield build
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_it_serves_until_it_is_interrupted(start, gallery):
    process, address, (line,) = start(gallery, "--port", "0", "--json", "--token", "auto")
    assert json.loads(line)["level"] == "info"
    assert json.loads(line)["message"].startswith(f"serving {gallery} at {address}")
    with httpx.Client() as client:
        assert client.get(address, follow_redirects=True).status_code == 200  # sets the cookie
        found = client.get(httpx.URL(address).join("/api/items").copy_with(query=None)).json()
    assert found["items"]
    process.send_signal(signal.SIGINT)
    log = process.communicate(timeout=30)[1]
    assert process.returncode == 0
    assert [json.loads(each)["message"] for each in log.splitlines()] == ["stopped"]


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_it_may_be_interrupted_as_soon_as_its_address_is_shown(start, gallery):
    process, _, _ = start(gallery, "--port", "0")
    process.send_signal(signal.SIGINT)
    log = process.communicate(timeout=30)[1]
    assert (process.returncode, log) == (0, "INFO stopped\n")


def test_what_the_library_does_is_shown_with_v(start, gallery):
    _, address, log = start(gallery, "--port", "0", "-v")
    assert address is not None
    assert any("opened" in line for line in log[:-1])
    assert log[-1].startswith("INFO serving")


def test_headers_have_an_end(start, gallery):
    _, address, _ = start(gallery, "--port", "0", "--json")
    url = httpx.URL(address)
    with socket.create_connection((url.host, url.port), 30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        connection.sendall(b"".join(b"a: " + b"b" * 1000 + b"\r\n" for _ in range(80)))
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")
    many = {f"x-{n}": "y" * 1000 for n in range(30)}
    body = b"x" * 10**6  # no image, and more than a head may have
    with httpx.Client() as client:
        for data in (body, iter([body[:10], body[10:]])):  # with its length, and in chunks
            answer = client.post(url.join("/api/search"), content=data, headers=many)
            assert answer.status_code == 422


def test_a_port_that_is_taken(gallery):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_port = taken.getsockname()[1]
        process = subprocess.run(
            [sys.executable, "-m", "imgret", "serve", str(gallery), "--port", str(taken_port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert process.returncode == 1
    assert "choose another --port" in process.stderr
    assert "Traceback" not in process.stderr
