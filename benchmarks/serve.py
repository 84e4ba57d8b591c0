"""Load on ``imgret serve``: requests a second, the 95th percentile, and the embedder's ceiling.

    python benchmarks/serve.py PHOTOS [--clients 64] [--seconds 60] [--embedder general]

Clients search with images that all differ (crops of the photos, more than the server remembers).
Each sends the next one when the last is answered. The ceiling is what the embedder alone does with
the same images, decoded beforehand, in as many threads as there are cores; it is measured before
and after. Clients run on the same computer as the server, and take their share of it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import numpy as np
from results import save

from imgret import Retriever, images
from imgret.types import Image

_UPLOADS = 1500  # more than the server remembers
_SIDE = 320


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


def ceiling(retriever: Retriever, given: list[Image], seconds: float) -> float:
    """Return the images a second that the embedder alone embeds."""
    embed = retriever.embedder.embed
    turn, stop = cycle(given), time.monotonic() + seconds
    lock = threading.Lock()

    def work() -> int:
        done = 0
        while time.monotonic() < stop:
            with lock:
                image = next(turn)
            embed([image])
            done += 1
        return done

    cores = os.cpu_count() or 1
    started = time.monotonic()
    with ThreadPoolExecutor(cores) as pool:
        done = sum(pool.map(lambda _: work(), range(cores)))
    return done / (time.monotonic() - started)


def load(port: int, bodies: list[bytes], clients: int, seconds: float) -> tuple[list[float], int]:
    """Return the seconds of each request, and the number of failed ones."""
    stop = time.monotonic() + seconds
    turn, lock = cycle(bodies), threading.Lock()

    def work() -> tuple[list[float], int]:
        taken, failed = [], 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < stop:
            with lock:
                body = next(turn)
            started = time.monotonic()
            connection.request("POST", "/api/search?limit=10", body)
            answer = connection.getresponse()
            found = json.loads(answer.read())
            taken.append(time.monotonic() - started)
            failed += answer.status != 200 or len(found["hits"]) != 10
        connection.close()
        return taken, failed

    with ThreadPoolExecutor(clients) as pool:
        parts = list(pool.map(lambda _: work(), range(clients)))
    return [each for part in parts for each in part[0]], sum(part[1] for part in parts)


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
            before = ceiling(retriever, arrays, given.seconds / 6)
        command = [sys.executable, "-m", "imgret", "serve", str(gallery), "--port", "0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603  # ours
        assert server.stderr is not None  # noqa: S101  # a pipe, as asked
        address = next(line for line in server.stderr if "http://" in line)
        port = int(address.split("127.0.0.1:")[1].split("/")[0])
        try:
            load(port, bodies[:64], 4, 2)  # the first requests load the model
            taken, failed = load(port, bodies, given.clients, given.seconds)
        finally:
            server.terminate()
            server.wait(30)
        with Retriever.open(gallery) as retriever:
            after = ceiling(retriever, arrays, given.seconds / 6)
    rate, most = len(taken) / given.seconds, (before + after) / 2
    found = {
        "clients": given.clients,
        "requests": len(taken),
        "failed": failed,
        "requests_per_second": round(rate, 1),
        "p50_ms": round(float(np.percentile(taken, 50)) * 1000),
        "p95_ms": round(float(np.percentile(taken, 95)) * 1000),
        "ceiling_before": round(before, 1),
        "ceiling_after": round(after, 1),
        "share_of_the_ceiling": round(rate / most, 3),
    }
    save(given.out, "serve", [found], title="imgret serve under load")


if __name__ == "__main__":
    main()
