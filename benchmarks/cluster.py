"""Images per second of Ray with two workers, beside two plain processes.

``python benchmarks/cluster.py FOLDER --images 2000`` takes the images of a folder, repeated under
other names until there are enough. Both embed the same images with the pipeline of imgret, in two
processes of one thread each; starting processes, Ray and models is not counted.
Neither writes a gallery, so that the embedding alone is compared.
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

# Images of a run for each of two workers.
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
    """Return the images per second of two workers, from the first outcome on."""
    retriever = Retriever()
    runner = RayPipeline(retriever._pipeline)  # noqa: SLF001  # what add_folder uses
    first, done = 0.0, 0
    for outcomes in runner.run(sources_of(paths), threads=2):
        if not first:  # the workers have started, and made their models
            first = time.perf_counter()
            continue
        done += len(outcomes)
    done -= UNDER_WAY  # by then; to count them would favour Ray
    return done / (time.perf_counter() - first)


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
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    arguments = parser.parse_args()
    found, _ = find_images(arguments.folder.absolute())
    with tempfile.TemporaryDirectory() as folder:
        paths = linked(found, arguments.images, Path(folder))
        here = measure_plain(paths)
        ray.init(
            "local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        there = measure_ray(paths)
        ray.shutdown()
    facts = {"images": len(paths), "plain": here, "ray": there, "ratio": there / here}
    print(json.dumps(facts))
    print(f"plain {here:.1f} images/s, ray {there:.1f} images/s, ratio {there / here:.2f}")


if __name__ == "__main__":
    main()
