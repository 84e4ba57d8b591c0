"""Load on ``imgret serve``: requests a second, the 95th percentile, and the embedder's ceiling.

    python benchmarks/serve.py PHOTOS [--clients 64] [--seconds 60] [--embedder general]

Clients search with images that all differ (crops of the photos, more than the server remembers).
Each sends the next one when the last is answered. The ceiling is what the embedder alone does with
the same images, decoded beforehand, in as many threads as there are cores; it is measured before
and after. The second ceiling embeds them in batches of 4, as the server does under load, and the
third decodes and crops the uploads as well, which no server can leave out.

Clients run on the same computer as the server, in one thread of a process of their own, and take
their share of it. Rates depend on what else the computer does; the processor time of an image in
the ceilings, and of a request in the server and in the clients, does so much less.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from results import save

from imgret import Retriever, images
from imgret.types import Image

_UPLOADS = 1500  # more than the server remembers
_SIDE = 320
_HITS = 10
_BATCH = 4


def uploads(folder: Path) -> list[Image]:
    """Return images that all differ: crops of photos."""
    rng = np.random.default_rng(0)
    files = sorted(path for path in folder.rglob("*.jpg"))
    made: list[Image] = []
    for path in cycle(files):
        image = images.thumbnail(images.load(path), _SIDE)
        height, width = image.shape[:2]
        top, left = rng.integers(0, [height // 6 + 1, width // 6 + 1])
        made.append(np.ascontiguousarray(image[top : top + height * 5 // 6, left:]))
        if len(made) == _UPLOADS:
            return made
    raise SystemExit(f"{folder}: expected .jpg files, found none")


class Rate(NamedTuple):
    """Calls a second, and the milliseconds of processor time that each takes."""

    per_second: float
    cpu_ms: float


def ceiling(call: Callable[[Any], object], given: list[Any], seconds: float) -> Rate:
    """Return how often a function can be called, in as many threads as there are cores."""
    turn, stop = cycle(given), time.monotonic() + seconds
    lock = threading.Lock()

    def work() -> int:
        done = 0
        while time.monotonic() < stop:
            with lock:
                each = next(turn)
            call(each)
            done += 1
        return done

    cores = os.cpu_count() or 1
    started, before = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(cores) as pool:
        done = sum(pool.map(lambda _: work(), range(cores)))
    spent = time.process_time() - before
    return Rate(done / (time.monotonic() - started), spent / done * 1000)


class _Client:
    """A connection that is kept, with one request at a time on it."""

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests

    def ask(self) -> None:
        self._answer, self._started = b"", time.monotonic()
        self.socket.sendall(next(self._requests))

    def receive(self) -> tuple[float, bool] | None:
        """Read on; return the seconds and whether there are all hits once the answer is whole."""
        part = self.socket.recv(2**16)
        self._answer += part
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if part and not end:
            return None
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if part and len(body) < int(length):
            return None
        is_good = head.startswith(b"HTTP/1.1 200") and body.count(b'"rank":') == _HITS
        return time.monotonic() - self._started, is_good


class Load(NamedTuple):
    """Seconds of each request, the number of failed ones, and the clients' own processor time."""

    taken: list[float]
    failed: int
    seconds: float
    cpu_ms: float


def load(port: int, bodies: list[bytes], clients: int, seconds: float) -> Load:
    """Search as several clients at once."""
    head = "POST /api/search?limit={} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\n\r\n"
    turn = cycle([head.format(_HITS, port, len(body)).encode() + body for body in bodies])
    taken, failed = list[float](), 0
    started, before = time.monotonic(), time.process_time()
    with selectors.DefaultSelector() as waiting:
        for _ in range(clients):
            client = _Client(port, turn)
            waiting.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
        while waiting.get_map():
            for key, _ in waiting.select(60):
                client = key.data
                if (answer := client.receive()) is None:
                    continue
                taken.append(answer[0])
                failed += not answer[1]
                if time.monotonic() < started + seconds:
                    client.ask()
                else:
                    waiting.unregister(client.socket)
                    client.socket.close()
    spent = time.process_time() - before
    return Load(taken, failed, time.monotonic() - started, spent / len(taken) * 1000)


def cpu_seconds(pid: int) -> float:
    """Return the processor time of another process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--embedder", default="general")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "photos.imgret"
        with Retriever.open(gallery, "a", embedder=given.embedder) as retriever:
            retriever.add_folder(given.photos, labels="parent", progress=None)
        arrays = uploads(given.photos)
        bodies = [images.encode(image) for image in arrays]

        def ceilings() -> tuple[Rate, Rate, Rate]:
            batches = [arrays[n : n + _BATCH] for n in range(0, _UPLOADS, _BATCH)]
            with Retriever.open(gallery) as retriever:
                embed = retriever.embedder.embed
                together = ceiling(
                    lambda batch: embed(batch, batch_size=_BATCH), batches, given.seconds / 6
                )
                return (
                    ceiling(lambda image: embed([image]), arrays, given.seconds / 6),
                    Rate(together.per_second * _BATCH, together.cpu_ms / _BATCH),
                    ceiling(
                        lambda body: retriever.embed([body], threads=1), bodies, given.seconds / 6
                    ),
                )

        before = ceilings()
        command = [sys.executable, "-m", "imgret", "serve", str(gallery), "--port", "0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603  # ours
        assert server.stderr is not None  # noqa: S101  # a pipe, as asked
        address = next(line for line in server.stderr if "http://" in line)
        port = int(address.split("127.0.0.1:")[1].split("/")[0])
        context = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(1, mp_context=context) as elsewhere:
                # The first requests load the model.
                alone = elsewhere.submit(load, port, bodies, 1, max(2, given.seconds / 12)).result()
                spent = cpu_seconds(server.pid)
                found = elsewhere.submit(load, port, bodies, given.clients, given.seconds).result()
                spent = cpu_seconds(server.pid) - spent
        finally:
            server.terminate()
            server.wait(30)
        after = ceilings()
    embedding, batched, decoding = (
        Rate(*np.mean([first, second], axis=0).tolist())
        for first, second in zip(before, after, strict=True)
    )
    rate, cpu = len(found.taken) / found.seconds, spent / len(found.taken) * 1000
    rows = [
        {
            "clients": given.clients,
            "requests": len(found.taken),
            "failed": found.failed,
            "requests_per_second": round(rate, 1),
            "p50_ms": round(float(np.percentile(found.taken, 50)) * 1000),
            "p95_ms": round(float(np.percentile(found.taken, 95)) * 1000),
            "p50_ms_of_one_client": round(float(np.percentile(alone.taken, 50)) * 1000, 1),
            "ceiling": round(embedding.per_second, 1),
            "share_of_the_ceiling": round(rate / embedding.per_second, 3),
            "ceiling_in_batches": round(batched.per_second, 1),
            "share_of_that": round(rate / batched.per_second, 3),
            "ceiling_with_decoding": round(decoding.per_second, 1),
            "share_with_decoding": round(rate / decoding.per_second, 3),
        }
    ]
    costs = [
        {"what": "an image, embedded", "cpu_ms": round(embedding.cpu_ms, 2)},
        {"what": "an image, embedded in batches", "cpu_ms": round(batched.cpu_ms, 2)},
        {"what": "an upload, decoded, cropped and embedded", "cpu_ms": round(decoding.cpu_ms, 2)},
        {"what": "a request, in the server", "cpu_ms": round(cpu, 2)},
        {"what": "a request, in the client", "cpu_ms": round(found.cpu_ms, 2)},
    ]
    save(given.out, "serve", rows, title="imgret serve under load")
    save(given.out, "serve-costs", costs, title="processor time")


if __name__ == "__main__":
    main()
