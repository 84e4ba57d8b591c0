"""Photos as cameras take them: ``add_folder`` beside what decoders alone reach.

    python tools/draw_photos.py PHOTOS
    python benchmarks/photos.py PHOTOS [--rounds 5]

PHOTOS has a subfolder for each kind. Every contender works on all cores, with files already in
memory, and all take turns; a row has the medians. "At 1/8" is the least that a decoder of JPEG can
do: OpenCV's libjpeg-turbo, that of simplejpeg, and libvips (`thumbnail`, which shrinks as it
loads). "decode" is `imgret.images.decode` as the pipeline calls it, and "network" the embedder
alone on prepared images. Nobody who decodes and embeds on the same cores is faster than "both".
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from results import save

from imgret import Retriever, images
from imgret.embedders import OnnxEmbedder
from imgret.pipeline.embed import worker_count

_SIDE = 256
_EIGHTH = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_8


def decoders(kind: str) -> dict[str, Callable[[bytes], object]]:
    """Return functions that decode a file at the least scale they can."""
    found: dict[str, Callable[[bytes], object]] = {}
    if not kind.startswith("heic"):
        found["opencv"] = lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), _EIGHTH)
    if kind.startswith("jpeg") and find_spec("simplejpeg"):
        import simplejpeg  # noqa: PLC0415  # of those who measure

        found["simplejpeg"] = lambda data: simplejpeg.decode_jpeg(data, min_factor=8)
    if find_spec("pyvips"):
        import pyvips  # noqa: PLC0415  # of those who measure

        def vips(data: bytes) -> object:
            return pyvips.Image.thumbnail_buffer(data, _SIDE, height=_SIDE, crop="centre").numpy()

        if kind.startswith(("jpeg", "png")):
            found["libvips"] = vips
    return found


def rate(work: Callable[[Any], object], given: Sequence[Any]) -> float:
    """Return how many a second all cores work off."""
    started = time.perf_counter()
    with ThreadPoolExecutor(worker_count()) as pool:
        for _ in pool.map(work, given):  # none is kept: decoded photos take 72 MB each
            pass
    return len(given) / (time.perf_counter() - started)


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Return the medians for one kind of photo, in images a second."""
    paths = sorted(folder.iterdir())
    files = [path.read_bytes() for path in paths]
    embedder = OnnxEmbedder("general")
    prepare = embedder._model.preprocess.prepare  # noqa: SLF001  # the ceiling
    run, output = embedder._model.session.run, embedder._model.output  # noqa: SLF001  # as above
    prepared = [prepare([images.decode(data, min_side=_SIDE).image]) for data in files]
    tasks: dict[str, Callable[[], float]] = {
        name: lambda work=work: rate(work, files)  # type: ignore[misc]  # bound now
        for name, work in decoders(folder.name).items()
    }
    tasks["decode"] = lambda: rate(lambda data: images.decode(data, min_side=_SIDE), files)
    tasks["network"] = lambda: rate(lambda batch: run(batch, output), prepared)

    def add() -> float:
        retriever = Retriever(embedder=embedder)
        started = time.perf_counter()
        retriever.add_folder(folder, progress=False)
        return len(paths) / (time.perf_counter() - started)

    tasks["add_folder"] = add
    seen: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            value = task()
            if turn:  # the first round warms up
                seen[name].append(value)
    row: dict[str, Any] = {name: statistics.median(values) for name, values in seen.items()}
    best = max(row[name] for name in (*decoders(folder.name), "decode"))
    row["both"] = 1 / (1 / best + 1 / row["network"])
    row["of decoding alone"] = row["add_folder"] / best
    row["of both"] = row["add_folder"] / row["both"]
    return {"photos": folder.name, "MB each": sum(map(len, files)) / len(files) / 2**20, **row}


def main() -> None:
    """Print a table for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for folder in sorted(path for path in options.photos.iterdir() if path.is_dir()):
        row = measure(folder, options.rounds)
        save(options.out, f"photos-{folder.name}", [row], title=f"{folder.name}, images a second")


if __name__ == "__main__":
    main()
