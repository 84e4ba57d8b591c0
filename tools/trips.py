"""Count the files of imgret that a call passes through: `python tools/trips.py`.

Warm calls are traced with `sys.setprofile`, and only imgret's own files count. A reader who follows
a call has to open that many files.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

import imgret
from imgret import Retriever
from imgret.demo import samples
from imgret.types import Image

_ROOT = str(Path(imgret.__file__).parent)
_REPEATS = 200


class Trip(NamedTuple):
    """Counts of one call."""

    calls: int
    functions: int
    files: Counter[str]
    moves: int


def follow(call: Callable[[], Any]) -> Trip:
    """Run a call, and count what it passes through in this thread and in threads it starts."""
    seen: list[tuple[str, str]] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_ROOT):
            seen.append((frame.f_code.co_filename[len(_ROOT) + 1 :], frame.f_code.co_qualname))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    files = Counter(file for file, _ in seen)
    moves = sum(a[0] != b[0] for a, b in pairwise(seen))
    return Trip(len(seen), len(set(seen)), files, moves)


def microseconds(call: Callable[[], Any]) -> float:
    """Return the median time of a call, in microseconds."""
    taken = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1e6


def _different(folder: Path, image: Image, count: int) -> list[str]:
    """Write files that differ in a pixel, as known images would not be embedded again."""
    paths = []
    for n in range(count):
        image = image.copy()
        image[0, 0] = n % 256
        paths.append(str(folder / f"{n}.png"))
        Path(paths[-1]).write_bytes(imgret.images.encode(image, "png"))
    return paths


def main() -> None:
    """Print a row per call, and with ``-v`` its files."""
    with tempfile.TemporaryDirectory() as folder:
        paths = samples.write_gallery(folder, per_species=4)
        retriever = Retriever()
        retriever.add(paths, labels=[Path(path).parent.name for path in paths])
        image = str(paths[0])
        vector = retriever.embeddings()[:1]
        new = iter(_different(Path(folder), imgret.images.load(image), _REPEATS + 3))
        trips: dict[str, Callable[[], Any]] = {
            "search(image)": lambda: retriever.search(image, k=5),
            "search(image, where=)": lambda: retriever.search(
                image, k=5, where={"label": {"$ne": "rose"}}
            ),
            "search_vectors": lambda: retriever.search_vectors(vector, k=5),
            "add(one image)": lambda: retriever.add(next(new)),
        }
        print(f"{'call':<24}{'files':>6}{'functions':>11}{'calls':>7}{'moves':>7}{'us':>9}")
        for name, call in trips.items():
            call()
            call()
            trip = follow(call)
            print(
                f"{name:<24}{len(trip.files):>6}{trip.functions:>11}{trip.calls:>7}"
                f"{trip.moves:>7}{microseconds(call):>9.0f}"
            )
            if "-v" in sys.argv:
                print("".join(f"    {n:>4} {file}\n" for file, n in sorted(trip.files.items())))


if __name__ == "__main__":
    main()
