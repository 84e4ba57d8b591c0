"""Images per second of Ray with two workers, beside two plain processes.

    python benchmarks/cluster.py FOLDER... [--images 20000] [--rounds 4]

The images of the folders are repeated under other names until there are enough. In each round, both
embed the same images with the pipeline of imgret, in two processes of one thread each; which goes
first alternates, so that a machine whose speed drifts affects both alike. Starting processes, Ray
and models is not counted. Neither writes a gallery, so that the embedding alone is compared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from imgret import Retriever
from imgret.cluster.pipeline import RayPipeline
from imgret.ingest.folder import find_images
from imgret.pipeline.embed import Source, embed_sources

# Images after which both workers have made their models, and the clock starts.
WARM_UP = 10 * 32
# Images that two workers have begun or finished by then, and not handed on.
UNDER_WAY = 2 * 32


def sources_of(paths: list[Path]) -> list[Source]:
    """Return the sources of some files, as an ingest makes them."""
    return [Source(str(number), path, path) for number, path in enumerate(paths)]


def plain(paths: list[Path], ready: Any, go: Any) -> None:
    """Embed images in a process of their own, once all processes are ready."""
    retriever = Retriever()
    embedder, cropper = retriever.embedder, retriever.cropper
    list(embed_sources(sources_of(paths[:8]), embedder, cropper, threads=1))
    ready.put(True)
    go.wait()
    ready.put(sum(map(len, embed_sources(sources_of(paths), embedder, cropper, threads=1))))


def measure_plain(paths: list[Path]) -> float:
    """Return the images per second of two processes."""
    context = multiprocessing.get_context("spawn")
    ready, go = context.Queue(), context.Event()
    halves = [paths[0::2], paths[1::2]]
    processes = [context.Process(target=plain, args=(half, ready, go)) for half in halves]
    for process in processes:
        process.start()
    for _ in processes:
        ready.get()
    started = time.perf_counter()
    go.set()
    done: int = sum(ready.get() for _ in processes)
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    return done / seconds


def measure_ray(paths: list[Path]) -> float:
    """Return the images per second of two workers, once both have started."""
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    runner = RayPipeline(Retriever()._pipeline)  # noqa: SLF001  # what add_folder uses
    started, before, done = 0.0, 0, 0
    for outcomes in runner.run(sources_of(paths), threads=2):
        done += len(outcomes)
        if not started and done >= WARM_UP:
            started, before = time.perf_counter(), done
    seconds = time.perf_counter() - started
    ray.shutdown()
    return (done - before - UNDER_WAY) / seconds  # to count those would favour Ray


def linked(images: list[Path], n: int, folder: Path) -> list[Path]:
    """Return n files: those given, under other names."""
    paths = []
    for number, image in zip(range(n), itertools.cycle(images), strict=False):
        path = folder / f"{number:07d}{image.suffix}"
        path.symlink_to(image)
        paths.append(path)
    return paths


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    if arguments.images // arguments.rounds < 2 * WARM_UP:
        parser.error(f"expected at least {2 * WARM_UP} images for each round")
    found = [image for each in arguments.folder for image in find_images(each.absolute())[0]]
    rates: dict[str, list[float]] = {"plain": [], "ray": []}
    with tempfile.TemporaryDirectory() as folder:
        paths = linked(found, arguments.images, Path(folder))
        for number in range(arguments.rounds):
            some = paths[number :: arguments.rounds]
            measures = [("plain", measure_plain), ("ray", measure_ray)]
            for name, measure in measures[:: -1 if number % 2 else 1]:
                rates[name].append(measure(some))
            print({name: round(values[-1], 1) for name, values in rates.items()}, flush=True)
    # Of all images: each round has as many.
    here, there = (len(values) / sum(1 / rate for rate in values) for values in rates.values())
    facts = {"images": len(paths), "plain": here, "ray": there, "ratio": there / here}
    print(json.dumps(facts))
    print(f"plain {here:.1f} images/s, ray {there:.1f} images/s, ratio {there / here:.2f}")


if __name__ == "__main__":
    main()
